//! What each person does, by way of an app that asks again when it hears nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Client, Command, Event, Place, mails_to, until, until_within};

const FIRST: &str = "Correct-Horse-7-Battery";
const SECOND: &str = "Tr0ub4dor-And-Three!";

/// How long an app waits for a reply before it sends the same command again, under the same id.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long mails may take: one that fails often waits longer and longer for its next attempt.
pub const FOR_MAIL: Duration = Duration::from_secs(15 * 60);

pub struct People {
    place: Arc<Place>,
    client: Client,
    /// Commands, each counted once.
    pub commands: AtomicUsize,
    /// Messages that were published for them.
    pub published: AtomicUsize,
    /// Replies that said that they came again.
    pub duplicates: AtomicUsize,
    /// What was not answered as it should be.
    pub wrong: Mutex<Vec<String>>,
    quiet: AtomicBool,
}

impl People {
    pub async fn new(place: Arc<Place>) -> Self {
        let client = place.client().await;
        Self {
            place,
            client,
            commands: AtomicUsize::default(),
            published: AtomicUsize::default(),
            duplicates: AtomicUsize::default(),
            wrong: Mutex::default(),
            quiet: AtomicBool::default(),
        }
    }

    /// Collects all events from now on.
    pub async fn listen(self: &Arc<Self>) -> JoinHandle<Vec<Event>> {
        let events = self.client.events("#").await;
        let people = Arc::clone(self);
        tokio::spawn(async move {
            let mut heard = Vec::new();
            loop {
                match events.try_next().await {
                    Some(event) => heard.push(event),
                    None if people.quiet.load(Ordering::Relaxed) => return heard,
                    None => {}
                }
            }
        })
    }

    /// All events, once no more come.
    pub async fn heard(&self, listening: JoinHandle<Vec<Event>>) -> Vec<Event> {
        self.quiet.store(true, Ordering::Relaxed);
        listening.await.unwrap()
    }

    /// The whole story of a person: invited, accepted, signed in, forgot the password, chose another, was signed out.
    pub async fn one(&self, number: usize) {
        let id = format!("p{number}");
        let user = json!({ "id": id });
        let profile = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
        self.done(&id, "invite.send", json!({ "user": profile })).await;
        let token = self.token(&id, "/invite?token=").await;
        self.done(&id, "invite.accept", json!({ "token": token, "new_password": FIRST })).await;
        self.done(&id, "session.login", json!({ "user": user, "password": FIRST })).await;
        self.done(&id, "password.reset.request", json!({ "user": user })).await;
        let token = self.token(&id, "/reset?token=").await;
        let body = json!({ "token": token, "new_password": SECOND });
        let ended = self.done(&id, "password.reset.complete", body).await;
        self.expect(&id, ended["sessions_ended"] == 1, "one session ended", &ended);
        let old = self.ask("session.login", json!({ "user": user, "password": FIRST })).await;
        self.expect(&id, old["error"]["code"] == "invalid_credentials", "the old password is refused", &old);
        self.done(&id, "session.login", json!({ "user": user, "password": SECOND })).await;
        let ended = self.done(&id, "session.force_logout", json!({ "users": [user] })).await;
        self.expect(&id, ended["ended"][0]["sessions"] == 1, "the session ended", &ended);
    }

    async fn done(&self, id: &str, name: &str, body: Value) -> Value {
        let mut reply = self.ask(name, body).await;
        self.expect(id, reply["ok"] == true, name, &reply);
        reply["result"].take()
    }

    fn expect(&self, id: &str, holds: bool, what: &str, found: &Value) {
        if !holds {
            self.wrong.lock().unwrap().push(format!("{id}: {what}: {found}"));
        }
    }

    /// The first reply that comes.
    async fn ask(&self, name: &str, body: Value) -> Value {
        let command = Command::new(name, body);
        self.commands.fetch_add(1, Ordering::Relaxed);
        let mut asked = Vec::new();
        loop {
            asked.push(self.client.begin(&command).await);
            self.published.fetch_add(1, Ordering::Relaxed);
            let replied = async {
                until("a reply", async || asked.iter().find(|asked| self.client.has_reply(asked))).await.clone()
            };
            if let Ok(replied) = tokio::time::timeout(PATIENCE, replied).await {
                let reply = self.client.reply(&replied).await;
                if reply["duplicate"] == true {
                    self.duplicates.fetch_add(1, Ordering::Relaxed);
                }
                return reply;
            }
        }
    }

    /// The token of the mail with such a link.
    async fn token(&self, id: &str, link: &str) -> String {
        let address = format!("{id}@example.com");
        let mail = until_within(FOR_MAIL, &format!("a mail to {address} with {link}"), async || {
            mails_to(&self.place.mail, &address).into_iter().find(|mail| mail.text().contains(link))
        })
        .await;
        mail.token()
    }
}
