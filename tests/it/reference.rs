//! What `regrant asyncapi` says is what the daemon does: every example is sent, and every reply, refusal and event is valid.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use crate::harness::{Client, Daemon, Event, NEW_PASSWORD, PASSWORD, Place, Plan, mails, until};

const ADA: &str = "ada@example.com";

/// The document, as outsiders get it.
struct Reference {
    document: Value,
    /// Validators made so far, by message: many messages are of one kind.
    validators: RefCell<HashMap<String, Rc<Validator>>>,
}

impl Reference {
    fn of(place: &Place) -> Self {
        let document = serde_json::from_str(&place.shell(&["asyncapi"]).success()).unwrap();
        Self { document, validators: RefCell::default() }
    }

    fn message(&self, name: &str) -> &Value {
        let message = &self.document["components"]["messages"][name];
        assert!(message.is_object(), "the document has no message {name}");
        message
    }

    fn example(&self, name: &str) -> &Value {
        &self.message(name)["examples"][0]["payload"]
    }

    fn commands(&self) -> BTreeSet<String> {
        let operations = self.document["operations"].as_object().unwrap();
        operations.iter().filter(|(_, o)| o["action"] == "receive").map(|(name, _)| name.clone()).collect()
    }

    /// The validator of a message that the daemon sends; it refuses fields that the document does not name.
    fn validator(&self, name: &str) -> Rc<Validator> {
        Rc::clone(self.validators.borrow_mut().entry(name.to_owned()).or_insert_with(|| Rc::new(self.compiled(name))))
    }

    fn compiled(&self, name: &str) -> Validator {
        let mut schema = closed(&self.message(name)["payload"]);
        schema["components"] = json!({ "schemas": closed(&self.document["components"]["schemas"]) });
        jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true).build(&schema).unwrap()
    }

    #[track_caller]
    fn assert_valid(&self, name: &str, payload: &Value) {
        let validator = self.validator(name);
        let faults: Vec<String> =
            validator.iter_errors(payload).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}\n{payload:#}");
    }
}

fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut closed: Map<String, Value> =
                fields.iter().map(|(name, inner)| (name.clone(), closed(inner))).collect();
            if fields.contains_key("properties") && fields.get("type").is_some_and(|kind| kind == "object") {
                closed.entry("additionalProperties").or_insert(false.into());
            }
            closed.into()
        }
        Value::Array(items) => items.iter().map(closed).collect(),
        other => other.clone(),
    }
}

/// An example must show what is really there: the same fields, at every depth.
#[track_caller]
fn assert_same_fields(name: &str, example: &Value, real: &Value) {
    match (example, real) {
        (Value::Object(shown), Value::Object(fields)) => {
            let names = |fields: &Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(shown), names(fields), "{name}: the example is not like {real:#}");
            // What `details` holds depends on what happened.
            for (field, value) in shown.iter().filter(|(field, _)| *field != "details") {
                assert_same_fields(&format!("{name}.{field}"), value, &fields[field]);
            }
        }
        (Value::Array(shown), Value::Array(items)) => {
            for item in items {
                assert_same_fields(name, shown.first().unwrap_or_else(|| panic!("{name}: an empty example")), item);
            }
        }
        _ => {}
    }
}

/// A world in which examples are sent, and what was sent so far.
struct Bench {
    reference: Reference,
    place: Place,
    client: Client,
    _daemon: Daemon,
    sent: BTreeMap<String, Value>,
}

impl Bench {
    async fn new() -> Self {
        let plan = Plan::default()
            .set("mail.allow_forward", true)
            .set("password.policy.history", 0)
            .set("login.max_failures", 3)
            .toml("[roles.admin]\npermissions = [\"*\"]\nscope = \"all\"");
        let (place, daemon) = plan.start().await;
        let client = place.client().await;
        let root = json!({ "id": "root", "username": "root", "email": "root@example.com", "roles": ["admin"] });
        client.ok("user.put", json!({ "user": root })).await;
        Self { reference: Reference::of(&place), place, client, _daemon: daemon, sent: BTreeMap::new() }
    }

    /// Sends the example of a command, with these fields instead of its own: a token that is really good, an id that
    /// really exists. Returns the `result`.
    async fn example(&mut self, name: &str, instead: Value) -> Value {
        let mut body = self.reference.example(name).clone();
        for (field, value) in instead.as_object().unwrap() {
            assert!(body.get(field).is_some(), "{name}: the example has no `{field}`");
            body[field] = value.clone();
        }
        let mut reply = self.client.ask((name, body.clone())).await;
        assert_eq!(reply["ok"], true, "{name}: {reply:#}");
        let ok = format!("{name}.ok");
        self.reference.assert_valid(&ok, &reply);
        assert_same_fields(&ok, self.reference.example(&ok), &reply);
        self.sent.insert(name.to_owned(), body);
        reply["result"].take()
    }

    /// Sends something of no interest.
    async fn prepare(&self, name: &str, body: Value) -> Value {
        self.client.ok(name, body).await
    }

    /// Ada's password, whatever it was before.
    async fn password(&self, password: &str) {
        self.prepare("password.set", json!({ "user": { "id": "ada" }, "new_password": password })).await;
    }

    async fn sign_in(&self) -> Value {
        let body = json!({ "user": { "id": "ada" }, "password": PASSWORD });
        self.prepare("session.login", body).await["session_id"].take()
    }

    /// Ada's newest mail from this template, once it is sent; its row of the history.
    async fn mail(&self, template: &str) -> Value {
        until(&format!("the mail {template}"), async || {
            let history = self.client.ok("history.emails", json!({ "user": { "id": "ada" } })).await;
            let row = history["rows"].as_array()?.iter().find(|row| row["template"] == template)?;
            (row["state"] == "sent").then(|| row.clone())
        })
        .await
    }

    /// What is in the link of that mail.
    async fn token(&self, template: &str) -> String {
        let row = self.mail(template).await;
        self.raw(&row).token()
    }

    fn raw(&self, row: &Value) -> crate::harness::Mail {
        let id = row["email_id"].as_str().unwrap();
        mails(&self.place.mail).into_iter().find(|mail| mail.header("message-id").contains(id)).unwrap()
    }
}

async fn profiles(bench: &mut Bench) {
    bench.example("daemon.info", json!({})).await;
    bench.example("user.put", json!({})).await;
    bench.prepare("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    bench.example("user.get", json!({})).await;
    bench.example("user.search", json!({})).await;
    for name in ["user.deactivate", "user.activate", "user.block", "user.unblock"] {
        bench.example(name, json!({})).await;
    }
}

async fn invitations(bench: &mut Bench) {
    bench.example("invite.send", json!({})).await;
    bench.example("invite.revoke", json!({})).await;
    bench.prepare("invite.send", json!({ "user": { "id": "ada" } })).await;
    bench.example("invite.resend", json!({})).await;
    let token = bench.token("invite").await;
    bench.example("invite.inspect", json!({ "token": token })).await;
    bench.example("invite.accept", json!({ "token": token })).await;

    let ada = json!({ "id": "ada", "username": "ada", "email": ADA, "display_name": "Ada Lovelace", "email_verified": false });
    bench.prepare("user.put", json!({ "user": ada })).await;
    bench.example("email.verification.send", json!({})).await;
    let row = bench.mail("email_verification_code").await;
    let text = bench.raw(&row).text();
    let code = text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8).unwrap();
    bench.example("email.verification.complete", json!({ "code": code })).await;
}

async fn sessions(bench: &mut Bench) {
    let session = bench.example("session.login", json!({})).await["session_id"].take();
    bench.example("session.check", json!({ "session_id": session })).await;
    bench.example("session.logout", json!({ "session_id": session })).await;
    bench.sign_in().await;
    bench.example("session.force_logout", json!({})).await;
    bench.example("session.impersonate", json!({})).await;
}

async fn passwords(bench: &mut Bench) {
    bench.example("password.check", json!({})).await;
    let session = bench.sign_in().await;
    bench.example("password.change", json!({ "session_id": session })).await;
    for end in ["password.reset.complete", "password.reset.cancel"] {
        bench.password(PASSWORD).await;
        bench.example("password.reset.request", json!({})).await;
        bench.example("password.reset.resend", json!({})).await;
        let token = bench.token("password_reset_link").await;
        bench.example("password.reset.inspect", json!({ "token": token })).await;
        bench.example(end, json!({ "token": token })).await;
    }
    bench.example("password.set", json!({})).await;
    bench.example("password.temporary.issue", json!({})).await;
    let wrong = json!({ "user": { "id": "ada" }, "password": NEW_PASSWORD });
    for _ in 0..3 {
        assert_eq!(bench.client.error("session.login", wrong.clone()).await, "invalid_credentials");
    }
    bench.password(PASSWORD).await;
}

async fn mail(bench: &mut Bench) {
    bench.prepare("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let row = bench.mail("password_reset_link").await;
    bench.example("email.resend", json!({ "email_id": row["email_id"] })).await;
    let message_id = bench.raw(&row).header("message-id");
    bench.example("email.report", json!({ "smtp_message_id": message_id })).await;
    bench.example("email.unsuppress", json!({})).await;
    bench.place.mail.refuse_rcpt("550 5.1.1 no such user", Some(ADA));
    bench.prepare("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    until("the verdict", async || {
        let explained = bench.client.ok("email.explain", json!({ "email": ADA })).await;
        (explained["verdict"] == "failed").then_some(())
    })
    .await;
    bench.example("email.explain", json!({})).await;
    bench.place.mail.heal();
}

async fn histories(bench: &mut Bench) {
    bench.example("history.emails", json!({})).await;
    bench.example("history.passwords", json!({})).await;
    bench.example("history.activity", json!({})).await;
}

/// Asks for everything again when nothing of it is there any more, and for things that nobody may ask for.
async fn refusals(bench: &Bench) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (name, body) in &bench.sent {
        let mut bodies = vec![body.clone(), json!({ "no_such_field": 1 })];
        for actor in [json!({ "id": "root" }), json!({ "id": "nobody" }), json!("system")] {
            let mut body = body.clone();
            body["actor"] = actor;
            bodies.push(body);
        }
        for body in bodies {
            let reply = bench.client.ask((name.as_str(), body)).await;
            if reply["ok"] == true {
                bench.reference.assert_valid(&format!("{name}.ok"), &reply);
            } else {
                bench.reference.assert_valid(&format!("{name}.error"), &reply);
                codes.insert(reply["error"]["code"].as_str().unwrap().to_owned());
            }
        }
    }
    codes
}

fn check_events(reference: &Reference, events: &[Event]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for event in events {
        let name = format!("event.{}", event.routing_key);
        reference.assert_valid(&name, &event.body);
        if seen.insert(event.routing_key.clone()) {
            assert_same_fields(&name, &without_origin(reference.example(&name)), &without_origin(&event.body));
        }
    }
    seen
}

/// Without the fields that say who caused the event: they are there only where that is known.
fn without_origin(event: &Value) -> Value {
    let mut event = event.clone();
    for name in ["actor", "publisher", "command_id"] {
        event["data"].as_object_mut().unwrap().remove(name);
    }
    event
}

#[tokio::test]
async fn every_example_is_answered_as_the_reference_says() {
    let mut bench = Bench::new().await;
    let events = bench.client.events("#").await;
    profiles(&mut bench).await;
    invitations(&mut bench).await;
    sessions(&mut bench).await;
    Box::pin(passwords(&mut bench)).await;
    mail(&mut bench).await;
    histories(&mut bench).await;
    bench.example("user.erase", json!({})).await;
    assert_eq!(bench.sent.keys().cloned().collect::<BTreeSet<_>>(), bench.reference.commands(), "not all were sent");

    let seen = check_events(&bench.reference, &events.up_to("user.erased").await);
    let channels = bench.reference.document["channels"].as_object().unwrap().keys();
    let unseen: Vec<&str> =
        channels.filter_map(|name| name.strip_prefix("event.")).filter(|name| !seen.contains(*name)).collect();
    // Only a saved template with a fault brings it about.
    assert_eq!(unseen, ["template.invalid"], "not all events were seen");

    let codes = refusals(&bench).await;
    for code in
        ["invalid_body", "user_not_found", "token_invalid", "session_not_found", "forbidden", "invalid_credentials"]
    {
        assert!(codes.contains(code), "{code} was not seen: {codes:?}");
    }
}
