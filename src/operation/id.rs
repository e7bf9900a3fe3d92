//! The id of an operation: chosen by the client before anything is sent, so that asking twice
//! cannot run a command twice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of an id.
const BYTES: usize = 16;
/// Digits of an id that a person sees: enough to tell the operations of one user apart.
const SHORT_DIGITS: usize = 8;

/// The id of an operation: 16 bytes, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId([u8; BYTES]);

impl OperationId {
    /// A new one, unlike any other.
    pub fn random() -> Self {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        Self(bytes)
    }

    /// The id in the bytes of a message; nothing if there are not 16.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes, for a message.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Its first digits, for a person.
    pub fn short(self) -> String {
        self.to_string()[..SHORT_DIGITS].to_owned()
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an id.
#[derive(Debug, thiserror::Error)]
#[error("an operation's id has 32 lower-case hexadecimal digits")]
pub struct NoId;

impl FromStr for OperationId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * BYTES || !text.bytes().all(is_digit) {
            return Err(NoId);
        }
        let mut bytes = [0; BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NoId)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for OperationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OperationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_after_it_was_written_and_read() {
        let id = OperationId::random();
        assert_eq!(id.to_string().parse::<OperationId>().expect("an id"), id);
        assert_eq!(OperationId::from_bytes(&id.to_vec()), Some(id));
        assert!(id.to_string().starts_with(&id.short()) && id.short().len() == 8);
    }

    #[test]
    fn what_could_be_a_path_or_another_writing_of_an_id_is_none() {
        for text in ["", "..", "00", "../../0123456789abcdef0123456789ab", "é123456789abcdef"] {
            assert!(text.parse::<OperationId>().is_err(), "{text}");
        }
        assert!("0123456789ABCDEF0123456789ABCDEF".parse::<OperationId>().is_err());
        assert!("0123456789abcdef0123456789abcdef".parse::<OperationId>().is_ok());
        assert_eq!(OperationId::from_bytes(b"short"), None);
    }
}
