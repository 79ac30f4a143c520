//! Protobuf's wire format: walking over the fields of a message without building it.
//!
//! What is read is borrowed, and what is never read (certificates, labels, TLS sessions) is stepped
//! over, so an honest check costs hardly an allocation. Maps are the lists that they are on the
//! wire: nothing is hashed, and a key that comes twice is seen twice instead of hiding its first
//! value. What the numbers of the fields mean is not known here.

use std::str;

use prost::encoding::decode_varint;

/// The fields of a message, in the order in which they came.
pub(super) struct Fields<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// A number of any type but the ones of a fixed length.
    Varint(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    /// A number of a fixed length, which no field that is read has.
    Fixed,
}

/// The bytes are not the message that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable;

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Of a whole message.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn field(&mut self) -> Result<(u64, Value<'a>), Undecodable> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Undecodable)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups are older than any message that Envoy sends.
            _ => return Err(Undecodable),
        };
        match key >> 3 {
            0 => Err(Undecodable),
            number => Ok((number, value)),
        }
    }

    fn varint(&mut self) -> Result<u64, Undecodable> {
        // Nearly all of them have one byte.
        if let Some((byte @ 0..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        decode_varint(&mut self.0).map_err(|_| Undecodable)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecodable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Undecodable)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The number of each field, and what it holds.
impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Undecodable>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Undecodable> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(Undecodable),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Undecodable> {
        str::from_utf8(self.bytes()?).map_err(|_| Undecodable)
    }

    pub(super) fn message(self) -> Result<Fields<'a>, Undecodable> {
        Ok(Fields(self.bytes()?))
    }

    /// A `uint32`; what does not fit is cut off, as protobuf has it.
    pub(super) fn number(self) -> Result<u32, Undecodable> {
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "as protobuf has it")]
            Self::Varint(number) => Ok(number as u32),
            Self::Bytes(_) | Self::Fixed => Err(Undecodable),
        }
    }
}
