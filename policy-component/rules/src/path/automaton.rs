//! Path automaton: matches a path against patterns with wildcards in one pass over its bytes.
//!
//! It is a bit-parallel nondeterministic automaton (the shift-and algorithm, with loops for
//! wildcards). One bit stands for one place in a pattern, and all places are tried at once, so
//! there is no backtracking: a byte costs a handful of instructions per word of places, whatever the
//! patterns and the path are. Clients choose the path, so its cost must not depend on what they
//! choose. Matching reads from an iterator and so cannot read a byte twice. It allocates nothing.

use alloc::{boxed::Box, vec::Vec};

/// A place in a pattern. The first is where a path begins; nothing leads on from the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// What leads to the next place.
    pub(super) next: Next,
    /// What leads to this place again.
    pub(super) again: Again,
    /// Whether the path may end here.
    pub(super) is_end: bool,
}

/// What leads from a place to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This byte.
    Byte(u8),
    /// This letter, in upper or in lower case.
    Letter(u8),
    /// Any byte but a slash.
    NotSlash,
    /// Nothing.
    Never,
}

/// What leads from a place to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing.
    Never,
    /// Any byte but a slash: `*`.
    NotSlash,
    /// Any byte: `**`. A slash leads to the place behind the next one as well, since the segment
    /// that follows `**` begins with it.
    Always,
}

/// An automaton of the size that its patterns need.
#[derive(Debug)]
pub(super) enum Automaton {
    Small(Box<Sized<1>>),
    Medium(Box<Sized<2>>),
    Large(Box<Sized<8>>),
}

/// Up to `64 * W` places.
#[derive(Debug)]
pub(super) struct Sized<const W: usize> {
    /// By the lower half of a byte, and by the upper half: the places that the byte leads on from.
    /// Those in both are meant, so two small tables take the place of one for each byte.
    low: [[u64; W]; 16],
    high: [[u64; W]; 16],
    /// Places that any byte but a slash leads on from.
    not_slash: [u64; W],
    /// Places with [`Again::NotSlash`].
    within: [u64; W],
    /// Places with [`Again::Always`].
    across: [u64; W],
    /// Those of them that have a place behind the next slash.
    inner: [u64; W],
    /// Those of them where the path may end: whatever follows.
    settled: [u64; W],
    /// The first place of each pattern.
    starts: [u64; W],
    /// The places where the path may end, each with the position of its pattern, in that order.
    ends: Vec<(u16, u16)>,
    /// Whether it matters which of the patterns matches.
    is_ordered: bool,
}

// === impl Automaton ===

impl Automaton {
    /// The most places that one pattern can have.
    pub(super) const MAX_PLACES: usize = 64 * 8;
    /// Patterns share an automaton as long as they have no more places than this together.
    pub(super) const SHARED_PLACES: usize = 64 * 2;

    /// Builds the automaton of patterns, each with its position in the list, in order. Together
    /// they have at most [`Self::MAX_PLACES`] places.
    pub(super) fn new(patterns: &[(u16, Vec<Place>)], is_ordered: bool) -> Self {
        match patterns.iter().map(|(_, places)| places.len()).sum() {
            ..=64_usize => Self::Small(Box::new(Sized::new(patterns, is_ordered))),
            65..=128 => Self::Medium(Box::new(Sized::new(patterns, is_ordered))),
            _ => Self::Large(Box::new(Sized::new(patterns, is_ordered))),
        }
    }

    /// The position of a pattern that all of `bytes` match; of the first one if the order matters.
    pub(super) fn find(&self, bytes: impl Iterator<Item = u8>) -> Option<u16> {
        match self {
            Self::Small(automaton) => automaton.find(bytes),
            Self::Medium(automaton) => automaton.find(bytes),
            Self::Large(automaton) => automaton.find(bytes),
        }
    }
}

// === impl Sized ===

impl<const W: usize> Sized<W> {
    fn new(patterns: &[(u16, Vec<Place>)], is_ordered: bool) -> Self {
        let none = [0; W];
        let mut automaton = Self {
            low: [none; 16],
            high: [none; 16],
            not_slash: none,
            within: none,
            across: none,
            inner: none,
            settled: none,
            starts: none,
            ends: Vec::new(),
            is_ordered,
        };
        let mut index = 0;
        for (pattern, places) in patterns {
            automaton.starts[usize::from(index / 64)] |= 1 << (index % 64);
            for place in places {
                if place.is_end {
                    automaton.ends.push((index, *pattern));
                }
                automaton.add(*place, usize::from(index / 64), 1 << (index % 64));
                index += 1;
            }
        }
        automaton
    }

    fn add(&mut self, place: Place, word: usize, bit: u64) {
        match place.next {
            Next::Byte(byte) => self.lead(byte, word, bit),
            Next::Letter(letter) => {
                self.lead(letter.to_ascii_lowercase(), word, bit);
                self.lead(letter.to_ascii_uppercase(), word, bit);
            }
            Next::NotSlash => {
                let rows = self.low.iter_mut().chain(&mut self.high);
                rows.for_each(|row| row[word] |= bit);
                self.not_slash[word] |= bit;
            }
            Next::Never => {}
        }
        match place.again {
            Again::NotSlash => self.within[word] |= bit,
            Again::Always => {
                self.across[word] |= bit;
                let which = if place.is_end { &mut self.settled } else { &mut self.inner };
                which[word] |= bit;
            }
            Again::Never => {}
        }
    }

    /// A letter's two cases share the lower half, so the halves of both name no third byte.
    fn lead(&mut self, byte: u8, word: usize, bit: u64) {
        self.low[usize::from(byte & 15)][word] |= bit;
        self.high[usize::from(byte >> 4)][word] |= bit;
    }

    fn find(&self, bytes: impl Iterator<Item = u8>) -> Option<u16> {
        let mut places = self.starts;
        for byte in bytes {
            self.step(&mut places, byte);
            let (mut live, mut settled) = (0, 0);
            for (places, settles) in places.iter().zip(&self.settled) {
                live |= places;
                settled |= places & settles;
            }
            if live == 0 {
                return None;
            }
            // Nothing that follows changes that one matches, and which one does not matter.
            if settled != 0 && !self.is_ordered {
                break;
            }
        }
        let is_reached = |place: &u16| places[usize::from(place / 64)] & (1 << (place % 64)) != 0;
        self.ends.iter().find(|(place, _)| is_reached(place)).map(|(_, pattern)| *pattern)
    }

    #[inline]
    fn step(&self, places: &mut [u64; W], byte: u8) {
        let low = &self.low[usize::from(byte & 15)];
        let high = &self.high[usize::from(byte >> 4)];
        let mut carry = 0;
        if byte != b'/' {
            for (word, places) in places.iter_mut().enumerate() {
                let on = *places & low[word] & high[word];
                let stay = *places & (self.within[word] | self.across[word]);
                *places = on << 1 | carry | stay;
                carry = on >> 63;
            }
            return;
        }
        for (word, places) in places.iter_mut().enumerate() {
            let on = *places & low[word] & high[word] & !self.not_slash[word];
            *places = on << 1 | carry | *places & self.across[word];
            carry = on >> 63;
        }
        carry = 0;
        for (places, inner) in places.iter_mut().zip(&self.inner) {
            let behind = *places & inner;
            *places |= behind << 1 | carry;
            carry = behind >> 63;
        }
    }
}
