//! The rights that docs/operations.md tells operators to give: read out of the document and made, word for word, before the main
//! job is done with them; and what they must not allow.

use std::io::Write as _;
use std::process::{Command as Process, Stdio};

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;

use crate::harness::{
    Client, Command, NEW_PASSWORD, Place, Plan, connect, fresh_name, mail_to, server, until, until_true,
};

const PREFIX: &str = "regrant";
/// The passwords of the document, which are all `…`.
const PASSWORD: &str = "s3cret";

/// The rights of the document under names that no other test has. They go with it.
struct Rights {
    name: String,
}

impl Rights {
    fn new() -> Self {
        Self { name: fresh_name() }
    }

    /// The block that follows `<!-- test: WHAT -->`, with names of our own.
    fn block(&self, what: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (_, after) = document.split_once(&format!("<!-- test: {what} -->\n```")).unwrap();
        let (_, block) = after.split_once('\n').unwrap();
        let (block, _) = block.split_once("\n```").unwrap();
        let mut block = block.replace('…', PASSWORD);
        for name in ["accounts", "regrant-daemon", "backoffice", "shop", "regrant_owner", "regrant_daemon"] {
            assert!(document.contains(name));
            block = block.replace(name, &self.own(name));
        }
        block.replace("database regrant ", &format!("database {} ", self.database()))
    }

    fn own(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    fn database(&self) -> String {
        self.own("database")
    }

    /// The commands of the broker, as a shell takes them; it asks for passwords on standard input.
    fn give_at_the_broker(&self) {
        let block = self.block("broker");
        let commands: Vec<&str> = block.lines().filter(|line| line.starts_with("rabbitmqctl ")).collect();
        assert_eq!(commands.len(), block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count());
        for command in commands {
            shell(command);
        }
    }

    async fn run_sql(&self, what: &str, database: &str) {
        let mut url = url::Url::parse(&server("DATABASE_URL")).unwrap();
        url.set_path(database);
        let superuser = connect(url.as_str()).await;
        // One by one: a database cannot be made inside of a transaction.
        for statement in self.block(what).split_inclusive(';') {
            superuser.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }

    fn database_url(&self, role: &str) -> String {
        let mut url = url::Url::parse(&server("DATABASE_URL")).unwrap();
        url.set_username(&self.own(role)).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.set_path(&self.database());
        url.into()
    }

    fn broker_url(&self, user: &str) -> String {
        let mut url = url::Url::parse(&server("AMQP_URL")).unwrap();
        url.set_username(&self.own(user)).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.set_path(&self.own("accounts"));
        url.into()
    }

    async fn client(&self, user: &str) -> Client {
        Client::connect(&self.broker_url(user), PREFIX).await
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        for user in ["regrant-daemon", "backoffice", "shop"] {
            quietly(&format!("rabbitmqctl -q delete_user {}", self.own(user)));
        }
        quietly(&format!("rabbitmqctl -q delete_vhost {}", self.own("accounts")));
        let (database, owner, daemon) = (self.database(), self.own("regrant_owner"), self.own("regrant_daemon"));
        // A destructor cannot wait for a future of the runtime that it may be blocking.
        let tidied = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let admin = connect(&server("DATABASE_URL")).await;
                let statements = [
                    format!("drop database if exists {database} with (force)"),
                    format!("drop role if exists {owner}"),
                    format!("drop role if exists {daemon}"),
                ];
                for statement in statements {
                    admin.batch_execute(&statement).await.unwrap();
                }
            });
        });
        if tidied.join().is_err() {
            eprintln!("the database and roles of {} are left behind", self.name);
        }
    }
}

fn process(command: &str) -> std::process::Output {
    let mut shell = Process::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    // What asks for no password closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(PASSWORD.as_bytes());
    child.wait_with_output().unwrap()
}

fn shell(command: &str) {
    let output = process(command);
    assert!(output.status.success(), "{command}: {output:?}");
}

fn quietly(command: &str) {
    let _ = process(command);
}

async fn given() -> (Rights, Place) {
    let rights = Rights::new();
    rights.give_at_the_broker();
    rights.run_sql("sql in the database postgres", "postgres").await;
    rights.run_sql("sql in the database regrant", &rights.database()).await;

    let plan = |role: &str| {
        let plan = Plan::default().set("broker.prefix", PREFIX).broker_url(rights.broker_url("regrant-daemon"));
        plan.toml(&rights.block("publishers")).set("database.url", rights.database_url(role))
    };
    let owner = plan("regrant_owner").prepare().await;
    let migrated = owner.shell(&["migrate"]).success();
    assert!(migrated.contains("applied"), "{migrated}");
    rights.run_sql("sql in the database regrant, after migrating", &rights.database()).await;
    let place = plan("regrant_daemon").set("database.migrate_on_start", false).prepare().await;
    (rights, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_document_are_enough() {
    let (rights, place) = given().await;
    place.shell(&["check"]).success();
    let daemon = place.start().await;
    let (backoffice, shop) = (rights.client("backoffice").await, rights.client("shop").await);

    // The queue of the app, filled with events of sessions, as the document allows it.
    let queue = format!("{}.events", rights.own("shop"));
    let listening = Connection::connect(&rights.broker_url("shop"), ConnectionProperties::default()).await.unwrap();
    let channel = listening.create_channel().await.unwrap();
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let (all, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.as_str().into(), "regrant.events".into(), "session.revoked".into(), all, none)
        .await
        .unwrap();

    // The main job: invited by the back office, in again by the shop, out by the back office.
    let user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
    backoffice.ok("invite.send", json!({ "user": user })).await;
    mail_to(&place.mail, "ada@example.com", 1).await;
    let ada = json!({ "id": "ada" });
    assert_eq!(shop.ok("password.reset.request", json!({ "user": ada })).await, json!({ "accepted": true }));
    let token = mail_to(&place.mail, "ada@example.com", 2).await.token();
    shop.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    let login = json!({ "user": ada, "password": NEW_PASSWORD });
    assert_eq!(shop.error("session.login", json!({ "user": ada, "password": "wrong" })).await, "invalid_credentials");
    let session = shop.ok("session.login", login).await["session_id"].take();
    backoffice.ok("session.force_logout", json!({ "users": [ada] })).await;
    assert_eq!(shop.ok("session.check", json!({ "session_id": session })).await["active"], false);
    let got = BasicGetOptions { no_ack: true };
    let event =
        until("the event", async || channel.basic_get(queue.as_str().into(), got).await.unwrap()).await.delivery;
    assert_eq!(event.routing_key.as_str(), "session.revoked");

    // A dead letter under the app's name, histories, erasing, and nothing that waits for want of a right.
    shop.publish(Command::raw("session.login", "not JSON")).await;
    until_true("the dead letter", async || daemon.metric("regrant_dead_letters_total", &["invalid_body"]).await == 1)
        .await;
    backoffice.ok("history.activity", json!({ "user": ada })).await;
    backoffice.ok("user.search", json!({ "q": "ada" })).await;
    backoffice.ok("user.erase", json!({ "user": ada, "reason": "asked" })).await;
    until_true("all events", async || daemon.metric("regrant_events_pending", &[]).await == 0).await;
    let logs = place.logs();
    for word in ["permission denied", "ACCESS_REFUSED", "ERROR"] {
        assert!(!logs.contains(word), "{word}");
    }
    // The broker would let it pass, and regrant does not: the other way round stands below.
    assert_eq!(
        shop.error("password.set", json!({ "user": ada, "new_password": NEW_PASSWORD })).await,
        "actor_required"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_document_are_no_more_than_that() {
    let (rights, place) = given().await;
    let _daemon = place.start().await;
    let url = rights.broker_url("shop");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    // RabbitMQ closes the channel with each refusal.
    let channel = async || {
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    };
    let refused = |what: &str, error: lapin::Error| {
        let error = error.to_string();
        assert!(error.contains("ACCESS_REFUSED") || error.contains("PRECONDITION_FAILED"), "{what}: {error}");
    };

    // To read what others sent, or was buried.
    for queue in ["commands.state", "commands.credentials", "commands.queries", "commands.unknown", "dead", "retry.1s"]
    {
        let queue = format!("regrant.{queue}");
        let got = channel().await.basic_get(queue.as_str().into(), BasicGetOptions::default()).await;
        refused(&queue, got.unwrap_err());
        let options = BasicConsumeOptions::default();
        let asking = channel().await;
        let consumed = asking.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
        refused(&queue, consumed.await.unwrap_err());
    }
    // To take part in regrant's own topology, or listen to all that happens.
    let declare = QueueDeclareOptions::default();
    let made = channel().await.queue_declare("regrant.mine".into(), declare, FieldTable::default()).await;
    refused("a queue of regrant", made.unwrap_err());
    let own = format!("{}.spy", rights.own("shop"));
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel().await.queue_declare(own.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    for (exchange, key) in [("regrant.events", "#"), ("regrant.events", "user.created"), ("regrant.commands", "#")] {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel().await.queue_bind(own.as_str().into(), exchange.into(), key.into(), options, none).await;
        refused(&format!("{exchange} {key}"), bound.unwrap_err());
    }
    // To publish what it may not: another's name, other commands, an event, past the exchange.
    let anybody = BasicProperties::default().with_message_id("m1".into());
    let as_another = anybody.clone().with_user_id(rights.own("backoffice").as_str().into());
    for (what, exchange, key, properties) in [
        ("another's name", "regrant.commands", "session.login", as_another),
        ("another command", "regrant.commands", "user.put", anybody.clone()),
        ("an event", "regrant.events", "session.revoked", anybody.clone()),
        ("straight into a queue", "", "regrant.commands.state", anybody.clone()),
        ("a dead letter", "regrant.dead", "user.put", anybody),
    ] {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let channel = channel().await;
        let sent = channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await.unwrap();
        refused(what, sent.await.unwrap_err());
    }
    connection.close(200, "OK".into()).await.unwrap();

    // What the broker lets through, regrant refuses by itself: `user.put` is on the list of the app's commands, but needs an
    // actor; and a command that is on no list.
    let backoffice = rights.client("backoffice").await;
    let profile = json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } });
    backoffice.ok("user.put", profile).await;

    // In the database: rows, and nothing but rows.
    let daemon = connect(&rights.database_url("regrant_daemon")).await;
    for statement in [
        "create table mine (a int)",
        "drop table users",
        "alter table users add column mine int",
        "truncate activity",
        "create index mine on users (id)",
        "create trigger mine before insert on users execute function suppress_redundant_updates_trigger()",
        "delete from __diesel_schema_migrations",
        "create schema mine",
        "create extension hstore",
        "create role mine",
        "select * from pg_authid",
        "copy users to program 'cat'",
    ] {
        let error = daemon.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{statement}: {error:?}");
    }
    // Nor does anybody else come in: by default, everyone may connect to every database.
    let public: bool =
        place.value(&format!("select has_database_privilege('public', '{}', 'connect')", rights.database())).await;
    assert!(!public);
}
