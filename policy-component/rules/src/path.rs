//! Path templates: `/users/{user_id}`, `/files/*/raw`, `/api/**`.
//!
//! They are matched against the canonical path, which is decoded and has no empty or dot segments.
//! A named segment comes before any `**`, so its position is fixed and no path can be read in two
//! ways. Templates of one list that begin with the same text share one pass over the path, whatever
//! they and the path are. Matching allocates nothing.

mod automaton;
mod escape;
mod options;
mod segment;
mod syntax;

use alloc::{boxed::Box, string::String, vec, vec::Vec};

use portcullis_policy::SettingsError;

use self::{
    automaton::{Again, Automaton, Next, Place},
    syntax::{Name, Segment},
};
pub(crate) use self::{
    options::PathOptions,
    segment::{as_sent, unescape},
};
use crate::field::Field;

/// A list of templates, of which one must match.
#[derive(Debug)]
pub(crate) struct PathTemplates {
    list: Vec<PathTemplate>,
    /// Those with wildcards.
    wild: Vec<Wild>,
    /// Whether it matters which one matches.
    is_ordered: bool,
    options: PathOptions,
}

/// One template.
#[derive(Debug)]
pub(crate) struct PathTemplate {
    /// The literal segments that it begins with, each with its slash.
    prefix: Box<str>,
    /// What comes after them.
    tail: Tail,
    /// The named segments.
    names: Vec<Name>,
    options: PathOptions,
}

/// What comes after the literal segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Empty,
    /// `/**`
    Anything,
    /// Segments with wildcards, which an automaton knows.
    Wild,
}

/// Templates that begin with the same literal segments.
#[derive(Debug)]
struct Wild {
    prefix: Box<str>,
    automaton: Automaton,
}

/// A [`Wild`] in the making.
struct Group {
    prefix: Box<str>,
    /// How many places the templates have.
    size: usize,
    /// By their positions in the list.
    templates: Vec<(u16, Vec<Place>)>,
}

// === impl PathTemplates ===

impl PathTemplates {
    /// Compiles the list in `field`.
    pub(crate) fn read(field: &Field<'_>, options: PathOptions) -> Result<Self, SettingsError> {
        let mut list = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for (position, item) in field.items()?.enumerate() {
            let Ok(position) = u16::try_from(position) else {
                return Err(item.refuse("is one too many; write several rules"));
            };
            let (template, places) = PathTemplate::read(&item, options)?;
            if template.tail == Tail::Wild {
                let size = places.len();
                let fits = |group: &&mut Group| {
                    group.prefix == template.prefix && group.size + size <= Automaton::SHARED_PLACES
                };
                if let Some(group) = groups.iter_mut().find(fits) {
                    group.size += size;
                    group.templates.push((position, places));
                } else {
                    let prefix = template.prefix.clone();
                    groups.push(Group { prefix, size, templates: vec![(position, places)] });
                }
            }
            list.push(template);
        }
        let is_ordered = list.iter().any(|template| !template.names.is_empty());
        let compile = |group: Group| Wild {
            prefix: group.prefix,
            automaton: Automaton::new(&group.templates, is_ordered),
        };
        Ok(Self { list, wild: groups.into_iter().map(compile).collect(), is_ordered, options })
    }

    /// The template that the canonical path `path` matches; where they have names, the first one.
    pub(crate) fn find(&self, path: &str) -> Option<&PathTemplate> {
        if path.is_empty() {
            return None;
        }
        let path = self.options.trim(path);
        let mut found = self.list.iter().position(|template| template.is_plain_match(path));
        for Wild { prefix, automaton } in &self.wild {
            if found.is_some() && !self.is_ordered {
                break;
            }
            let Some(rest) = self.options.strip_prefix(path, prefix) else { continue };
            let position = automaton.find(rest.iter().copied()).map(usize::from);
            found = found.into_iter().chain(position).min();
        }
        self.list.get(found?)
    }

    /// Whether every template has a segment called `name`.
    pub(crate) fn all_have(&self, name: &str) -> bool {
        self.list.iter().all(|template| template.position(name).is_some())
    }
}

// === impl PathTemplate ===

impl PathTemplate {
    fn read(field: &Field<'_>, options: PathOptions) -> Result<(Self, Vec<Place>), SettingsError> {
        let (segments, names) = syntax::parse(field, options)?;
        let is_text = |segment: &&Segment<'_>| matches!(segment, Segment::Text(_));
        let (literal, rest) = segments.split_at(segments.iter().take_while(is_text).count());
        let mut prefix = String::new();
        for segment in literal {
            let Segment::Text(text) = segment else { continue };
            prefix.push('/');
            prefix.extend(characters(text).map(Character::itself));
        }
        let tail = match rest {
            [] => Tail::Empty,
            [Segment::Any] => Tail::Anything,
            _ => Tail::Wild,
        };
        let places = places(rest, options);
        if places.len() > Automaton::MAX_PLACES {
            return Err(field.refuse(
                "is too long; shorten what follows its first `*` or `{name}` to 500 characters",
            ));
        }
        Ok((Self { prefix: prefix.into(), tail, names, options }, places))
    }

    /// Whether it matches without an automaton.
    fn is_plain_match(&self, path: &str) -> bool {
        match self.tail {
            Tail::Empty => {
                self.options.strip_prefix(path, &self.prefix).is_some_and(<[u8]>::is_empty)
            }
            Tail::Anything => {
                matches!(self.options.strip_prefix(path, &self.prefix), Some([] | [b'/', ..]))
            }
            Tail::Wild => false,
        }
    }

    /// The text of the segment called `name` in a path that matches.
    pub(crate) fn segment<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        // The first piece is the nothing before the first slash.
        self.options.trim(path).split('/').nth(self.position(name)? + 1)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().find(|(known, _)| **known == *name).map(|(_, position)| *position)
    }
}

/// The places of an automaton for segments.
fn places(segments: &[Segment<'_>], options: PathOptions) -> Vec<Place> {
    let mut places = Places { list: Vec::new(), again: Again::Never };
    let mut after_any = false;
    for segment in segments {
        if matches!(segment, Segment::Any) {
            if !after_any {
                // The path may end before the segments that `**` stands for.
                places.push(Next::Byte(b'/'));
                places.again = Again::Always;
            }
            after_any = true;
            continue;
        }
        // Behind `**` its own loop reads the slash.
        places.push(if after_any { Next::Never } else { Next::Byte(b'/') });
        after_any = false;
        match segment {
            Segment::One => {
                places.push(Next::NotSlash);
                places.again = Again::NotSlash;
            }
            Segment::Text(text) | Segment::Glob(text) => places.push_text(text, options),
            Segment::Any => {}
        }
    }
    places.push(Next::Never);
    let mut list = places.list;
    let mut ends = list.iter_mut().rev();
    if let Some(last) = ends.next() {
        last.is_end = true;
    }
    if after_any && let Some(before) = ends.next() {
        before.is_end = true;
    }
    list
}

/// Places in the making.
struct Places {
    list: Vec<Place>,
    /// How the place that comes next leads to itself.
    again: Again,
}

impl Places {
    fn push(&mut self, next: Next) {
        let again = core::mem::replace(&mut self.again, Again::Never);
        self.list.push(Place { next, again, is_end: false });
    }

    fn push_text(&mut self, text: &str, options: PathOptions) {
        for character in characters(text) {
            let Character::Itself(character) = character else {
                self.again = Again::NotSlash;
                continue;
            };
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let is_letter = options.ignore_case && byte.is_ascii_alphabetic();
                self.push(if is_letter { Next::Letter(byte) } else { Next::Byte(byte) });
            }
        }
    }
}

/// A character of a pattern.
enum Character {
    Star,
    Itself(char),
}

impl Character {
    const fn itself(self) -> char {
        match self {
            Self::Star => '*',
            Self::Itself(character) => character,
        }
    }
}

/// The characters of a segment, without the escapes of those that have a meaning in patterns.
fn characters(text: &str) -> impl Iterator<Item = Character> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let first = rest.chars().next()?;
        if let Some(byte) = escape::special(rest.as_bytes()) {
            rest = &rest[3..];
            return Some(Character::Itself(char::from(byte)));
        }
        rest = &rest[first.len_utf8()..];
        Some(match first {
            '*' => Character::Star,
            character => Character::Itself(character),
        })
    })
}

#[cfg(test)]
mod tests;
