//! What the reference says of a command: its answer, its refusals, its events, an example of each side.
//!
//! The schemas are those of the types that are read and written, so that the reference cannot say anything else.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::domain::rejection::Code;

use super::body::{Locale, Name, Text, UserName};
use super::handle::{self, Handle};

/// What the types do not say.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    /// One sentence: what it is for.
    pub summary: &'static str,
    /// What a caller must know beyond the schemas; may be empty.
    pub description: &'static str,
    /// Refusals of its own, beside those that any command can get.
    pub errors: &'static [Code],
    /// Events that it may cause, beside those of mails.
    pub events: &'static [&'static str],
    /// A body, as JSON.
    pub example: &'static str,
    /// What that body may be answered in `result`, as JSON.
    pub answer: &'static str,
}

/// A command with its part of the reference.
pub trait Documented: JsonSchema {
    /// `result` of the reply.
    type Answer: JsonSchema;
    /// The rest.
    const DOC: Doc;
}

/// A command's part of the reference, in the list of commands.
#[derive(Clone, Copy)]
pub struct Reference {
    /// What the types do not say.
    pub doc: Doc,
    /// The body's own fields.
    pub body: fn(&mut SchemaGenerator) -> Schema,
    /// `result`.
    pub answer: fn(&mut SchemaGenerator) -> Schema,
}

impl Reference {
    /// Of a command.
    pub const fn of<C: Documented>() -> Self {
        Self { doc: C::DOC, body: C::json_schema, answer: C::Answer::json_schema }
    }
}

/// The `oneOf` of a body that takes the fields of exactly one alternative. A field that is `null` counts as one that is left out.
/// A name that ends in `?` is a field that this alternative allows and does not need. For
/// `#[schemars(extend("oneOf" = exactly_one_of(…)))]`.
pub fn exactly_one_of(alternatives: &[&[&'static str]]) -> Value {
    let name = |field: &&'static str| field.trim_end_matches('?');
    let branch = |own: &&[&'static str]| {
        let needed: Vec<&str> = own.iter().copied().filter(|field| !field.ends_with('?')).collect();
        let mut properties = Map::new();
        for field in alternatives.iter().copied().flatten().map(name) {
            if needed.contains(&field) {
                properties.insert(field.to_owned(), json!({ "not": { "type": "null" } }));
            } else if !own.iter().map(name).any(|allowed| allowed == field) {
                properties.insert(field.to_owned(), json!({ "type": "null" }));
            }
        }
        json!({ "required": needed, "properties": properties })
    };
    alternatives.iter().map(branch).collect()
}

/// The schema of a secret field: plain, or sealed to the daemon's key. For `#[schemars(with = "SecretField")]`.
pub struct SecretField;

impl JsonSchema for SecretField {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: plain, or sealed with libsodium's crypto_box_seal to the key that daemon.info tells.",
            "oneOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": {
                        "sealed": { "type": "string", "contentEncoding": "base64" },
                        "key_id": { "type": "string" },
                    },
                    "required": ["sealed", "key_id"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX })
    }
}

impl<const MAX: usize> JsonSchema for Name<MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Name{MAX}").into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Text::<MAX>::json_schema(generator)
    }
}

impl JsonSchema for Handle {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Handle".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": handle::MAX_LENGTH })
    }
}

impl JsonSchema for Locale {
    fn schema_name() -> Cow<'static, str> {
        "Locale".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A language tag (BCP 47), such as `en` or `fr-CA`.",
            "type": "string",
            "maxLength": 35,
            "pattern": "^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$",
        })
    }
}

impl JsonSchema for UserName {
    fn schema_name() -> Cow<'static, str> {
        "UserName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let form = |name: &str, max: usize| {
            json_schema!({
                "type": "object",
                "properties": { name: { "type": "string", "minLength": 1, "maxLength": max } },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A person, by exactly one name. Usernames and emails compare case-insensitively, trimmed, in Unicode NFC; \
                            an email may belong to several profiles.",
            "oneOf": [form("id", 128), form("username", 320), form("email", 320)],
        })
    }
}
