//! `user.search`: people by a part of their name, by site, role and status.
//!
//! Searching is not acting: people who may do more than the actor are listed too. Acting on them is refused where it is tried.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::commands::Reply;
use crate::commands::body::{Text, or_default};
use crate::commands::document::{Doc, Documented};
use crate::commands::history::Limit;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::account::Status;
use crate::domain::account::shown::User;
use crate::domain::email_address::username_key;
use crate::domain::rejection::{Code, Rejection};
use crate::store;
use crate::store::search::{After, Found, Part};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Part of a username, email address or display name; of one or two characters, the beginning of one or of a
    /// word in it. Compared without regard to case; `%` and `_` are nothing special. Blank is as good as absent.
    #[schemars(with = "Option<String>", length(max = 320))]
    #[serde(default)]
    q: Wanted,
    /// People of this site.
    site: Option<Text<64>>,
    /// People who hold this role.
    role: Option<Text<64>>,
    /// People in this state. Those who are deactivated or blocked are found if their state is asked for.
    status: Option<Status>,
    /// Without a `status`: whether people who are deactivated or blocked are listed too.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<bool>")]
    include_disabled: bool,
    /// People a page.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Limit>")]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// `q` in comparison form, if it is not blank.
#[derive(Debug, Default)]
struct Wanted(Option<String>);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let given = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        if given.chars().count() > 320 {
            return Err(D::Error::custom("must have at most 320 characters"));
        }
        if given.chars().any(char::is_control) {
            return Err(D::Error::custom("must not hold control characters"));
        }
        let key = username_key(&given);
        Ok(Self(if key.is_empty() { None } else { Some(key) }))
    }
}

/// `cursor`: the last person of the page before, who may have been renamed or erased meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
struct Cursor(After);

impl Cursor {
    fn shown(&self) -> String {
        let part = match self.0.part {
            Part::Beginning => '1',
            Part::Others => '2',
        };
        BASE64_URL_SAFE_NO_PAD.encode(format!("{part}{}", self.0.username_key))
    }

    fn read(text: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let part = match text.chars().next()? {
            '1' => Part::Beginning,
            '2' => Part::Others,
            _ => return None,
        };
        let key = &text[1..];
        let sound = !key.is_empty() && !key.chars().any(char::is_control) && username_key(key) == key;
        sound.then(|| Self(After { part, username_key: key.to_owned() }))
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<2048>::deserialize(deserializer)?;
        Self::read(text.as_str())
            .ok_or_else(|| serde::de::Error::custom("must be the `next_cursor` of the page before"))
    }
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// First those whose username begins with `q`, then the others; each in the order of usernames.
    users: Vec<User>,
    /// Where the next page begins; null after the last.
    next_cursor: Option<String>,
}

impl Documented for Search {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Finds people by a part of their name, by site, role and status.",
        description: "An actor whose role is limited to their site finds people of that site only. Those who may do more than \
                      the actor are listed too: searching is not acting.",
        errors: &[],
        events: &[],
        example: r#"{"q": "lovelace", "limit": 20}"#,
        answer: r#"{
            "users": [{
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true, "active": true, "blocked": false,
                "status": "active", "has_password": true, "locked_until": null, "must_change_password": false,
                "created_at": "2027-01-15T08:00:00.000Z", "last_login_at": "2027-02-01T09:30:00.000Z", "session_epoch": 3
            }],
            "next_cursor": null
        }"#,
    };
}

impl Query for Search {
    const NAME: &'static str = "user.search";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let site = cx.authority.site(self.site.as_ref().map(Text::as_str))?;
        let search = store::search::Search {
            text: self.q.0.clone(),
            site: site.map(str::to_owned),
            role: self.role.as_ref().map(|role| role.0.clone()),
            status: self.status,
            include_disabled: self.include_disabled,
            after: self.cursor.clone().map(|cursor| cursor.0).unwrap_or_default(),
            now: cx.now,
        };
        let Found::People(mut found) =
            store::search::page(cx.connection.get().await?, &search, self.limit.0 + 1).await?
        else {
            let message =
                "too many people match to put them in order; give more of the name, or a site, role or status";
            return Err(Rejection::new(Code::InvalidBody, message).with("field", "q").into());
        };
        let most = usize::try_from(self.limit.0).unwrap_or(50);
        let more = found.len() > most;
        found.truncate(most);
        let ids = found.iter().map(|(_, id)| id.clone()).collect();
        let mut accounts = store::accounts::load(cx.connection.get().await?, &ids, false).await?;
        let place = |id: &str| found.iter().position(|(_, found)| found == id);
        accounts.sort_by_cached_key(|account| place(account.id()));
        // Whoever was erased between the two statements is the end of a page as good as any, but not of this one.
        let last = accounts.last().and_then(|account| {
            let part = found.get(place(account.id())?)?.0;
            Some(Cursor(After { part, username_key: account.username_key().to_owned() }).shown())
        });
        Ok(Reply::of(Answer {
            users: accounts.iter().map(|account| account.shown(cx.now)).collect(),
            next_cursor: last.filter(|_| more),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: Value) -> Result<Search, String> {
        let Value::Object(fields) = body else { panic!("no object") };
        crate::commands::body::fields(fields).map_err(|e| e.detail)
    }

    #[test]
    fn a_text_is_compared_as_names_are() {
        for (given, wanted) in [
            (json!("  ADA "), Some("ada")),
            (json!("Z\u{327}OE\u{308}"), Some("z\u{327}oë")),
            (json!("50%_"), Some("50%_")),
            (json!("  "), None),
            (json!(""), None),
            (Value::Null, None),
        ] {
            assert_eq!(read(json!({ "q": given })).unwrap().q.0.as_deref(), wanted, "{given}");
        }
        assert_eq!(read(json!({})).unwrap().q.0, None);
        for (body, said) in [
            (json!({ "q": "a".repeat(321) }), "`q`: must have at most 320"),
            (json!({ "q": "a\u{1}b" }), "`q`: must not hold control"),
            (json!({ "status": "happy" }), "`status`: unknown value"),
            (json!({ "limit": 201 }), "`limit`: must be 1 to 200"),
            (json!({ "limit": 0 }), "`limit`"),
            (json!({ "sort": "name" }), "sort"),
        ] {
            let refusal = read(body.clone()).unwrap_err();
            assert!(refusal.contains(said), "{body}: {refusal}");
        }
    }

    #[test]
    fn a_cursor_is_what_was_given_and_nothing_else() {
        for (part, key) in [(Part::Beginning, "ada"), (Part::Others, "zoë 王")] {
            let cursor = Cursor(After { part, username_key: key.to_owned() });
            assert_eq!(Cursor::read(&cursor.shown()), Some(cursor.clone()));
            assert_eq!(read(json!({ "cursor": cursor.shown() })).unwrap().cursor, Some(cursor));
        }
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        for forged in ["", "ada", "!", &encode(""), &encode("1"), &encode("3ada"), &encode("1Ada"), &encode("1a\0")] {
            assert_eq!(Cursor::read(forged), None, "{forged}");
            assert!(read(json!({ "cursor": forged })).is_err(), "{forged}");
        }
        assert!(read(json!({ "cursor": encode(&"1".repeat(4000)) })).is_err());
    }
}
