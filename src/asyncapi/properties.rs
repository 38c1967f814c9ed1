//! Properties and headers of messages, which no type describes.

use serde_json::{Value, json};

/// What a publisher sets on a command.
pub fn of_command(is_query: bool) -> Value {
    let message_id = "The idempotency key, scoped to the publisher: a repeated command changes nothing and gets the first \
                      reply again.";
    let message_id = if is_query { "Only told back in the reply: queries are answered afresh." } else { message_id };
    let required = if is_query { json!([]) } else { json!(["message_id"]) };
    json!({
        "type": "object",
        "properties": {
            "message_id": { "type": "string", "minLength": 1, "maxLength": 128, "description": message_id },
            "content_type": { "const": "application/json", "description": "Absent is taken as that." },
            "user_id": {
                "type": "string",
                "description": "The publisher: your broker user, validated by the broker. Without it, the rights of `[publishers.\"*\"]`.",
            },
            "timestamp": {
                "type": "integer",
                "description": "When the person asked, in seconds since 1970. Lifetimes count from it. More than 5 minutes ahead of the daemon's clock is refused.",
            },
            "reply_to": {
                "type": "string",
                "description": "The queue for the reply, such as `amq.rabbitmq.reply-to` (direct reply-to). Without it there is no reply.",
            },
            "correlation_id": { "type": "string", "description": "Told back in the reply." },
            "expiration": {
                "type": "string",
                "pattern": "^[0-9]+$",
                "description": "Milliseconds after which you no longer wait: an expired command is not executed.",
            },
            "delivery_mode": { "enum": [1, 2], "description": "Use 2 (persistent)." },
        },
        "required": required,
    })
}

/// Headers that a publisher may set on a command.
pub fn headers_of_command() -> Value {
    json!({
        "type": "object",
        "properties": {
            "traceparent": {
                "type": "string",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "W3C trace context: carried into logs, events and the record of the sent mail.",
            },
        },
    })
}

/// What the daemon sets on a reply.
pub fn of_reply() -> Value {
    json!({
        "type": "object",
        "properties": {
            "content_type": { "const": "application/json" },
            "correlation_id": { "type": "string", "description": "That of the command." },
            "type": { "type": "string", "description": "The command's name." },
            "app_id": { "const": "regrant" },
            "delivery_mode": { "const": 1 },
        },
        "required": ["content_type", "type"],
    })
}

/// What the daemon sets on an event.
pub fn of_event() -> Value {
    json!({
        "type": "object",
        "properties": {
            "content_type": { "type": "string", "pattern": "^application/cloudevents\\+json", "description": "CloudEvents, structured mode." },
            "app_id": { "const": "regrant" },
            "delivery_mode": { "const": 2, "description": "Persistent." },
        },
        "required": ["content_type", "delivery_mode"],
    })
}

/// Headers of a dead letter.
pub fn headers_of_dead_letter() -> Value {
    json!({
        "type": "object",
        "properties": {
            "x-regrant-reason": { "type": "string", "description": "The error code." },
            "x-regrant-detail": { "type": "string", "description": "What was wrong; no value of the body." },
            "x-regrant-command": { "type": "string", "description": "The routing key that it came with." },
            "x-regrant-failed-at": { "type": "string", "format": "date-time" },
            "x-regrant-attempts": { "type": "integer", "description": "How often it was tried." },
            "x-regrant-redacted": { "const": true, "description": "Its plain secrets were replaced by \"[redacted]\": it cannot be replayed." },
        },
        "required": ["x-regrant-reason", "x-regrant-command", "x-regrant-failed-at"],
    })
}
