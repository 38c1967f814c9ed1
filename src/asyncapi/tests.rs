//! The documents and the code say the same.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use crate::commands::email::explain::Explain;
use crate::commands::testing::{BETTER, Bed, GOOD};
use crate::commands::{self, Ready, SECRET_FIELDS};
use crate::domain::rejection::Code;
use crate::keys::KeyRing;
use crate::metrics::LoginOutcome;

use super::contract::{CommandDoc, Contract};
use super::{document, errors, markdown};

/// A schema of the contract, with the types that it refers to.
fn validator(contract: &Contract, schema: &Value) -> Validator {
    let mut whole = schema.clone();
    whole["components"] = json!({ "schemas": contract.components });
    jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true).build(&whole).unwrap()
}

#[track_caller]
fn assert_valid(contract: &Contract, schema: &Value, value: &Value, what: &str) {
    check(&validator(contract, schema), value, what);
}

#[track_caller]
fn check(validator: &Validator, value: &Value, what: &str) {
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{what}: {faults:?}\n{value:#}");
}

/// The same schema, but without room for fields that it does not name. In the document there is: they may be added later.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut closed: Map<String, Value> =
                fields.iter().map(|(name, inner)| (name.clone(), closed(inner))).collect();
            if fields.contains_key("properties") && fields.get("type").is_some_and(|t| t == "object") {
                closed.entry("additionalProperties").or_insert(false.into());
            }
            closed.into()
        }
        Value::Array(items) => items.iter().map(closed).collect(),
        other => other.clone(),
    }
}

fn read(command: &CommandDoc, body: &Value) -> Result<Ready, String> {
    let keys = KeyRing::generate(crate::clock::now());
    let parsed = command.spec.read(body.to_string().as_bytes(), &keys, false).map_err(|invalid| invalid.detail)?;
    parsed.ready.map_err(|unopened| unopened.rejection.message)
}

#[test]
fn a_sign_in_is_counted_however_it_ends() {
    let contract = Contract::gather();
    let login = contract.commands.iter().find(|command| command.name() == "session.login").unwrap();
    let mut errors = login.errors();
    // What was not understood is no sign-in yet.
    errors.retain(|code| !matches!(code, Code::InvalidMessage | Code::InvalidBody));
    let mut ends: Vec<&str> = errors.into_iter().map(Code::as_str).chain(["ok"]).collect();
    let mut counted: Vec<&str> = LoginOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    ends.sort_unstable();
    counted.sort_unstable();
    assert_eq!(counted, ends);
}

/// `body` once for each field that may be left out, in it or in an object of it: with `null` there. Beside it the field's path
/// and schema.
fn with_nulls(contract: &Contract, schema: &Value, body: &Value) -> Vec<(String, Value, Value)> {
    // A description, or that it may be null, stands around what is meant.
    let inner = ["/allOf/0", "/anyOf/0"].iter().find_map(|place| schema.pointer(place));
    let schema = contract.resolve(inner.unwrap_or(schema));
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let with = |value: Value| {
            let mut body = body.clone();
            body[name] = value;
            body
        };
        if !required.contains(&name.as_str().into()) {
            all.push((name.clone(), inner.clone(), with(Value::Null)));
        }
        let within = with_nulls(contract, inner, body.get(name).unwrap_or(&json!({})));
        all.extend(within.into_iter().map(|(path, inner, value)| (format!("{name}.{path}"), inner, with(value))));
    }
    all
}

#[test]
fn null_is_as_good_as_no_field() {
    let contract = Contract::gather();
    let mut tried = Vec::new();
    for command in &contract.commands {
        let name = command.name();
        for (path, schema, body) in with_nulls(&contract, &command.body, &command.example) {
            // A part of what is not there needs the rest of it.
            if path.starts_with("create.") {
                continue;
            }
            if let Err(detail) = read(command, &body) {
                panic!("{name} with {path} = null: {detail}");
            }
            assert_valid(&contract, &schema, &Value::Null, &format!("{name}, {path}"));
            let whole = validator(&contract, &command.body);
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(&path);
            assert_eq!(whole.is_valid(&body), whole.is_valid(&without), "{name} with {path} = null");
            tried.push(format!("{name} {path}"));
        }
    }
    for optional in [
        "user.put user.roles",
        "password.set temporary",
        "user.search include_disabled",
        "history.emails limit",
        "session.login context",
        "session.login context.ip",
        "session.login actor",
    ] {
        assert!(tried.iter().any(|tried| tried == optional), "{optional}: {tried:?}");
    }
}

/// Commands whose body holds the fields of one of several alternatives, with a value for each of these fields and the rest.
fn bodies_with_alternatives() -> Vec<(&'static str, Value, Value)> {
    let id = "019ac2f0-7c1a-7000-8000-000000000001";
    let ada = json!({ "id": "ada" });
    let profile = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
    let link_or_code = json!({ "token": "no such token", "user": ada, "code": "12345678" });
    vec![
        ("email.explain", json!({ "email": "ada@example.com", "user": ada }), json!({})),
        (
            "email.report",
            json!({ "email_id": id, "smtp_message_id": "<1@example.com>" }),
            json!({ "kind": "delivered" }),
        ),
        ("email.verification.complete", link_or_code.clone(), json!({})),
        (
            "password.change",
            json!({ "user": ada, "current_password": GOOD, "change_token": "no such token" }),
            json!({ "new_password": BETTER }),
        ),
        ("password.reset.complete", link_or_code.clone(), json!({ "new_password": BETTER })),
        ("password.reset.inspect", link_or_code, json!({})),
        ("password.temporary.issue", json!({ "user": ada, "create": profile }), json!({})),
        ("session.force_logout", json!({ "users": [ada], "session_id": id }), json!({})),
    ]
}

/// `rest` with each of the fields absent, null, or as it stands in `fields`: every combination.
fn combinations(fields: &Value, rest: &Value) -> Vec<Value> {
    let mut bodies = vec![rest.clone()];
    for (name, value) in fields.as_object().unwrap() {
        bodies = bodies
            .into_iter()
            .flat_map(|body| {
                let with = |value: &Value| {
                    let mut body = body.clone();
                    body[name] = value.clone();
                    body
                };
                [with(&Value::Null), with(value), body]
            })
            .collect();
    }
    bodies
}

/// Whether the daemon refuses the body itself, and not what it asks for.
fn refuses_body(command: &CommandDoc, body: &Value) -> bool {
    assert_eq!(read(command, body).err(), None, "{} {body}", command.name());
    if command.name() == "email.explain" {
        return serde_json::from_value::<Explain>(body.clone()).unwrap().is_ambiguous();
    }
    let mut bed = Bed::with_member("ada");
    bed.run(command.name(), body.clone()).is_err_and(|refusal| refusal["code"] == Code::InvalidBody.as_str())
}

#[test]
fn the_schema_and_the_code_agree_on_alternatives() {
    let contract = Contract::gather();
    let bodies = bodies_with_alternatives();
    let names: Vec<&str> = bodies.iter().map(|(name, ..)| *name).collect();
    let with_one_of = contract.commands.iter().filter(|command| command.body.get("oneOf").is_some());
    let mut listed: Vec<&str> = with_one_of.map(CommandDoc::name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
    for (name, fields, rest) in bodies {
        let command = contract.commands.iter().find(|command| command.name() == name).unwrap();
        let validator = validator(&contract, &command.body);
        let mut valid = 0;
        for body in combinations(&fields, &rest) {
            assert_eq!(validator.is_valid(&body), !refuses_body(command, &body), "{name}: {body}");
            valid += usize::from(validator.is_valid(&body));
        }
        assert!(valid >= 4, "{name}: each alternative is valid beside absent fields and beside null, and {valid} are");
    }
}

#[test]
fn each_example_is_read_and_valid() {
    let contract = Contract::gather();
    for command in &contract.commands {
        let (name, doc) = (command.name(), &command.spec.reference.doc);
        for (what, text) in [("example", doc.example), ("answer", doc.answer)] {
            let parsed: Result<Value, _> = serde_json::from_str(text);
            assert!(parsed.is_ok_and(|value| value.is_object()), "{name}: the {what} is no JSON object");
        }
        if let Err(reason) = read(command, &command.example) {
            panic!("{name}: the example is refused: {reason}");
        }
        assert_valid(&contract, &command.body, &command.example, name);
        assert_valid(&contract, &closed(&command.answer), &command.example_answer, name);
        assert!(!doc.summary.is_empty() && doc.summary.ends_with('.'), "{name}: the summary is no sentence");
    }
}

#[test]
fn what_the_code_refuses_the_schema_refuses_too() {
    let contract = Contract::gather();
    for command in &contract.commands {
        let name = command.name();
        let validator = validator(&contract, &command.body);
        let mut wrong = command.example.clone();
        wrong["no_such_field"] = true.into();
        assert!(read(command, &wrong).is_err(), "{name} takes a field that it does not know");
        assert!(!validator.is_valid(&wrong), "{name}: the schema takes a field that it does not know");
        for field in command.body["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut wrong = command.example.clone();
            wrong.as_object_mut().unwrap().remove(field);
            assert!(read(command, &wrong).is_err(), "{name} does not need `{field}`");
            assert!(!validator.is_valid(&wrong), "{name}: the schema does not need `{field}`");
        }
        for (field, _) in command.example.as_object().unwrap() {
            let mut wrong = command.example.clone();
            wrong[field] = json!([["nonsense"]]);
            assert!(read(command, &wrong).is_err(), "{name}: `{field}` may be nonsense");
            assert!(!validator.is_valid(&wrong), "{name}: by the schema, `{field}` may be nonsense");
        }
    }
}

#[test]
fn every_body_may_have_an_actor_and_a_context() {
    let contract = Contract::gather();
    let context = json!({ "ip": "203.0.113.7", "user_agent": "Mozilla/5.0", "locale": "fr-CA" });
    for command in &contract.commands {
        let validator = validator(&contract, &command.body);
        for actor in [json!({ "id": "root" }), json!("system"), Value::Null] {
            let mut body = command.example.clone();
            body["actor"] = actor;
            body["context"] = context.clone();
            assert_eq!(read(command, &body).err(), None, "{}", command.name());
            check(&validator, &body, command.name());
        }
        for (field, wrong) in [("actor", json!("root")), ("actor", json!({})), ("context", json!({ "port": 1 }))] {
            let mut body = command.example.clone();
            body[field] = wrong;
            assert!(read(command, &body).is_err(), "{}", command.name());
            assert!(!validator.is_valid(&body), "{}: {body}", command.name());
        }
    }
}

#[test]
fn secrets_may_be_sealed() {
    let contract = Contract::gather();
    let sealed = json!({ "sealed": "q83vEjRWeJA=", "key_id": "s1" });
    for command in &contract.commands {
        let fields = command.body["properties"].as_object().unwrap();
        for (field, schema) in fields {
            let schema = json!({ "properties": { field.as_str(): schema } });
            let may_be_sealed = validator(&contract, &schema).is_valid(&json!({ field.as_str(): sealed }));
            assert_eq!(may_be_sealed, SECRET_FIELDS.contains(&field.as_str()), "{}: `{field}`", command.name());
            // Nothing else has a name for which a dead letter would lose it.
            assert_eq!(may_be_sealed, commands::is_secret_name(field), "{}: `{field}`", command.name());
        }
        assert!(command.spec.secrets.iter().all(|name| fields.contains_key(*name)), "{}", command.name());
    }
}

#[test]
fn each_event_is_valid_and_each_that_is_named_exists() {
    let contract = Contract::gather();
    for event in &contract.events {
        assert_valid(&contract, &closed(&event.envelope), &event.example, event.doc.name());
    }
    for command in &contract.commands {
        for name in command.spec.reference.doc.events {
            assert!(contract.events.iter().any(|event| event.doc.name() == *name), "{}: {name}", command.name());
        }
    }
}

#[test]
fn a_command_lists_only_refusals_of_its_own() {
    for command in &Contract::gather().commands {
        let (own, general) = (command.own_errors(), command.general_errors());
        let both: Vec<&Code> = own.iter().filter(|code| general.contains(code)).collect();
        assert!(both.is_empty(), "{}: {both:?}", command.name());
    }
}

/// A code that no command tells of would be a gap in the reference, or should not exist.
#[test]
fn each_code_is_told_by_a_command() {
    let contract = Contract::gather();
    // It is the answer to what is no command.
    let elsewhere = [Code::UnknownCommand];
    for code in Code::ALL {
        let told = contract.commands.iter().any(|command| command.errors().contains(code));
        assert!(told || elsewhere.contains(code), "no command is documented to answer {}", code.as_str());
        assert!(code.meaning().ends_with('.') && errors::advice(*code).ends_with('.'), "{}", code.as_str());
        let example = errors::example_details(*code);
        for name in example.as_object().unwrap().keys() {
            assert!(errors::details(*code).iter().any(|(known, _)| known == name), "{}: {name}", code.as_str());
        }
    }
}

/// The table of [`document`] would hide a command behind another one with the same name.
#[test]
fn the_document_has_everything() {
    let contract = Contract::gather();
    let document = document::document(&contract);
    let messages = document["components"]["messages"].as_object().unwrap();
    assert_eq!(messages.len(), 3 * commands::ALL.len() + contract.events.len() + 1);
    for command in commands::ALL {
        assert_eq!(document["channels"][command.name]["address"], command.name);
        assert_eq!(document["operations"][command.name]["reply"]["messages"].as_array().unwrap().len(), 2);
    }
    assert_eq!(document, document::document(&Contract::gather()), "made twice, it differs");
    assert!(
        contract.components.keys().all(|name| !name.ends_with(|c: char| c.is_ascii_digit())),
        "two types of one name"
    );
}

/// Examples in messages are read by more people than any other part.
#[test]
fn replies_in_the_document_are_valid() {
    let contract = Contract::gather();
    let document = document::document(&contract);
    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        for example in message["examples"].as_array().into_iter().flatten() {
            assert_valid(&contract, &message["payload"], &example["payload"], name);
        }
    }
}

#[test]
fn the_reference_is_current() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    let written = std::fs::read_to_string(file).unwrap_or_default();
    let made = markdown::reference(&Contract::gather());
    assert!(
        !made.contains("<!-- commands -->") && made.contains("### `user.put`"),
        "a place of the guide was not filled"
    );
    let rustdoc = made.match_indices("`]").find(|(at, _)| !made[at + 2..].starts_with('('));
    assert!(
        rustdoc.is_none(),
        "a link that only rustdoc understands: {:?}",
        rustdoc.map(|(at, _)| &made[at - 40..at + 2])
    );
    let first = made.lines().zip(written.lines()).position(|(a, b)| a != b);
    assert!(
        made == written,
        "docs/reference.md is not what the code says (first at line {}); make it anew:\n    \
         cargo run -- asyncapi --markdown > docs/reference.md",
        first.map_or(made.lines().count().min(written.lines().count()), |line| line) + 1
    );
}
