//! The types that a key can have: how each is read from TOML or the environment, and shown again.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use chrono_tz::Tz;
use config::{Value, ValueKind};
use lettre::message::Mailbox;

use crate::spelling::nearest;

use super::{duration, layers};

/// A value as it was given.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the environment: a string that stands for any type.
    Environment(&'a str),
    /// A TOML string.
    Text(&'a str),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    List(&'a [Value]),
    /// Something no key takes; what it is.
    Other(&'static str),
}

impl<'a> Raw<'a> {
    /// Looks at a merged value.
    pub(crate) fn of(value: &'a Value) -> Self {
        match &value.kind {
            ValueKind::String(text) if value.origin().is_some_and(layers::is_environment) => Self::Environment(text),
            ValueKind::String(text) => Self::Text(text),
            ValueKind::I128(number) => Self::Integer(*number),
            ValueKind::Boolean(boolean) => Self::Boolean(*boolean),
            ValueKind::Array(items) => Self::List(items),
            ValueKind::Float(_) => Self::Other("a number with a point"),
            ValueKind::Table(_) => Self::Other("a table"),
            _ => Self::Other("nothing"),
        }
    }

    /// The text, if it is one that stands by itself.
    pub(crate) fn text(self) -> Result<&'a str, &'static str> {
        match self {
            Self::Environment(text) | Self::Text(text) => Ok(text),
            Self::Integer(_) => Err("is a number, not a string"),
            Self::Boolean(_) => Err("is a boolean, not a string"),
            Self::List(_) => Err("is a list, not a string"),
            Self::Other(_) => Err("is not a string"),
        }
    }

    /// The value for a message. Never call it for a secret.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Environment(text) | Self::Text(text) => {
                let mut short: String = text.chars().take(80).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                format!("{short:?}")
            }
            Self::Integer(i128::MAX) => "this number".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::List(_) => "this list".to_owned(),
            Self::Other(what) => what.to_owned(),
        }
    }
}

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// The reason and what to write instead, to follow the value in a sentence.
    fn read(raw: Raw<'_>) -> Result<Self, String>;

    /// The value for `config show`; `None` if it is not set.
    fn show(&self) -> Option<toml::Value>;
}

impl Setting for bool {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let read = match raw {
            Raw::Boolean(boolean) => Some(boolean),
            Raw::Environment(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        read.ok_or_else(|| "is not a boolean; write true or false, without quotes".to_owned())
    }

    fn show(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            fn read(raw: Raw<'_>) -> Result<Self, String> {
                let number = match raw {
                    Raw::Integer(number) => Some(number),
                    Raw::Environment(text) => text.trim().parse().ok(),
                    Raw::Text(_) => return Err("is a string; write the number without quotes".to_owned()),
                    _ => None,
                };
                let number = number.ok_or_else(|| "is not a whole number; write one, such as 10".to_owned())?;
                number
                    .try_into()
                    .map_err(|_| format!("is out of range; write a whole number from 0 to {}", Self::MAX))
            }

            fn show(&self) -> Option<toml::Value> {
                Some(i64::try_from(*self).unwrap_or(i64::MAX).into())
            }
        }
    )+};
}

whole_number!(u8, u32, usize);

impl Setting for String {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text().map_err(|reason| format!("{reason}; write it in quotes"))?;
        // No key needs one, and several end up in mail headers and file names.
        if text.chars().any(char::is_control) {
            return Err("holds a control character (a line break?); write it on one line".to_owned());
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.as_str().into())
    }
}

impl Setting for Vec<String> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let list = r#"write a list of strings, such as ["password.reset.*", "session.*"]"#;
        match raw {
            Raw::List(items) => items
                .iter()
                .map(|item| match Raw::of(item) {
                    Raw::Text(text) => Ok(text.to_owned()),
                    other => Err(format!("holds {}, which is not a string; {list}", other.shown())),
                })
                .collect(),
            Raw::Environment(text) if text.trim_start().starts_with('[') => {
                // As in the file, and as in JSON.
                let items = text.trim().parse::<toml::Value>().and_then(toml::Value::try_into);
                items.map_err(|_| format!("is not a list of strings; {list}"))
            }
            Raw::Environment(text) => {
                Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            _ => Err(format!("is not a list; {list}")),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.clone().into())
    }
}

impl Setting for PathBuf {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw.text() {
            Ok("") => Err("is empty; write a path".to_owned()),
            Ok(text) if text.contains('\0') => Err("holds a NUL character; write a path".to_owned()),
            Ok(text) => Ok(text.into()),
            Err(reason) => Err(format!("{reason}; write a path in quotes")),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.display().to_string().into())
    }
}

impl Setting for Duration {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Integer(number @ 0..) => Err(duration::no_unit(number)),
            Raw::Environment(text) | Raw::Text(text) => duration::parse(text),
            _ => {
                Err(r#"is not a duration; write it as a string with a unit, such as "90s", "15m" or "24h""#.to_owned())
            }
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(duration::format(*self).into())
    }
}

impl Setting for SocketAddr {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let form = r#"write an IP address and a port, such as "127.0.0.1:9464" or "[::1]:9464""#;
        let text = raw.text().map_err(|reason| format!("{reason}; {form}"))?;
        text.trim().parse().map_err(|_| format!("is not an address to listen on; {form}"))
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}

impl Setting for Mailbox {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let form = r#"write an address, such as "Example <no-reply@example.com>""#;
        let text = String::read(raw)?;
        text.parse().map_err(|_| format!("is not an email address; {form}"))
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}

impl Setting for Tz {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = String::read(raw)?;
        text.parse().map_err(|_| {
            let name = nearest(&text, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
            match name {
                Some(name) => format!("is not a time zone; did you mean {name:?}?"),
                None => r#"is not a time zone; write a name such as "Europe/Berlin" or "UTC""#.to_owned(),
            }
        })
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.name().into())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            // The only way to take back what the file says.
            Raw::Environment("") => Ok(None),
            _ => T::read(raw).map(Some),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::show)
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($type:ty { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::config::setting::Setting for $type {
            fn read(raw: $crate::config::setting::Raw<'_>) -> Result<Self, String> {
                match raw.text().map(str::trim) {
                    $(Ok($word) => Ok(Self::$variant),)+
                    _ => Err(format!("is not possible here; write {}", [$(concat!("\"", $word, "\"")),+].join(" or "))),
                }
            }

            fn show(&self) -> Option<toml::Value> {
                Some(match self { $(Self::$variant => $word),+ }.into())
            }
        }
    };
}
pub(crate) use words;
