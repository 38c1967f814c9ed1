//! Ids that come back from outside: of a session from a cookie store, of a mail from a page of support.

use serde::de::{self, Deserialize, Deserializer};
use uuid::Uuid;

/// The most characters that are taken.
pub const MAX_LENGTH: usize = 128;

/// An id that the daemon gave out, or whatever somebody made of it: that is no malformed command, only nothing has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(Uuid);

impl Handle {
    /// The id; what is none is the nil UUID (RFC 9562, section 5.9), which is never given out.
    pub const fn id(self) -> Uuid {
        self.0
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = text.chars().count();
        if length == 0 || length > MAX_LENGTH {
            return Err(de::Error::custom(format_args!("must have 1 to {MAX_LENGTH} characters, has {length}")));
        }
        Ok(Self(Uuid::parse_str(&text).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_nothings() {
        let read = |text: &str| serde_json::from_value::<Handle>(text.into()).map(Handle::id);
        let id = "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e31";
        assert_eq!(read(id).unwrap().to_string(), id);
        for text in ["nope", "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e3", "\u{1f600}\n", &"x".repeat(128)] {
            assert_eq!(read(text).unwrap(), Uuid::nil(), "{text}");
        }
        for text in ["", &"x".repeat(129)] {
            assert!(read(text).unwrap_err().to_string().contains("must have 1 to 128 characters"));
        }
        assert!(serde_json::from_value::<Handle>(7.into()).is_err());
    }
}
