//! The publishers under `examples/`, as their readers run them: against the whole daemon, with a real mail.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_box::PublicKey;
use crypto_box::aead::OsRng;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::broker::proxy::Proxy;
use crate::harness::{
    Client, NEW_PASSWORD, PASSWORD, Place, Plan, by_way_of, mail_to, server, until, until_true, within,
};

/// What the app of the examples may do; nobody can send the daemon a password that is not sealed.
const SHOP: &str = r#"
[secrets]
require_sealed = true
[publishers.shop]
commands = ["daemon.info", "password.reset.*"]
"#;

/// The two programs of a language, ready to run.
struct Example {
    forgot_password: Vec<PathBuf>,
    end_sessions: Vec<PathBuf>,
}

impl Example {
    async fn rust() -> Self {
        let built = ready("rust").await.join("debug/examples");
        Self { forgot_password: vec![built.join("forgot_password")], end_sessions: vec![built.join("end_sessions")] }
    }

    async fn python() -> Self {
        let place = ready("python").await.join("publishers/python");
        let program = |name| vec![place.join("bin/python"), place.join(name)];
        Self { forgot_password: program("forgot_password.py"), end_sessions: program("end_sessions.py") }
    }

    async fn node() -> Self {
        let place = ready("node").await.join("publishers/node");
        let program = |name| vec![PathBuf::from("node"), place.join(name)];
        Self { forgot_password: program("forgot-password.js"), end_sessions: program("end-sessions.js") }
    }
}

fn command(program: &[PathBuf]) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Builds and installs what the examples of a language need; the directory it is in, which is Cargo's.
async fn ready(language: &'static str) -> PathBuf {
    // target/debug/deps/it-…
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/script/examples"));
    script.arg(language).env("CARGO_TARGET_DIR", &target).stdin(Stdio::null());
    // What Cargo has set for this test would make a Cargo inside of it build everything anew.
    for (name, _) in
        std::env::vars().filter(|(name, _)| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|s| name.starts_with(s)))
    {
        script.env_remove(name);
    }
    let done = tokio::task::spawn_blocking(move || script.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    target
}

/// How a program ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the app's pages as the broker user `shop`.
async fn visit(example: &Example, place: &Place, arguments: &[&str], typed: &str) -> Ended {
    let url = server("AMQP_SHOP_URL");
    within("the example to end", begin(example, place, &url, arguments, typed)).await.unwrap()
}

fn begin(example: &Example, place: &Place, url: &str, arguments: &[&str], typed: &str) -> JoinHandle<Ended> {
    let mut command = command(&example.forgot_password);
    command.args(arguments).env("AMQP_URL", url).env("REGRANT_PREFIX", &place.prefix);
    let typed = typed.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    })
}

/// The app's listener; killed when dropped.
struct Listener {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Listener {
    async fn start(example: &Example, place: &Place) -> Self {
        let mut command = command(&example.end_sessions);
        command.env("AMQP_URL", server("AMQP_SHOP_URL")).env("REGRANT_PREFIX", &place.prefix);
        command.env("SESSIONS_QUEUE", queue(place));
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let mut listener = Self { child, lines };
        assert_eq!(listener.next().await, "listening");
        listener
    }

    /// The next line that it prints.
    async fn next(&mut self) -> String {
        match within("a line of the listener", self.lines.recv()).await {
            Some(line) => line,
            None => panic!("the listener ended: {}", self.complaints()),
        }
    }

    /// What it complained of, once it has ended.
    fn complaints(&mut self) -> String {
        let mut complaints = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        complaints
    }

    /// Asks it to stop: its exit code, the lines not read yet, and what it complained of.
    async fn stop(mut self) -> (Option<i32>, Vec<String>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let status = until("the listener to end", async || self.child.try_wait().unwrap()).await;
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        (status.code(), rest, self.complaints())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The listener's queue, as somebody else sees it; gone when the test ends.
struct Queue {
    channel: Channel,
    _connection: Connection,
    name: String,
}

fn queue(place: &Place) -> String {
    format!("{}.shop.sessions", place.prefix)
}

impl Queue {
    async fn of(place: &Place) -> Self {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { channel, _connection: connection, name: queue(place) }
    }

    async fn put(&self, body: &[u8]) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        self.channel.basic_publish("".into(), self.name.as_str().into(), options, body, properties).await.unwrap();
    }

    async fn depth(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(self.name.as_str().into(), passive, FieldTable::default());
        queue.await.unwrap().message_count()
    }

    async fn delete(self) {
        self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

/// As libsodium's `crypto_box_seal`.
async fn sealed(client: &Client, secret: &str) -> Value {
    let key = client.ok("daemon.info", json!({})).await["sealing_key"].take();
    let public = BASE64_STANDARD.decode(key["public_key"].as_str().unwrap()).unwrap();
    let sealed = PublicKey::from_slice(&public).unwrap().seal(&mut OsRng, secret.as_bytes()).unwrap();
    json!({ "sealed": BASE64_STANDARD.encode(sealed), "key_id": key["key_id"] })
}

async fn login(client: &Client, password: &str) -> Value {
    let body = json!({ "user": { "id": "ada" }, "password": sealed(client, password).await });
    client.ask(("session.login", body)).await
}

async fn sign_in(client: &Client, password: &str) -> String {
    let reply = login(client, password).await;
    reply["result"]["session_id"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// The whole flow, with everything that a page has to cope with on the way.
async fn forgets_a_password(example: &Example) {
    let place = Plan::default().toml(SHOP).prepare().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    let old = json!({ "user": { "id": "ada" }, "new_password": sealed(&client, PASSWORD).await });
    client.ok("password.set", old).await;
    let session = sign_in(&client, PASSWORD).await;
    place.until_all_is_told().await;
    let mut listener = Listener::start(example, &place).await;
    let queue = Queue::of(&place).await;
    let events = client.events("session.revoked").await;

    // The same page for an address that nobody has.
    for (address, known) in [("ghost@example.com", false), ("ada@example.com", true)] {
        let page = visit(example, &place, &["request", address], "").await;
        assert_eq!(page.code, Some(0), "{page:?}");
        assert_eq!(page.out, format!("If {address} has an account, a mail with a link is on its way.\n"), "{known}");
        assert_eq!(page.err, "");
    }
    // The first mail says that support set a password.
    let token = mail_to(&place.mail, "ada@example.com", 2).await.token();

    let page = visit(example, &place, &["reset"], &format!("{token}\nshort\n{NEW_PASSWORD}\n")).await;
    assert_eq!((page.code, page.err.as_str()), (Some(0), ""), "{page:?}");
    let lines: Vec<&str> = page.out.lines().collect();
    assert!(lines[0].starts_with("Choose a new password for ada, until 20"), "{page:?}");
    assert_eq!(lines[1], "  - Use at least 12 characters.");
    assert!(lines.contains(&"Not this one: Use at least 12 characters."), "{page:?}");
    assert_eq!(lines.last(), Some(&"Your password is changed. You have been signed out everywhere."));

    assert_eq!(login(&client, PASSWORD).await["error"]["code"], "invalid_credentials");
    let checked = client.ok("session.check", json!({ "session_id": session })).await;
    assert_eq!(checked["active"], false);
    assert_eq!(listener.next().await, "forgot the remembered devices of ada");
    assert_eq!(listener.next().await, format!("ended session {session} of ada (password_changed)"));
    let epoch = checked["session_epoch"].as_i64().unwrap();
    assert_eq!(listener.next().await, format!("cookies of ada from before epoch {epoch} are refused"));

    let page = visit(example, &place, &["reset"], &format!("{token}\n{PASSWORD}\n")).await;
    assert_eq!((page.code, page.out.as_str()), (Some(1), "This has been used already.\n"), "{page:?}");
    let page = visit(example, &place, &["reset"], "no-token\n").await;
    assert_eq!(page.code, Some(1), "{page:?}");
    assert!(page.out.starts_with("This link is not valid."), "{page:?}");
    let page = visit(example, &place, &[], "").await;
    assert_eq!(page.code, Some(2), "{page:?}");

    // An event that comes again changes nothing; one that cannot be understood holds nothing up.
    let again = events.next().await.body;
    queue.put(again.to_string().as_bytes()).await;
    queue.put(b"{").await;
    let session = sign_in(&client, NEW_PASSWORD).await;
    client.ok("session.force_logout", json!({ "session_id": session, "reason": "lost phone" })).await;
    assert_eq!(listener.next().await, format!("ended session {session} of ada (lost phone)"));
    let (code, rest, complaints) = listener.stop().await;
    assert_eq!((code, rest), (Some(0), Vec::new()), "{complaints}");
    assert!(complaints.contains("could not be understood"), "{complaints}");

    // What happens while it is away waits; what it did before it went does not come again.
    until_true("everything to be acknowledged", async || queue.depth().await == 0).await;
    let session = sign_in(&client, NEW_PASSWORD).await;
    client.ok("session.force_logout", json!({ "session_id": session })).await;
    until_true("the event", async || queue.depth().await == 1).await;
    let mut listener = Listener::start(example, &place).await;
    assert_eq!(listener.next().await, format!("ended session {session} of ada (signed out by support)"));
    // One session stays.
    let stays = sign_in(&client, NEW_PASSWORD).await;
    let users = json!({ "users": [{ "id": "ada" }], "except_session_id": stays });
    client.ok("session.force_logout", users).await;
    let but = format!("are refused, but for session {stays}");
    while !listener.next().await.ends_with(&but) {}
    let (code, ..) = listener.stop().await;
    assert_eq!((code, queue.depth().await), (Some(0), 0));
    queue.delete().await;
}

/// Sees every command of a name that is published.
struct Tap {
    channel: Channel,
    _connection: Connection,
    queue: String,
}

impl Tap {
    async fn on(place: &Place, command: &str) -> Self {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.unwrap().name().to_string();
        let (exchange, options) = (format!("{}.commands", place.prefix), QueueBindOptions::default());
        let bound =
            channel.queue_bind(queue.as_str().into(), exchange.into(), command.into(), options, FieldTable::default());
        bound.await.unwrap();
        Self { channel, _connection: connection, queue }
    }

    /// Body and properties of the next one; but for `reply_to`, where the broker puts a name for the connection.
    async fn next(&self) -> (Vec<u8>, BasicProperties) {
        let at_once = BasicGetOptions { no_ack: true };
        let next =
            until("a command", async || self.channel.basic_get(self.queue.as_str().into(), at_once).await.unwrap());
        let next = next.await.delivery;
        (next.data, next.properties.with_reply_to("".into()))
    }
}

/// What no repetition mends is said at once, and is no missing reply.
async fn says_that_it_may_not_sign_in(example: &Example) {
    let place = Plan::default().toml(SHOP).prepare().await;
    let wrong = server("AMQP_SHOP_URL").replace(":shop@", ":wrong@");
    let page = begin(example, &place, &wrong, &["request", "ada@example.com"], "");
    let page = within("the example to end", page).await.unwrap();
    assert_eq!((page.code, page.err.contains("Please try again")), (Some(2), false), "{page:?}");
    let said = page.err.to_lowercase();
    assert!(said.contains("access") || said.contains("authentication"), "{page:?}");
    // Nothing to read: no stack trace.
    let page = visit(example, &place, &["reset"], "").await;
    assert_eq!(page.code, Some(2), "{page:?}");
    assert!(page.err.lines().count() <= 1, "{page:?}");
}

/// The connection is lost after the command and before the reply: the same message goes out again and takes effect once.
async fn asks_again(example: &Example) {
    let place = Plan::default().toml(SHOP).prepare().await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    let tap = Tap::on(&place, "password.reset.request").await;
    let proxy = Proxy::before_the_broker().await;
    let url = by_way_of(&server("AMQP_SHOP_URL"), &proxy.address);
    daemon.signal("STOP");
    let asking = begin(example, &place, &url, &["request", "ada@example.com"], "");
    let first = tap.next().await;
    proxy.cut();
    let second = tap.next().await;
    assert_eq!(first, second);
    daemon.signal("CONT");
    let page = within("the example to end", asking).await.unwrap();
    assert_eq!((page.code, page.err.contains("Please try again")), (Some(0), false), "{page:?}");
    until_true("the repetition", async || {
        daemon.metric("regrant_commands_total", &["password.reset.request", "outcome=\"duplicate\""]).await >= 1
    })
    .await;
    assert_eq!(place.count("tickets").await, 1);
}

#[tokio::test]
async fn the_rust_publisher_does_what_its_readme_says() {
    forgets_a_password(&Example::rust().await).await;
}

#[tokio::test]
async fn the_python_publisher_does_what_its_readme_says() {
    forgets_a_password(&Example::python().await).await;
}

#[tokio::test]
async fn the_node_publisher_does_what_its_readme_says() {
    forgets_a_password(&Example::node().await).await;
}

#[tokio::test]
async fn the_rust_publisher_asks_again_and_is_served_once() {
    asks_again(&Example::rust().await).await;
    says_that_it_may_not_sign_in(&Example::rust().await).await;
}

#[tokio::test]
async fn the_python_publisher_asks_again_and_is_served_once() {
    asks_again(&Example::python().await).await;
    says_that_it_may_not_sign_in(&Example::python().await).await;
}

#[tokio::test]
async fn the_node_publisher_asks_again_and_is_served_once() {
    asks_again(&Example::node().await).await;
    says_that_it_may_not_sign_in(&Example::node().await).await;
}
