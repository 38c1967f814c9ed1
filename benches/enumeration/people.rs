//! Those who are asked for: of each class so many that nobody is asked for twice.

use serde_json::{Value, json};

use crate::harness::{Client, Command, Place};
use crate::support::load::password_hash;

/// What the daemon knows of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Known, and served.
    Known,
    /// Nobody has this address.
    Unknown,
    /// Known, and asked a moment before.
    Throttled,
    /// Blocked by support.
    Blocked,
    /// Deactivated.
    Inactive,
    /// Mail to the address bounced.
    Suppressed,
    /// Has a password, but not this one.
    WrongPassword,
    /// Known under a name that nobody has.
    UnknownName,
    /// Was never given a password.
    NoPassword,
    /// Blocked, and the password is wrong.
    BlockedPassword,
}

/// For `password.reset.request`. The first is what the others are compared with.
pub const RESET: &[Class] =
    &[Class::Known, Class::Unknown, Class::Throttled, Class::Blocked, Class::Inactive, Class::Suppressed];

/// For `session.login`. Locked accounts are told by the answer itself (`account_locked`), so not by its moment.
pub const LOGIN: &[Class] = &[Class::WrongPassword, Class::UnknownName, Class::NoPassword, Class::BlockedPassword];

impl Class {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown | Self::UnknownName => "unknown",
            Self::Throttled => "throttled",
            Self::Blocked | Self::BlockedPassword => "blocked",
            Self::Inactive => "inactive",
            Self::Suppressed => "suppressed",
            Self::WrongPassword => "wrong password",
            Self::NoPassword => "no password",
        }
    }

    fn id(self, n: usize) -> String {
        format!("{self:?}{n:06}").to_lowercase()
    }

    /// The `n`th question: names are of one length, and so are messages.
    pub fn question(self, n: usize) -> (&'static str, Value) {
        let user = json!({ "email": format!("{:>26}@example.com", self.id(n)).replace(' ', "x") });
        match self {
            Self::WrongPassword | Self::UnknownName | Self::NoPassword | Self::BlockedPassword => {
                ("session.login", json!({ "user": user, "password": "Wrong-Guess-4711-Pony" }))
            }
            _ => ("password.reset.request", json!({ "user": user })),
        }
    }
}

/// Makes the people of a class.
pub async fn make(place: &Place, client: &Client, class: Class, count: usize) {
    if matches!(class, Class::Unknown | Class::UnknownName) {
        return;
    }
    // Hashing thousands of passwords would take minutes: all have the same one, as a hash of today's parameters.
    let hash = password_hash().await;
    let puts = (0..count).map(|n| {
        let (_, question) = class.question(n);
        let mut user = json!({ "id": class.id(n), "username": class.id(n), "email": question["user"]["email"] });
        if class != Class::NoPassword {
            user["password_hash"] = json!(hash);
        }
        Command::new("user.put", json!({ "user": user }))
    });
    all_well(client, puts.collect()).await;
    let by_support = |name: &'static str| {
        (0..count).map(move |n| Command::new(name, json!({ "user": { "id": class.id(n) } }))).collect::<Vec<_>>()
    };
    match class {
        Class::Blocked | Class::BlockedPassword => all_well(client, by_support("user.block")).await,
        Class::Inactive => all_well(client, by_support("user.deactivate")).await,
        Class::Throttled => all_well(client, by_support("password.reset.request")).await,
        Class::Suppressed => {
            let statement = "insert into suppressions (email_key, reason, since) \
                             select email_key, 'bounced', now() from users where id like 'suppressed%'";
            place.run(statement).await;
        }
        _ => {}
    }
}

async fn all_well(client: &Client, commands: Vec<Command>) {
    for some in commands.chunks(256) {
        for correlation in client.begin_all(some).await {
            let reply = client.reply(&correlation).await;
            assert_eq!(reply["ok"], true, "{reply}");
        }
    }
}
