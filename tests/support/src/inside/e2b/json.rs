//! The JSON mapping of protocol buffers, as far as envd's messages need it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Whether a field is left out, as all zero values are.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Bytes are base64.
pub(super) mod base64_bytes {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// 64-bit numbers are text.
pub(super) mod text_number {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        number: &i64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&number.to_string())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<i64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Enumerations are names; numbers are understood, too.
macro_rules! names {
    ($name:ident, $type:ty) => {
        pub(super) mod $name {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};

            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Either {
                Number(i32),
                Name(String),
            }

            pub(in super::super) fn serialize<S: Serializer>(
                number: &i32,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                match <$type>::try_from(*number) {
                    Ok(value) => to.serialize_str(value.as_str_name()),
                    Err(_) => to.serialize_i32(*number),
                }
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<i32, D::Error> {
                match Either::deserialize(from)? {
                    Either::Number(number) => Ok(number),
                    Either::Name(name) => match <$type>::from_str_name(&name) {
                        Some(value) => Ok(value.into()),
                        None => Err(D::Error::custom(format!("no such value: {name}"))),
                    },
                }
            }
        }
    };
}

names!(signal, crate::inside::e2b::process_messages::Signal);
names!(file_type, crate::inside::e2b::file_messages::FileType);
names!(event_type, crate::inside::e2b::file_messages::EventType);

/// Times are RFC 3339.
pub(super) mod timestamp {
    use super::*;
    use crate::clock;
    use crate::inside::e2b::file_messages::Timestamp;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&clock::format(time.seconds, time.nanos as u32)),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let time = text.as_deref().and_then(clock::parse);
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(since.map(|since| Timestamp { seconds: since.as_secs() as i64, nanos: 0 }))
    }
}
