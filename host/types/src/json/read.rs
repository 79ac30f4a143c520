//! JSON reader that writes the compact form while it reads, and refuses a name that occurs twice.

use std::{fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::tag;

/// The compact form so far.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// Reading failed because of a name that occurs twice.
    pub(super) has_duplicate: bool,
}

/// Writes the members of an object, without the tag of an object.
pub(super) struct MembersVisitor<'w>(pub(super) &'w mut Writer);

/// Writes a value of any kind.
struct ValueSeed<'w>(&'w mut Writer);

/// Writes a name.
struct NameSeed<'w>(&'w mut Writer);

// === impl Writer ===

impl Writer {
    fn scalar(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }

    fn text<E: Error>(&mut self, text: &str) -> Result<(), E> {
        match u8::try_from(text.len()) {
            Ok(short) if short < tag::NULL => self.bytes.push(short),
            _ => {
                let length = u32::try_from(text.len()).map_err(|_| too_large())?;
                self.bytes.push(tag::TEXT);
                self.bytes.extend_from_slice(&length.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Writes a list or an object, whose content `write` writes.
    fn nested<E: Error>(
        &mut self,
        tag: u8,
        write: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.bytes.push(tag);
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let begin = self.bytes.len();
        write(self)?;
        let length = self.bytes.len().saturating_sub(begin);
        let length = u32::try_from(length).map_err(|_| too_large())?;
        if let Some(place) = self.bytes.get_mut(length_at..begin) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }

    /// Whether two of these names are the same. Sorted first, because the sender of a token chooses
    /// how many there are.
    fn have_duplicate(&self, names: &mut [Range<usize>]) -> bool {
        let text = |name: &Range<usize>| self.bytes.get(name.clone());
        names.sort_unstable_by(|one, other| text(one).cmp(&text(other)));
        names.iter().zip(names.iter().skip(1)).any(|(one, next)| text(one) == text(next))
    }
}

fn too_large<E: Error>() -> E {
    E::custom("it is too large")
}

// === impl MembersVisitor ===

impl<'de> Visitor<'de> for MembersVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object in which no name occurs twice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let writer = self.0;
        let mut names = Vec::new();
        loop {
            let begin = writer.bytes.len();
            if members.next_key_seed(NameSeed(&mut *writer))?.is_none() {
                break;
            }
            names.push(begin..writer.bytes.len());
            members.next_value_seed(ValueSeed(&mut *writer))?;
        }
        writer.has_duplicate = writer.have_duplicate(&mut names);
        if writer.has_duplicate { Err(A::Error::custom("a name occurs twice")) } else { Ok(()) }
    }
}

// === impl NameSeed ===

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.0.text(name)
    }
}

// === impl ValueSeed ===

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.scalar(tag::NULL, &[]);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.scalar(if value { tag::TRUE } else { tag::FALSE }, &[]);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match u32::try_from(number) {
            Ok(small) => self.0.scalar(tag::SMALL, &small.to_le_bytes()),
            Err(_) => self.0.scalar(tag::UNSIGNED, &number.to_le_bytes()),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.0.scalar(tag::SIGNED, &number.to_le_bytes());
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.scalar(tag::FLOAT, &number.to_le_bytes());
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.nested(tag::LIST, |writer| {
            while items.next_element_seed(ValueSeed(&mut *writer))?.is_some() {}
            Ok(())
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.0.nested(tag::OBJECT, |writer| MembersVisitor(writer).visit_map(members))
    }
}
