//! `history.activity`: every command that touched a person, refused ones too.
//!
//! `actor` says who asks, here as in every body. It also says whose acts are listed where neither `user` nor `by` is given:
//! somebody who asks for nobody in particular sees what they did themselves.

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::commands::Reply;
use crate::commands::body::{Text, UserId, UserName, or_default};
use crate::commands::context::erased_key;
use crate::commands::document::{Doc, Documented};
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::config::COMMANDS;
use crate::domain::access::{Audience, Authority, SYSTEM};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::time::Timestamp;
use crate::ids;
use crate::store::activity::{self, EMAILS_RETRY, Of, Which};

use super::{Cursor, Limit, next_cursor};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activity {
    /// What happened to this person. Somebody who was erased is found by `id`.
    user: Option<UserName>,
    /// What this person of support, or the system, did; somebody who was erased is found by `id`, too. Without `user` and `by`: the `actor` who asks; without one, everybody.
    by: Option<By>,
    /// Only these commands; `emails.retry` for mails that operators sent again at the shell.
    #[schemars(length(max = 50))]
    kinds: Option<Vec<Text<64>>>,
    /// Nothing older.
    from: Option<DateTime<Utc>>,
    /// Only what is older.
    to: Option<DateTime<Utc>>,
    /// Rows a page.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Limit>")]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// `by`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// A person of support.
    Actor(String),
    /// An upstream system.
    System,
    /// Everybody.
    Anyone,
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object with `id`")]
        struct Named {
            id: UserId,
        }
        let wrong = || serde::de::Error::custom(r#"must be {"id": …}, "system" or "anyone""#);
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "system" => Ok(Self::System),
            Value::String(word) if word == "anyone" => Ok(Self::Anyone),
            named @ Value::Object(_) => {
                Named::deserialize(named).map(|named| Self::Actor(named.id.0)).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl JsonSchema for By {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "By".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {
                    "type": "object",
                    "properties": { "id": { "type": "string", "minLength": 1, "maxLength": 128 } },
                    "required": ["id"],
                    "additionalProperties": false,
                },
                { "enum": ["system", "anyone"] },
            ],
        })
    }
}

/// What a command did, or why it was refused.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// When.
    at: Timestamp,
    /// The command.
    kind: String,
    /// Whom it touched; null if nobody was found. A pseudonym stands for somebody who was erased.
    user_id: Option<String>,
    /// Who acted: a person's id or `system`; null for the person themselves.
    actor: Option<String>,
    /// The app that sent it.
    publisher: String,
    /// `ok`, or the error's code.
    outcome: String,
    /// The address that it came from, if the app said so.
    ip: Option<String>,
    /// What more there is to say: a reason, a decision. Never a secret.
    details: Map<String, Value>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Newest first. With `kinds`, or with both `user` and `by`, a page may hold fewer rows than `limit`, even none, and yet
    /// not be the last.
    rows: Vec<Row>,
    /// Where the next page begins; null after the last.
    next_cursor: Option<String>,
}

impl Documented for Activity {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Every command that touched a person, refused ones too; sign-ins and sign-outs.",
        description: "`actor` names who asks, as in every body. Without `user`, it is also whose acts are listed, unless `by` names \
                      somebody else. An actor whose role is limited to their site names a `user` of it, or sees their own acts.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &[],
        example: r#"{"user": {"id": "ada"}, "kinds": ["user.block", "user.unblock"], "from": "2026-11-01T00:00:00Z"}"#,
        answer: r#"{
            "rows": [{
                "at": "2026-11-22T09:30:00.000Z", "kind": "user.block", "user_id": "ada", "actor": "mia",
                "publisher": "support-desk", "outcome": "ok", "ip": "192.0.2.7", "details": {"reason": "chargeback"}
            }],
            "next_cursor": null
        }"#,
    };
}

impl Activity {
    /// Whose acts are listed, if it is not everybody's.
    ///
    /// # Errors
    /// `forbidden` for somebody else's acts on everybody, unless the authority reaches everybody.
    fn by(&self, authority: &Authority) -> Result<Option<String>, Rejection> {
        let own = match authority {
            Authority::Actor { id, .. } => Some(id.clone()),
            _ => None,
        };
        let by = match (&self.by, &self.user) {
            (Some(By::Actor(id)), _) => Some(id.clone()),
            (Some(By::System), _) => Some(SYSTEM.to_owned()),
            (Some(By::Anyone), _) | (None, Some(_)) => None,
            (None, None) => own.clone(),
        };
        if self.user.is_none() && by != own && !authority.is_everywhere() {
            return Err(Rejection::new(
                Code::Forbidden,
                "the actor's role is limited to their own site: name a `user` of it, or ask for what the actor did",
            ));
        }
        Ok(by)
    }

    /// Ids from the first up to, but without, the second.
    fn range(&self) -> Result<(Uuid, Uuid), Rejection> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Rejection::new(Code::InvalidBody, "`from` must be before `to`").with("field", "from"));
        }
        let from = self.from.map_or(Uuid::nil(), ids::floor);
        let to = self.to.map_or(Uuid::max(), ids::floor);
        Ok((from, self.cursor.map_or(to, |cursor| to.min(cursor.0))))
    }

    /// # Errors
    /// `invalid_body` for what is no command, so that a slip of the pen does not look like an empty history.
    fn kinds(&self) -> Result<Option<Vec<&str>>, Rejection> {
        let Some(kinds) = &self.kinds else { return Ok(None) };
        let kinds: Vec<&str> = kinds.iter().map(Text::as_str).collect();
        if kinds.is_empty() || kinds.len() > 50 {
            return Err(Rejection::new(Code::InvalidBody, "`kinds`: 1 to 50 commands").with("field", "kinds"));
        }
        match kinds.iter().position(|kind| !COMMANDS.contains(kind) && *kind != EMAILS_RETRY) {
            Some(wrong) => {
                let message = format!("`kinds[{wrong}]` is no command");
                Err(Rejection::new(Code::InvalidBody, message).with("field", "kinds"))
            }
            None => Ok(Some(kinds)),
        }
    }
}

impl Query for Activity {
    const NAME: &'static str = "history.activity";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let by = match self.by(&cx.authority)? {
            Some(by) => Some(doer(&mut cx, by).await?),
            None => None,
        };
        let (from, before) = self.range()?;
        let kinds = self.kinds()?;
        let user = match &self.user {
            Some(name) => Some(whose(&mut cx, name).await?),
            None => None,
        };
        let (of, actor) = match (&user, &by) {
            (Some(user), by) => (Of::User(user), by.as_deref()),
            (None, Some(by)) => (Of::Actor(by), None),
            (None, None) => (Of::Everybody, None),
        };
        let which = Which { before, from, kinds: kinds.as_deref(), actor, ..Which::default() };
        let page = activity::page(cx.connection.get().await?, of, which, self.limit.0).await?;
        Ok(Reply::of(Answer {
            rows: page.rows.into_iter().map(Row::from).collect(),
            next_cursor: next_cursor(page.resume),
        }))
    }
}

/// Under what is recorded what somebody did: their own id, or, of somebody who was erased, the pseudonym.
async fn doer(cx: &mut QueryContext<'_>, by: String) -> Result<String, Unanswered> {
    if by == SYSTEM || !cx.authority.is_everywhere() || !cx.find(&UserName::Id(by.clone())).await?.is_empty() {
        return Ok(by);
    }
    Ok(erased_key(cx.env.keys, &by))
}

/// The id under which a person's rows are found: their own, or, of somebody who was erased, the pseudonym that only those
/// find who know the id.
async fn whose(cx: &mut QueryContext<'_>, name: &UserName) -> Result<String, Unanswered> {
    match (cx.target(name).await, name) {
        // Which site an erased person belonged to is not known any more.
        (Err(Unanswered::Rejected(refusal)), UserName::Id(id))
            if refusal.code == Code::UserNotFound && cx.authority.is_everywhere() =>
        {
            let pseudonym = erased_key(cx.env.keys, id);
            let page = activity::page(cx.connection.get().await?, Of::User(&pseudonym), Which::default(), 1).await?;
            if page.rows.is_empty() { Err(refusal.into()) } else { Ok(pseudonym) }
        }
        (found, _) => Ok(found?.id().to_owned()),
    }
}

impl From<activity::Row> for Row {
    fn from(row: activity::Row) -> Self {
        Self {
            at: row.at.into(),
            kind: row.kind,
            details: own_details(row.details, row.user_id.as_deref()),
            user_id: row.user_id,
            actor: row.actor,
            publisher: row.publisher,
            outcome: row.outcome,
            ip: row.ip,
        }
    }
}

/// A command may have decided about several people who share an address; what it decided about the others is not this row's.
///
/// Rows are written like that, and read like that too: older ones may hold all of it.
pub fn own_details(details: Value, user: Option<&str>) -> Map<String, Value> {
    let Value::Object(mut details) = details else { return Map::new() };
    for (several, one) in [("decisions", "decision"), ("limits", "limit")] {
        if let Some(all) = details.remove(several)
            && let Some(own) = user.and_then(|user| all.get(user))
        {
            details.insert(one.to_owned(), own.clone());
        }
    }
    details
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Activity {
        let Value::Object(fields) = body else { panic!("no object") };
        crate::commands::body::fields(fields).unwrap()
    }

    fn actor(id: &str, everywhere: bool) -> Authority {
        Authority::Actor { id: id.into(), grants: Vec::new(), home: "north".into(), everywhere }
    }

    #[test]
    fn whose_acts_are_listed_depends_on_who_asks() {
        let mia = Some("mia".to_owned());
        for (body, authority, expected) in [
            // For nobody in particular: their own.
            (json!({}), actor("mia", true), Ok(mia.clone())),
            (json!({}), actor("mia", false), Ok(mia.clone())),
            (json!({}), Authority::System, Ok(None)),
            // About somebody: everybody's.
            (json!({ "user": { "id": "ada" } }), actor("mia", false), Ok(None)),
            (json!({ "user": { "id": "ada" } }), Authority::System, Ok(None)),
            // Named.
            (json!({ "by": { "id": "mia" } }), Authority::System, Ok(mia.clone())),
            (json!({ "by": { "id": "mia" } }), actor("mia", false), Ok(mia.clone())),
            (json!({ "by": { "id": "mia" } }), actor("root", true), Ok(mia.clone())),
            (json!({ "by": { "id": "root" } }), actor("mia", false), Err(Code::Forbidden)),
            (json!({ "by": "system" }), Authority::System, Ok(Some("system".to_owned()))),
            (json!({ "by": "system" }), actor("mia", false), Err(Code::Forbidden)),
            (json!({ "by": "anyone" }), actor("root", true), Ok(None)),
            (json!({ "by": "anyone" }), actor("mia", false), Err(Code::Forbidden)),
            (
                json!({ "by": { "id": "root" }, "user": { "id": "ada" } }),
                actor("mia", false),
                Ok(Some("root".to_owned())),
            ),
        ] {
            assert_eq!(read(body.clone()).by(&authority).map_err(|r| r.code), expected, "{authority:?}: {body}");
        }
    }

    #[test]
    fn times_are_ranges_of_ids_and_a_cursor_goes_on_within_them() {
        let body = json!({ "from": "2027-01-15T08:00:00Z", "to": "2027-01-15T10:00:00+01:00" });
        let mut asked = read(body);
        let at = |seconds: i64| ids::floor(DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap());
        assert_eq!(asked.range().unwrap(), (at(0), at(3600)));
        asked.cursor = Some(Cursor(at(1800)));
        assert_eq!(asked.range().unwrap(), (at(0), at(1800)));
        asked.cursor = Some(Cursor(Uuid::max()));
        assert_eq!(asked.range().unwrap(), (at(0), at(3600)));
        asked.to = asked.from;
        assert_eq!(asked.range().unwrap_err().code, Code::InvalidBody);
        assert_eq!(read(json!({})).range().unwrap(), (Uuid::nil(), Uuid::max()));
    }

    #[test]
    fn only_what_is_on_record_is_a_kind() {
        assert_eq!(read(json!({})).kinds().unwrap(), None);
        let kinds = json!({ "kinds": ["user.put", "emails.retry"] });
        assert_eq!(read(kinds).kinds().unwrap(), Some(vec!["user.put", "emails.retry"]));
        for kinds in [json!([]), json!(["user.put", "user.putt"]), json!(["user.*"]), json!(vec!["user.put"; 51])] {
            assert_eq!(read(json!({ "kinds": kinds })).kinds().unwrap_err().code, Code::InvalidBody);
        }
    }

    #[test]
    fn a_row_tells_of_nobody_else_who_shares_the_address() {
        let details =
            json!({ "decisions": { "ada": "sent", "bob": "blocked" }, "limits": { "bob": "x" }, "reason": "r" });
        let shown = |user| Value::Object(own_details(details.clone(), user));
        assert_eq!(shown(Some("ada")), json!({ "decision": "sent", "reason": "r" }));
        assert_eq!(shown(Some("bob")), json!({ "decision": "blocked", "limit": "x", "reason": "r" }));
        assert_eq!(shown(None), json!({ "reason": "r" }));
        assert_eq!(
            Value::Object(own_details(json!({ "decision": "sent" }), Some("ada"))),
            json!({ "decision": "sent" })
        );
    }
}
