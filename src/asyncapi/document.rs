//! The `AsyncAPI` 3.0 document.

use serde_json::{Map, Value, json};

use crate::domain::access::Audience;
use crate::domain::rejection::Code;

use super::contract::{Area, CommandDoc, Contract, EXAMPLE_ID, EventSchema};
use super::{errors, properties};

/// The version of the bindings for AMQP 0.9.1.
const BINDING: &str = "0.3.0";

/// The whole document, with the names of an unchanged `broker.prefix`.
pub fn document(contract: &Contract) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:regrant",
        "info": info(),
        "defaultContentType": "application/json",
        "servers": { "broker": server() },
        "channels": channels(contract),
        "operations": operations(contract),
        "components": {
            "schemas": &contract.components,
            "messages": messages(contract),
            "messageTraits": traits(),
        },
    })
}

fn info() -> Value {
    let areas = Area::ALL.iter().map(|area| json!({ "name": area.title(), "description": area.about() }));
    let tags: Vec<Value> = areas
        .chain([json!({ "name": "Events", "description": "What happened, for every app that listens." })])
        .collect();
    json!({
        "title": "regrant",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Grants people access to their account again: password resets, invitations, temporary passwords, forced \
                        sign-outs. Publishers send commands to a topic exchange, by name; each is answered where its `reply_to` \
                        says. What happened is published as CloudEvents. All names at the broker start with `broker.prefix`, \
                        which here is `regrant`.",
        "license": { "name": "MIT" },
        "tags": tags,
    })
}

fn server() -> Value {
    json!({
        "host": "{host}",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ. Each publisher is a broker user of its own: what it may send is decided by that name.",
        "variables": { "host": { "default": "localhost:5672", "description": "`broker.url` of the configuration." } },
        "security": [{ "type": "userPassword", "description": "A broker user." }],
    })
}

fn exchange(name: &str) -> Value {
    json!({
        "amqp": {
            "is": "routingKey",
            "exchange": { "name": name, "type": "topic", "durable": true, "autoDelete": false, "vhost": "/" },
            "bindingVersion": BINDING,
        },
    })
}

fn channels(contract: &Contract) -> Value {
    let mut channels = Map::new();
    for command in &contract.commands {
        let name = command.name();
        channels.insert(
            name.to_owned(),
            json!({
                "address": name,
                "title": name,
                "summary": command.spec.reference.doc.summary,
                "servers": [{ "$ref": "#/servers/broker" }],
                "messages": { name: component(name) },
                "tags": [{ "name": command.area.title() }],
                "bindings": exchange("regrant.commands"),
            }),
        );
    }
    let replies = contract.commands.iter().flat_map(|command| [ok_name(command), error_name(command)]);
    let replies: Map<String, Value> = replies.map(|name| (name.clone(), component(&name))).collect();
    channels.insert(
        "replies".to_owned(),
        json!({
            "address": null,
            "title": "Replies",
            "summary": "The queue that the command's `reply_to` names, through the default exchange.",
            "description": "Direct reply-to (`amq.rabbitmq.reply-to`) works, and is the quickest. A reply that cannot be delivered is dropped.",
            "servers": [{ "$ref": "#/servers/broker" }],
            "messages": replies,
            "bindings": {
                "amqp": { "is": "queue", "queue": { "durable": false, "exclusive": true, "autoDelete": true }, "bindingVersion": BINDING },
            },
        }),
    );
    for event in &contract.events {
        let name = event.doc.name();
        channels.insert(
            event_channel(event),
            json!({
                "address": name,
                "title": name,
                "summary": event.doc.description,
                "servers": [{ "$ref": "#/servers/broker" }],
                "messages": { name: component(&event_channel(event)) },
                "tags": [{ "name": "Events" }],
                "bindings": exchange("regrant.events"),
            }),
        );
    }
    channels.insert(
        "dead".to_owned(),
        json!({
            "address": "regrant.dead",
            "title": "Dead letters",
            "summary": "Commands that were not understood, or that failed each time they were tried.",
            "description": "They keep body, properties and routing key. Plain secrets are replaced by `\"[redacted]\"`; sealed ones stay.",
            "servers": [{ "$ref": "#/servers/broker" }],
            "messages": { "dead": component("dead") },
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": { "name": "regrant.dead", "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/" },
                    "bindingVersion": BINDING,
                },
            },
        }),
    );
    channels.into()
}

fn operations(contract: &Contract) -> Value {
    let mut operations = Map::new();
    for command in &contract.commands {
        let name = command.name();
        operations.insert(
            name.to_owned(),
            json!({
                "action": "receive",
                "channel": { "$ref": format!("#/channels/{name}") },
                "summary": command.spec.reference.doc.summary,
                "description": description(command),
                "tags": [{ "name": command.area.title() }],
                "messages": [{ "$ref": format!("#/channels/{name}/messages/{name}") }],
                "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING } },
                "reply": {
                    "address": {
                        "location": "$message.header#/reply_to",
                        "description": "The AMQP property `reply_to`; `amq.rabbitmq.reply-to` for direct reply-to.",
                    },
                    "channel": { "$ref": "#/channels/replies" },
                    "messages": [
                        { "$ref": format!("#/channels/replies/messages/{}", ok_name(command)) },
                        { "$ref": format!("#/channels/replies/messages/{}", error_name(command)) },
                    ],
                },
            }),
        );
    }
    for event in &contract.events {
        let (channel, name) = (event_channel(event), event.doc.name());
        operations.insert(
            channel.clone(),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{channel}") },
                "summary": event.doc.description,
                "tags": [{ "name": "Events" }],
                "messages": [{ "$ref": format!("#/channels/{channel}/messages/{name}") }],
                "bindings": { "amqp": { "deliveryMode": 2, "bindingVersion": BINDING } },
            }),
        );
    }
    operations.insert(
        "dead".to_owned(),
        json!({
            "action": "send",
            "channel": { "$ref": "#/channels/dead" },
            "summary": "Puts a command aside, with the reason.",
            "messages": [{ "$ref": "#/channels/dead/messages/dead" }],
            "bindings": { "amqp": { "deliveryMode": 2, "bindingVersion": BINDING } },
        }),
    );
    operations.into()
}

/// Everything about a command that is text.
fn description(command: &CommandDoc) -> String {
    let doc = &command.spec.reference.doc;
    let mut paragraphs = vec![audience(command.spec.audience).to_owned()];
    if !doc.description.is_empty() {
        paragraphs.push(doc.description.to_owned());
    }
    if !doc.events.is_empty() {
        let events: Vec<String> = doc.events.iter().map(|event| format!("`{event}`")).collect();
        paragraphs.push(format!("Events that may follow: {}.", events.join(", ")));
    }
    paragraphs.push(format!("Lane: `{}`.", command.spec.lane.as_str()));
    paragraphs.join("\n\n")
}

/// Who may send a command.
pub fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::SelfService => "Self-service: for the person themselves, without an actor.",
        Audience::Administrative => {
            "Administrative: needs an `actor` whose roles cover it, or a publisher that is a `system`."
        }
        Audience::Either => {
            "Self-service; administrative with an `actor`, whose roles must cover it (or `\"system\"`, from a publisher that is one)."
        }
    }
}

fn messages(contract: &Contract) -> Value {
    let mut messages = Map::new();
    for command in &contract.commands {
        messages.insert(command.name().to_owned(), command_message(command));
        messages.insert(ok_name(command), ok_message(command));
        messages.insert(error_name(command), error_message(command));
    }
    for event in &contract.events {
        messages.insert(event_channel(event), event_message(event));
    }
    messages.insert(
        "dead".to_owned(),
        json!({
            "name": "dead",
            "title": "A dead letter",
            "summary": "The command as it came, with the reason in headers.",
            "headers": properties::headers_of_dead_letter(),
            "payload": { "description": "The original body, plain secrets redacted; it may be no JSON at all." },
            "contentType": "application/octet-stream",
        }),
    );
    messages.into()
}

fn command_message(command: &CommandDoc) -> Value {
    let name = command.name();
    let is_query = command.is_query();
    json!({
        "name": name,
        "title": name,
        "summary": command.spec.reference.doc.summary,
        "tags": [{ "name": command.area.title() }],
        "traits": [{ "$ref": format!("#/components/messageTraits/{}", if is_query { "query" } else { "command" }) }],
        "payload": &command.body,
        "examples": [{ "name": "example", "payload": &command.example }],
    })
}

fn ok_message(command: &CommandDoc) -> Value {
    let mut fields = json!({
        "ok": { "const": true },
        "message_id": message_id(),
        "result": &command.answer,
    });
    if !command.is_query() {
        fields["duplicate"] = duplicate();
    }
    let mut message = reply(command, &ok_name(command), &format!("`{}` was done", command.name()));
    message["payload"] = json!({ "type": "object", "properties": fields, "required": ["ok", "message_id", "result"] });
    message["examples"] = json!([{ "name": "example", "payload": command.example_reply() }]);
    message
}

fn error_message(command: &CommandDoc) -> Value {
    let codes = command.errors();
    // The most telling one: of its own, if it has any.
    let code = command.own_errors().first().copied().unwrap_or(Code::InvalidBody);
    let mut fields = json!({
        "ok": { "const": false },
        "message_id": message_id(),
        "error": {
            "type": "object",
            "properties": {
                "code": { "enum": codes.iter().map(|code| code.as_str()).collect::<Vec<_>>(), "description": "For programs." },
                "message": { "type": "string", "description": "For people; in English." },
                "details": { "type": "object", "description": "More, by name, depending on the code." },
            },
            "required": ["code", "message", "details"],
        },
    });
    if !command.is_query() {
        fields["duplicate"] = duplicate();
    }
    let example = json!({
        "ok": false,
        "message_id": EXAMPLE_ID,
        "error": { "code": code.as_str(), "message": code.meaning(), "details": errors::example_details(code) },
    });
    let lines: Vec<String> = codes.iter().map(|code| format!("- `{}`: {}", code.as_str(), code.meaning())).collect();
    let mut message = reply(command, &error_name(command), &format!("`{}` was refused", command.name()));
    message["description"] = lines.join("\n").into();
    message["payload"] = json!({ "type": "object", "properties": fields, "required": ["ok", "message_id", "error"] });
    message["examples"] = json!([{ "name": code.as_str(), "payload": example }]);
    message
}

fn reply(command: &CommandDoc, name: &str, title: &str) -> Value {
    json!({
        "name": name,
        "title": title,
        "tags": [{ "name": command.area.title() }],
        "traits": [{ "$ref": "#/components/messageTraits/reply" }],
        "bindings": { "amqp": { "messageType": command.name(), "bindingVersion": BINDING } },
    })
}

fn event_message(event: &EventSchema) -> Value {
    let name = event.doc.name();
    json!({
        "name": name,
        "title": name,
        "summary": event.doc.description,
        "tags": [{ "name": "Events" }],
        "traits": [{ "$ref": "#/components/messageTraits/event" }],
        "payload": &event.envelope,
        "examples": [{ "name": "example", "payload": &event.example }],
    })
}

/// What every message of a kind has. AMQP's basic properties have no place in `AsyncAPI`'s bindings: an extension holds them.
fn traits() -> Value {
    let correlation =
        json!({ "location": "$message.header#/correlation_id", "description": "The AMQP property `correlation_id`." });
    let command = |is_query| {
        json!({
            "contentType": "application/json",
            "headers": properties::headers_of_command(),
            "correlationId": &correlation,
            "bindings": { "amqp": { "bindingVersion": BINDING, "x-properties": properties::of_command(is_query) } },
        })
    };
    json!({
        "command": command(false),
        "query": command(true),
        "reply": {
            "contentType": "application/json",
            "correlationId": &correlation,
            "bindings": { "amqp": { "bindingVersion": BINDING, "x-properties": properties::of_reply() } },
        },
        "event": {
            "contentType": "application/cloudevents+json",
            "bindings": { "amqp": { "bindingVersion": BINDING, "x-properties": properties::of_event() } },
        },
    })
}

fn message_id() -> Value {
    json!({ "type": ["string", "null"], "description": "That of the command; null if it had none." })
}

fn duplicate() -> Value {
    json!({ "const": true, "description": "The command was repeated: nothing changed, and this is the first reply again." })
}

fn component(name: &str) -> Value {
    json!({ "$ref": format!("#/components/messages/{name}") })
}

fn ok_name(command: &CommandDoc) -> String {
    format!("{}.ok", command.name())
}

fn error_name(command: &CommandDoc) -> String {
    format!("{}.error", command.name())
}

fn event_channel(event: &EventSchema) -> String {
    format!("event.{}", event.doc.name())
}
