//! From bytes to a typed command: strict JSON, no duplicate keys, unknown fields refused by name, secrets unsealed,
//! and error texts that name fields but never repeat values.

use std::fmt;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::domain::access::ActorName;
use crate::domain::email_address::{email_key, username_key};
use crate::domain::rejection::{Code, Rejection};
use crate::keys::KeyRing;

pub use crate::world::UserName;

/// Largest body that is read, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// What every body may hold beside the command's own fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `actor`.
    pub actor: Option<ActorName>,
    /// `context`.
    pub client: Client,
}

/// `context`: what the upstream app knows of the person's device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `ip`, `user_agent`, `locale`")]
#[schemars(rename = "Context")]
pub struct Client {
    /// The address that the request came from, IPv4 or IPv6.
    #[schemars(with = "Option<String>")]
    pub ip: Option<std::net::IpAddr>,
    /// The browser.
    pub user_agent: Option<Text<1024>>,
    /// The language of the page, BCP 47: of mails that the person asks for, if their profile names none.
    pub locale: Option<Locale>,
}

/// Why a body is not a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// Where and what, without any value of the body.
    pub detail: String,
}

/// Takes a body apart.
///
/// # Errors
/// [`Unreadable`] with the place and the reason.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let text = std::str::from_utf8(body)
        .map_err(|e| Unreadable { detail: format!("the body is not UTF-8 (byte {})", e.valid_up_to()) })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value
        .map_err(|e| Unreadable { detail: format!("the body is not JSON: {}", without_values(&e.to_string())) })?
    {
        Value::Object(map) => Ok(map),
        _ => Err(Unreadable { detail: "the body is not a JSON object".to_owned() }),
    }
}

/// Splits `actor` and `context` off a body.
///
/// # Errors
/// [`Unreadable`] when they are not what they should be.
pub fn envelope(fields: &mut Map<String, Value>) -> Result<Envelope, Unreadable> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, expecting = "an object with `id`")]
    struct Named {
        id: UserId,
    }
    let actor = match fields.remove("actor") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) if word == "system" => Some(ActorName::System),
        Some(value @ Value::Object(_)) => Some(ActorName::Id(typed::<Named>("actor", value)?.id.0)),
        Some(_) => return Err(Unreadable { detail: "`actor` must be {\"id\": …} or \"system\"".to_owned() }),
    };
    let client = match fields.remove("context") {
        None | Some(Value::Null) => Client::default(),
        Some(value @ Value::Object(_)) => typed("context", value)?,
        Some(_) => return Err(Unreadable { detail: "`context` must be an object".to_owned() }),
    };
    Ok(Envelope { actor, client })
}

/// Opens sealed secrets in place: any of `sealable` that is sealed and can be opened, also if another cannot. Of those in `secrets`
/// one that is not sealed is refused, if sealing is required.
///
/// # Errors
/// `sealed_required`, `sealed_invalid`: of the first field that is wrong.
pub fn unseal(
    fields: &mut Map<String, Value>,
    sealable: &[&str],
    secrets: &[&str],
    keys: &KeyRing,
    require_sealed: bool,
) -> Result<(), Rejection> {
    let mut result = Ok(());
    for name in sealable {
        let Some(value) = fields.get_mut(*name) else { continue };
        result = result.and(unseal_one(name, value, secrets.contains(name), keys, require_sealed));
    }
    result
}

/// Opens one. Without a star it is left as it is if it cannot be opened: the command does not know it, or takes it plainly, and the
/// reader of the body says so.
fn unseal_one(
    name: &str,
    value: &mut Value,
    starred: bool,
    keys: &KeyRing,
    require_sealed: bool,
) -> Result<(), Rejection> {
    let Value::Object(sealed) = &*value else {
        if require_sealed && starred && value.is_string() {
            return Err(Rejection::new(
                Code::SealedRequired,
                format!("`{name}` must be sealed to the key that `daemon.info` tells (secrets.require_sealed is set)"),
            ));
        }
        return Ok(());
    };
    let invalid = |why: &str| Rejection::new(Code::SealedInvalid, format!("`{name}` cannot be opened: {why}"));
    let text = |key| sealed.get(key).and_then(Value::as_str);
    let (Some(boxed), Some(key_id), 2) = (text("sealed"), text("key_id"), sealed.len()) else {
        if !starred {
            return Ok(());
        }
        return Err(invalid("a sealed secret is {\"sealed\": \"<base64>\", \"key_id\": \"…\"}"));
    };
    let plain = match keys.unseal(key_id, boxed) {
        Ok(plain) => plain,
        Err(_) if !starred => return Ok(()),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    // Refused in plain bodies, too.
    if plain.expose_secret().contains('\0') {
        return Err(invalid("its content holds a NUL character"));
    }
    *value = Value::String(plain.expose_secret().to_owned());
    Ok(())
}

/// Reads a command's own fields.
///
/// # Errors
/// [`Unreadable`] with the field's path.
pub fn fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Unreadable> {
    typed("", Value::Object(fields))
}

/// For a field that may be left out and then has a value all the same: `null` is as good as leaving it out, as it is for an
/// `Option`. With `#[serde(default, deserialize_with = "or_default")]`, and a schema that allows it.
///
/// # Errors
/// As the type's own.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn typed<T: DeserializeOwned>(prefix: &str, value: Value) -> Result<T, Unreadable> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let path = match (prefix, path.as_str()) {
            (prefix, ".") => prefix.to_owned(),
            ("", path) => path.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        let reason = without_values(&e.inner().to_string());
        let detail = if path.is_empty() { reason } else { format!("`{path}`: {reason}") };
        Unreadable { detail }
    })
}

/// serde's messages quote the offending value, which may be a password in the wrong place: keep its kind only.
fn without_values(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(kind) {
            let what = rest.split([' ', ',']).next().unwrap_or("value");
            let what = if what == "floating" { "number" } else { what };
            let expected = rest.rfind(", expected ").map_or("", |at| &rest[at..]);
            return format!("{kind}{what}{expected}");
        }
    }
    if message.starts_with("unknown variant ") {
        let expected = message.rfind(", expected ").map_or("", |at| &message[at..]);
        return format!("unknown value{expected}");
    }
    message.chars().take(500).collect()
}

/// Builds a [`Value`] but refuses what a reader could understand in two ways: duplicate keys; and NUL, which no
/// PostgreSQL text can hold.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        self.visit_string(v.to_owned())
    }
    fn visit_string<E: de::Error>(self, v: String) -> Result<Value, E> {
        if v.contains('\0') {
            return Err(E::custom("a string holds a NUL character"));
        }
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.contains('\0') {
                return Err(de::Error::custom("a field name holds a NUL character"));
            }
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "duplicate field `{}`",
                    key.chars().take(64).collect::<String>()
                )));
            }
            let value = entries.next_value_seed(Strict)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A text of 1 to `MAX` characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text<const MAX: usize>(pub String);

impl<const MAX: usize> Text<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(String::deserialize(deserializer)?, MAX).map(Self)
    }
}

fn checked<E: de::Error>(text: String, most: usize) -> Result<String, E> {
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(E::custom(format_args!("must have 1 to {most} characters, has {length}")));
    }
    if text.chars().any(char::is_control) {
        return Err(E::custom("must not hold control characters"));
    }
    Ok(text)
}

/// An email address or a username, as somebody typed or pasted it: what stands around it, a line break too, does not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name<const MAX: usize>(String);

impl<const MAX: usize> Name<MAX> {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Name<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        checked(text.trim().to_owned(), MAX).map(Self)
    }
}

/// Reads a struct from an object only: what serde derives would take an array of its fields as well.
struct FromObject<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Upstream's id of a person.
pub type UserId = Text<128>;

/// A language tag (BCP 47), checked for shape only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale(pub String);

impl<'de> Deserialize<'de> for Locale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tag = String::deserialize(deserializer)?.replace('_', "-");
        let sound = tag.len() <= 35
            && tag
                .split('-')
                .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
            && tag.split('-').next().is_some_and(|language| (2..=3).contains(&language.len()));
        if sound { Ok(Self(tag)) } else { Err(de::Error::custom("must be a language tag like `en` or `fr-CA`")) }
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object with one of `id`, `username`, `email`")]
        struct Forms {
            id: Option<UserId>,
            username: Option<Name<320>>,
            email: Option<Name<320>>,
        }
        match Forms::deserialize(FromObject(deserializer))? {
            Forms { id: Some(id), username: None, email: None } => Ok(Self::Id(id.0)),
            Forms { id: None, username: Some(name), email: None } => Ok(Self::Username(username_key(&name.0))),
            Forms { id: None, username: None, email: Some(email) } => Ok(Self::Email(email_key(&email.0))),
            _ => Err(de::Error::custom("must name a person by exactly one of `id`, `username`, `email`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde only")]
    struct Sample {
        user: UserName,
        new_password: Option<secrecy::SecretString>,
        count: Option<u8>,
    }

    fn refusal(body: &str) -> String {
        match object(body.as_bytes()) {
            Err(e) => e.detail,
            Ok(map) => fields::<Sample>(map).unwrap_err().detail,
        }
    }

    #[test]
    fn refusals_name_the_field_and_never_the_value() {
        for (body, said) in [
            ("{not json", "the body is not JSON: key must be a string at line 1 column 2"),
            ("[]", "the body is not a JSON object"),
            (
                r#"{"user": {"id": "a"}, "usr": 1}"#,
                "`usr`: unknown field `usr`, expected one of `user`, `new_password`, `count`",
            ),
            (
                r#"{"user": {"id": "a"}, "user": {"id": "b"}}"#,
                "the body is not JSON: duplicate field `user` at line 1 column 28",
            ),
            (
                r#"{"user": {"id": "a\u0000"}}"#,
                "the body is not JSON: a string holds a NUL character at line 1 column 25",
            ),
            (
                r#"{"user": "hunter2"}"#,
                "`user`: invalid type: string, expected an object with one of `id`, `username`, `email`",
            ),
            (
                r#"{"user": {"id": "a"}, "new_password": 12345}"#,
                "`new_password`: invalid type: integer, expected a string",
            ),
            (r#"{"user": {"id": "a"}, "count": 4711}"#, "`count`: invalid value: integer, expected u8"),
            (
                r#"{"user": {"id": "a", "email": "b"}}"#,
                "`user`: must name a person by exactly one of `id`, `username`, `email`",
            ),
            (r#"{"user": {"id": ""}}"#, "`user.id`: must have 1 to 128 characters, has 0"),
            (r#"{"user": {"id": "a\nb"}}"#, "`user.id`: must not hold control characters"),
            (r#"{"user": {"id": "ab\n"}}"#, "`user.id`: must not hold control characters"),
            (r#"{"user": {"email": "a\nb"}}"#, "`user.email`: must not hold control characters"),
            (r#"{"user": {"username": " \n"}}"#, "`user.username`: must have 1 to 320 characters, has 0"),
            (
                r#"{"user": ["a", null, null]}"#,
                "`user`: invalid type: sequence, expected an object with one of `id`, `username`, `email`",
            ),
            ("{}", "missing field `user`"),
        ] {
            assert_eq!(refusal(body), said, "{body}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let body = format!("{{\"a\": {}", "[".repeat(50_000));
        assert!(object(body.as_bytes()).unwrap_err().detail.contains("recursion limit"));
    }

    #[test]
    fn names_are_compared_in_their_common_form() {
        for email in
            [" ADA@Example.COM ", "Ada@example.com\n", "\tada@example.com\r\n", "\u{a0}ada@EXAMPLE.com\u{3000}"]
        {
            let name: UserName = serde_json::from_value(serde_json::json!({ "email": email })).unwrap();
            assert_eq!(name, UserName::Email("ada@example.com".into()));
        }
    }

    #[test]
    fn a_context_is_an_object() {
        let mut map = object(br#"{"context": ["192.0.2.1", null, null]}"#).unwrap();
        assert_eq!(envelope(&mut map).unwrap_err().detail, "`context` must be an object");
    }

    #[test]
    fn actors_are_named_or_the_system() {
        let mut map = object(br#"{"actor": {"id": "root"}, "context": {"ip": "::1", "locale": "fr_CA"}}"#).unwrap();
        let envelope = envelope(&mut map).unwrap();
        assert_eq!(envelope.actor, Some(ActorName::Id("root".into())));
        assert_eq!(envelope.client.locale, Some(Locale("fr-CA".into())));
        assert!(map.is_empty());
    }
}
