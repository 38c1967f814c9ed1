//! A command as a publisher makes it, sound or not.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use super::fresh_name;

/// What is published.
#[derive(Debug, Clone)]
pub struct Command {
    /// The routing key.
    pub name: String,
    /// The body.
    pub body: Vec<u8>,
    pub message_id: Option<String>,
    pub content_type: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// Milliseconds, as AMQP wants them.
    pub expiration: Option<String>,
    /// Whether the publisher says who it is.
    pub signed: bool,
    pub headers: FieldTable,
}

impl Command {
    /// A command with everything that it needs.
    #[expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]
    pub fn new(name: &str, body: Value) -> Self {
        Self::raw(name, body.to_string())
    }

    /// One with any bytes as its body.
    pub fn raw(name: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            body: body.into(),
            message_id: Some(fresh_name()),
            content_type: Some("application/json".to_owned()),
            timestamp: Some(now()),
            expiration: None,
            signed: true,
            headers: FieldTable::default(),
        }
    }

    pub fn id(mut self, id: &str) -> Self {
        self.message_id = Some(id.to_owned());
        self
    }

    /// `seconds` from now.
    pub fn asked(mut self, seconds: i64) -> Self {
        self.timestamp = now().checked_add_signed(seconds);
        self
    }

    pub fn expires_after_ms(mut self, milliseconds: u64) -> Self {
        self.expiration = Some(milliseconds.to_string());
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.into(), AMQPValue::LongString(value.as_bytes().into()));
        self
    }

    pub(super) fn properties(&self, user: &str) -> BasicProperties {
        let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(self.headers.clone());
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if let Some(kind) = &self.content_type {
            properties = properties.with_content_type(kind.as_str().into());
        }
        if let Some(seconds) = self.timestamp {
            properties = properties.with_timestamp(seconds);
        }
        if let Some(milliseconds) = &self.expiration {
            properties = properties.with_expiration(milliseconds.as_str().into());
        }
        if self.signed { properties.with_user_id(user.into()) } else { properties }
    }
}

impl<B: Into<Value>> From<(&str, B)> for Command {
    fn from((name, body): (&str, B)) -> Self {
        Self::new(name, body.into())
    }
}

fn now() -> u64 {
    regrant::clock::now().timestamp().unsigned_abs()
}
