//! What there is to say, gathered from commands, events and errors. Everything is in the contract's order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::commands::{self, Lane, SECRET_FIELDS, Spec};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::events::document::{self as events, EventDoc};

use super::schemas::{Schemas, inline_what_is_used_once};

/// Everything that the documents say.
pub struct Contract {
    /// Every command, area by area.
    pub commands: Vec<CommandDoc>,
    /// Every event.
    pub events: Vec<EventSchema>,
    /// Types that are used more than once, by name.
    pub components: BTreeMap<String, Value>,
}

/// A command.
pub struct CommandDoc {
    /// Its row in the list.
    pub spec: &'static Spec,
    /// Where it belongs.
    pub area: Area,
    /// The body's schema.
    pub body: Value,
    /// The schema of `result`.
    pub answer: Value,
    /// A body.
    pub example: Value,
    /// What that body may be answered in `result`.
    pub example_answer: Value,
}

/// An event.
pub struct EventSchema {
    /// What it says of itself.
    pub doc: &'static EventDoc,
    /// The schema of the whole event.
    pub envelope: Value,
    /// One, as it is published.
    pub example: Value,
}

/// What commands are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// `user.*`.
    Profiles,
    /// `password.*`.
    Passwords,
    /// `invite.*`, `email.verification.*`.
    Invitations,
    /// `email.*`.
    Mail,
    /// `session.*`.
    Sessions,
    /// `history.*`.
    Histories,
    /// `daemon.*`.
    Daemon,
}

impl Area {
    /// Every area.
    pub const ALL: [Self; 7] =
        [Self::Profiles, Self::Passwords, Self::Invitations, Self::Mail, Self::Sessions, Self::Histories, Self::Daemon];

    /// Of a command, by its name.
    pub fn of(command: &str) -> Self {
        match command.split('.').next().unwrap_or_default() {
            "user" => Self::Profiles,
            "password" => Self::Passwords,
            "invite" => Self::Invitations,
            "email" if command.starts_with("email.verification.") => Self::Invitations,
            "email" => Self::Mail,
            "session" => Self::Sessions,
            "history" => Self::Histories,
            _ => Self::Daemon,
        }
    }

    /// A heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Profiles => "Profiles",
            Self::Passwords => "Passwords",
            Self::Invitations => "Invitations and verification",
            Self::Mail => "Mail",
            Self::Sessions => "Sessions",
            Self::Histories => "Histories",
            Self::Daemon => "The daemon",
        }
    }

    /// A sentence below the heading.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Profiles => "Who there is. Your app owns profiles and puts them here; regrant owns the credentials.",
            Self::Passwords => "Forgotten, changed, set and temporary passwords.",
            Self::Invitations => "A first password by mail, and the proof that an address is the person's own.",
            Self::Mail => "What was sent: again, to whom it bounced, and why it did not come.",
            Self::Sessions => "Signing in and out, and ending the sessions of others.",
            Self::Histories => "What happened to a person, newest first, page by page.",
            Self::Daemon => "What a publisher must know of the daemon itself.",
        }
    }
}

impl Contract {
    /// Gathers everything.
    pub fn gather() -> Self {
        let mut schemas = Schemas::new();
        let mut all: Vec<CommandDoc> = commands::ALL.iter().map(|spec| CommandDoc::of(spec, &mut schemas)).collect();
        // Stable: within an area, as they are listed.
        all.sort_by_key(|command| command.area);
        let mut events: Vec<EventSchema> =
            events::EVENTS.iter().map(|doc| EventSchema::of(doc, &mut schemas)).collect();
        let mut components = schemas.components();
        let bodies = all.iter_mut().flat_map(|command| [&mut command.body, &mut command.answer]);
        let mut whole: Vec<&mut Value> = bodies.chain(events.iter_mut().map(|event| &mut event.envelope)).collect();
        inline_what_is_used_once(&mut whole, &mut components);
        Self { commands: all, events, components }
    }

    /// What a schema refers to, or the schema itself.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let target =
            schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(super::schemas::COMPONENTS));
        target.and_then(|name| self.components.get(name)).unwrap_or(schema)
    }
}

impl CommandDoc {
    fn of(spec: &'static Spec, schemas: &mut Schemas) -> Self {
        let read = |json: &str| serde_json::from_str(json).unwrap_or(Value::Null);
        Self {
            spec,
            area: Area::of(spec.name),
            body: schemas.body(spec.reference.body),
            answer: schemas.answer(spec.reference.answer),
            example: read(spec.reference.doc.example),
            example_answer: read(spec.reference.doc.answer),
        }
    }

    /// The routing key.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Whether it only reads.
    pub fn is_query(&self) -> bool {
        self.spec.lane == Lane::Queries
    }

    /// Whether a field of the body may be sealed.
    pub fn has_secrets(&self) -> bool {
        SECRET_FIELDS.iter().any(|name| self.body["properties"].get(name).is_some())
    }

    /// Refusals of its own, in the contract's order.
    pub fn own_errors(&self) -> Vec<Code> {
        let own = self.spec.reference.doc.errors;
        Code::ALL.iter().copied().filter(|code| own.contains(code)).collect()
    }

    /// Refusals that it shares with every command of its kind, in the contract's order.
    pub fn general_errors(&self) -> Vec<Code> {
        let administrative = self.spec.audience != Audience::SelfService;
        let applies = |code: &Code| match code {
            Code::InvalidMessage
            | Code::InvalidBody
            | Code::PublisherNotAllowed
            | Code::ActorRequired
            | Code::Expired
            | Code::Internal => true,
            Code::MessageIdReused => !self.is_query(),
            Code::Forbidden | Code::ForbiddenTarget => administrative,
            Code::SealedRequired => !self.spec.secrets.is_empty(),
            Code::SealedInvalid => self.has_secrets(),
            _ => false,
        };
        Code::ALL.iter().copied().filter(applies).collect()
    }

    /// Every code that it can be answered, in the contract's order.
    pub fn errors(&self) -> Vec<Code> {
        let (own, general) = (self.own_errors(), self.general_errors());
        Code::ALL.iter().copied().filter(|code| own.contains(code) || general.contains(code)).collect()
    }

    /// The reply to the example.
    pub fn example_reply(&self) -> Value {
        json!({ "ok": true, "message_id": EXAMPLE_ID, "result": self.example_answer })
    }
}

impl EventSchema {
    /// The schema of `data`.
    pub fn data(&self) -> &Value {
        &self.envelope["properties"]["data"]
    }

    fn of(doc: &'static EventDoc, schemas: &mut Schemas) -> Self {
        let mut data = schemas.answer(doc.schema);
        let origin = schemas.answer(<events::OriginData as schemars::JsonSchema>::json_schema);
        if let (Some(fields), Some(Value::Object(origin))) = (data.as_object_mut(), origin.get("properties")) {
            fields.remove("description");
            let own = fields.entry("properties").or_insert_with(|| json!({}));
            own.as_object_mut().into_iter().for_each(|own| own.extend(origin.clone()));
        }
        let mut envelope = schemas.answer(<events::Envelope as schemars::JsonSchema>::json_schema);
        if let Some(fields) = envelope.as_object_mut() {
            fields.remove("description");
        }
        envelope["properties"]["type"]["const"] = format!("regrant.{}", doc.name()).into();
        envelope["properties"]["data"] = data;
        if let Some(required) = envelope["required"].as_array_mut() {
            required.push("data".into());
        }
        let example = serde_json::from_str(&doc.published().body).unwrap_or(Value::Null);
        Self { doc, envelope, example }
    }
}

/// The `message_id` of examples.
pub const EXAMPLE_ID: &str = "01a31938-0a00-7f85-b17b-4c9d2e6f0a53";
