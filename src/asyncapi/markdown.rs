//! The reference for people who write upstream apps, as Markdown: `docs/reference.md`.

mod fields;
mod json;

use std::fmt::Write as _;

use serde_json::Value;

use crate::domain::access::Audience;
use crate::domain::rejection::Code;

use super::contract::{Area, CommandDoc, Contract};
use super::{errors, properties};

/// What no type says: how to publish, what replies look like, who may do what. Lines `<!-- name -->` are places for what the
/// code does say.
const GUIDE: &str = include_str!("markdown/guide.md");

/// The whole reference.
pub fn reference(contract: &Contract) -> String {
    let properties = fields::table(&properties::of_command(false));
    let body = contract.commands.first().map_or(&Value::Null, |command| &command.body);
    let common = fields::table_of(body, &["actor", "context"]);
    let mut text = GUIDE.to_owned();
    for (place, content) in [
        ("contents", contents(contract)),
        ("properties", properties),
        ("common", common),
        ("general errors", general_errors(contract)),
        ("errors", error_table()),
        ("commands", contract_commands(contract)),
        ("envelope", envelope_table(contract)),
        ("event example", event_example(contract)),
        ("events", event_sections(contract)),
        ("types", types(contract)),
    ] {
        text = text.replacen(&format!("<!-- {place} -->"), content.trim_end(), 1);
    }
    text
}

fn contents(contract: &Contract) -> String {
    let mut text = String::new();
    for (name, title) in [
        ("sending", "Sending a command"),
        ("replies", "Replies"),
        ("rights", "Who may do what"),
        ("secrets", "Secrets"),
        ("errors", "Errors"),
    ] {
        let _ = writeln!(text, "- [{title}](#{name})");
    }
    for area in Area::ALL {
        let commands = contract.commands.iter().filter(|command| command.area == area);
        let links: Vec<String> = commands.map(|command| linked(command.name())).collect();
        if !links.is_empty() {
            let _ = writeln!(text, "- [{}](#{}): {}", area.title(), anchor_of(area), links.join(" · "));
        }
    }
    let events: Vec<String> = contract.events.iter().map(|event| event_link(event.doc.name())).collect();
    let _ = writeln!(text, "- [Events](#events): {}", events.join(" · "));
    let types: Vec<String> = contract.components.keys().map(|name| format!("[{name}](#{name})")).collect();
    let _ = writeln!(text, "- [Types](#types): {}", types.join(" · "));
    text
}

fn contract_commands(contract: &Contract) -> String {
    let mut text = String::new();
    for area in Area::ALL {
        let commands: Vec<_> = contract.commands.iter().filter(|command| command.area == area).collect();
        if commands.is_empty() {
            continue;
        }
        let _ = writeln!(text, "<a id=\"{}\"></a>\n\n## {}\n\n{}\n", anchor_of(area), area.title(), area.about());
        text.push_str("| command | who | what it is for |\n| --- | --- | --- |\n");
        for command in &commands {
            let (name, summary) = (linked(command.name()), command.spec.reference.doc.summary);
            let _ = writeln!(text, "| {name} | {} | {summary} |", short_audience(command));
        }
        text.push('\n');
        for command in commands {
            text.push_str(&command_section(contract, command));
        }
    }
    text
}

fn short_audience(command: &CommandDoc) -> String {
    let who = match command.spec.audience {
        Audience::SelfService => "self-service",
        Audience::Administrative => "administrative",
        Audience::Either => "both",
    };
    if command.is_query() { format!("{who}, query") } else { who.to_owned() }
}

fn command_section(contract: &Contract, command: &CommandDoc) -> String {
    let (name, doc) = (command.name(), &command.spec.reference.doc);
    let mut text = format!("<a id=\"{name}\"></a>\n\n### `{name}`\n\n{}\n\n", doc.summary);
    let who = match command.spec.audience {
        Audience::SelfService => "Self-service: no `actor` needed.".to_owned(),
        Audience::Administrative => {
            format!("Administrative: needs an `actor` with the permission `{name}`, or a system publisher.")
        }
        Audience::Either => format!("Self-service; administrative with an `actor`, who needs the permission `{name}`."),
    };
    let kind = if command.is_query() { "A query: no `message_id` needed" } else { "A command" };
    let _ = writeln!(text, "*{who} {kind}; lane `{}`.*\n", command.spec.lane.as_str());
    if !doc.description.is_empty() {
        let _ = writeln!(text, "{}\n", doc.description);
    }
    let own: Vec<&str> =
        fields::names(&command.body).into_iter().filter(|f| !["actor", "context"].contains(f)).collect();
    if own.is_empty() {
        text.push_str("**Body**: no fields of its own.\n\n");
    } else {
        let _ = writeln!(text, "**Body**\n\n{}", fields::table_of(&command.body, &own));
    }
    let _ = writeln!(text, "```json\n{}\n```\n", json::pretty(&command.example));
    let _ = writeln!(text, "**Reply**: `result`\n\n{}", fields::result(contract, &command.answer));
    let _ = writeln!(text, "```json\n{}\n```\n", json::pretty(&command.example_reply()));
    let errors: Vec<String> = command.own_errors().into_iter().map(error_link).collect();
    if errors.is_empty() {
        text.push_str("**Errors**: only the [general ones](#errors).\n\n");
    } else {
        let _ = writeln!(text, "**Errors**: {}; and the [general ones](#errors).\n", errors.join(", "));
    }
    if !doc.events.is_empty() {
        let events: Vec<String> = doc.events.iter().map(|event| event_link(event)).collect();
        let _ = writeln!(text, "**Events**: {}.\n", events.join(", "));
    }
    text
}

/// Which codes need not be named at each command.
fn general_errors(contract: &Contract) -> String {
    let links = |codes: &[Code]| codes.iter().copied().map(error_link).collect::<Vec<_>>().join(", ");
    let applies = |code: &Code, to: fn(&CommandDoc) -> bool| {
        contract.commands.iter().all(|command| command.general_errors().contains(code) == to(command))
    };
    let some = |to| Code::ALL.iter().copied().filter(|code| applies(code, to)).collect::<Vec<_>>();
    format!(
        "- to any command: {}\n- to a command that is no query: {}\n- to an administrative command: {}\n- to a command with a \
         [Secret](#Secret): {}\n- to one whose secrets must be sealed where `secrets.require_sealed` is set: {}\n",
        links(&some(|_| true)),
        links(&some(|command| !command.is_query())),
        links(&some(|command| command.spec.audience != Audience::SelfService)),
        links(&some(CommandDoc::has_secrets)),
        links(&some(|command| !command.spec.secrets.is_empty())),
    )
}

fn error_table() -> String {
    let mut text = "| code | what it means | what to do |\n| --- | --- | --- |\n".to_owned();
    for code in Code::ALL {
        let (name, meaning, advice) = (code.as_str(), code.meaning(), errors::advice(*code));
        let details = errors::details(*code).iter().fold(String::new(), |mut text, (name, what)| {
            let _ = write!(text, "<br>`details.{name}`: {what}.");
            text
        });
        let _ = writeln!(text, "| <a id=\"error-{name}\"></a>`{name}` | {meaning} | {advice}{details} |");
    }
    text
}

fn envelope_table(contract: &Contract) -> String {
    let Some(event) = contract.events.first() else { return String::new() };
    let names: Vec<&str> = fields::names(&event.envelope).into_iter().filter(|name| *name != "data").collect();
    let mut text = fields::table_of(&event.envelope, &names);
    text.push_str(&fields::rows_of(event.data(), &ORIGIN, "data."));
    // That of this one event; the others have their own.
    text.replace(&format!("`regrant.{}`", event.doc.name()), "`regrant.…`")
}

fn event_example(contract: &Contract) -> String {
    let telling = contract.events.iter().find(|event| event.doc.name() == "session.revoked");
    telling.map_or_else(String::new, |event| format!("```json\n{}\n```\n", json::pretty(&event.example)))
}

/// Most events say all with their name: a table holds those, and the others have their data below.
fn event_sections(contract: &Contract) -> String {
    let mut table = "| event | when | `data` |\n| --- | --- | --- |\n".to_owned();
    let mut sections = String::new();
    for event in &contract.events {
        let (name, when) = (event.doc.name(), event.doc.description);
        let own: Vec<&str> = fields::names(event.data()).into_iter().filter(|f| !ORIGIN.contains(f)).collect();
        if own.is_empty() {
            let _ = writeln!(table, "| <a id=\"event-{name}\"></a>`{name}` | {when} | |");
            continue;
        }
        let shown: Vec<String> = own.iter().map(|field| format!("`{field}`")).collect();
        let _ = writeln!(table, "| {} | {when} | {} |", event_link(name), shown.join(", "));
        let _ = writeln!(sections, "<a id=\"event-{name}\"></a>\n\n### `{name}`\n\n{when}\n");
        let _ = writeln!(sections, "{}", fields::table_of(event.data(), &own));
        let _ = writeln!(sections, "```json\n{}\n```\n", json::pretty(&event.example["data"]));
    }
    format!("{table}\n{sections}")
}

/// What the data of every event may hold.
const ORIGIN: [&str; 3] = ["actor", "publisher", "command_id"];

fn types(contract: &Contract) -> String {
    let mut text = String::new();
    for (name, schema) in &contract.components {
        let _ = writeln!(text, "<a id=\"{name}\"></a>\n\n### {name}\n");
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            let _ = writeln!(text, "{}\n", fields::one_line(description));
        }
        let _ = writeln!(text, "{}", fields::definition(schema));
    }
    text
}

fn anchor_of(area: Area) -> String {
    format!("area-{}", area.title().to_lowercase().replace(' ', "-"))
}

fn linked(command: &str) -> String {
    format!("[`{command}`](#{command})")
}

fn event_link(event: &str) -> String {
    format!("[`{event}`](#event-{event})")
}

fn error_link(code: Code) -> String {
    format!("[`{0}`](#error-{0})", code.as_str())
}
