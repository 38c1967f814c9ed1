//! Who matches a search, page by page, without reading a whole table of 100 million people.
//!
//! First come those whose username begins with the text, then the others; each part in the order of usernames. It is what
//! people look for, and it keeps apart what is all in one place of that order (a first name) from what is spread over it.
//!
//! No single plan is good for every search: where many match, walking the usernames fills a page at once and collecting all
//! matches takes minutes; where few match, it is the other way round; and the planner's guess at which it is can be wrong by
//! orders of magnitude. So the first `STRIDE` people are looked at in order. If that does not fill the page, all matches
//! are collected from the indexes, up to `FEW`. What is neither so frequent nor so rare is left to the planner and to a
//! clock.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::domain::account::Status;

use super::Error;

/// People looked at in order before anything else.
const STRIDE: i64 = 1000;

/// Matches that are collected and sorted.
const FEW: i64 = 10_000;

/// How long one statement of a search may take.
const PATIENCE: &str = "5s";

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Part of a name, folded as usernames are; not empty.
    pub text: Option<String>,
    /// People of this site.
    pub site: Option<String>,
    /// People who hold this role.
    pub role: Option<String>,
    /// People in this state.
    pub status: Option<Status>,
    /// Without a `status`: also those who are deactivated or blocked.
    pub include_disabled: bool,
    /// Where the page before ended.
    pub after: After,
    /// The time, which ends lockouts.
    pub now: DateTime<Utc>,
}

/// Everybody is in one part of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// The username begins with the text. Nobody is, without a text.
    #[default]
    Beginning,
    /// Everybody else who matches.
    Others,
}

/// A place in the result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct After {
    /// In this part,
    pub part: Part,
    /// after this username in comparison form; empty: at the start.
    pub username_key: String,
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Ids in order, and the part that each is in: a page, and one more if there are more.
    People(Vec<(Part, String)>),
    /// It would take too long to find out.
    TooMany,
}

#[derive(QueryableByName)]
struct Ids {
    #[diesel(sql_type = Array<Text>)]
    ids: Vec<String>,
    /// How many rows were looked at or collected.
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// The next `limit` matches.
///
/// # Errors
/// When the database fails.
pub async fn page(connection: &mut AsyncPgConnection, search: &Search, limit: i64) -> Result<Found, Error> {
    let mut people = Vec::new();
    for part in [Part::Beginning, Part::Others] {
        let (passed, empty) = match part {
            Part::Beginning => (search.after.part == Part::Others, search.text.is_none()),
            Part::Others => (false, false),
        };
        let missing = limit - i64::try_from(people.len()).unwrap_or(i64::MAX);
        if passed || empty || missing <= 0 {
            continue;
        }
        let after = if search.after.part == part { search.after.username_key.as_str() } else { "" };
        let Some(ids) = (Piece { search, part, after }).page(connection, missing).await? else {
            // Who was found already is worth more than a refusal.
            return Ok(if people.is_empty() { Found::TooMany } else { Found::People(people) });
        };
        people.extend(ids.into_iter().map(|id| (part, id)));
    }
    Ok(Found::People(people))
}

/// One part of a search.
#[derive(Clone, Copy)]
struct Piece<'a> {
    search: &'a Search,
    part: Part,
    after: &'a str,
}

/// A walk in the hope that enough rows match is what the first step was for. From here on the plan depends on what is looked for.
const BITMAPS_ONLY: &str =
    "set local plan_cache_mode = auto; set local enable_seqscan = off; set local enable_indexscan = off";
const ANY_PLAN: &str = "set local enable_seqscan = on; set local enable_indexscan = on";

type Query<'a> = BoxedSqlQuery<'a, Pg, SqlQuery>;

/// A statement with numbered parameters.
struct Writing<'a> {
    query: Query<'a>,
    parameters: u8,
}

impl Writing<'_> {
    fn new(start: &str) -> Self {
        Self { query: diesel::sql_query(start).into_boxed(), parameters: 0 }
    }

    fn sql(mut self, text: &str) -> Self {
        self.query = self.query.sql(text);
        self
    }

    fn text(mut self, before: &str, value: &str, after: &str) -> Self {
        self.parameters += 1;
        let sql = format!("{before}${}{after}", self.parameters);
        self.query = self.query.sql(sql).bind::<Text, _>(value.to_owned());
        self
    }

    fn number(mut self, before: &str, value: i64) -> Self {
        self.parameters += 1;
        let sql = format!("{before}${}", self.parameters);
        self.query = self.query.sql(sql).bind::<BigInt, _>(value);
        self
    }

    fn time(mut self, before: &str, value: DateTime<Utc>) -> Self {
        self.parameters += 1;
        let sql = format!("{before}${}", self.parameters);
        self.query = self.query.sql(sql).bind::<Timestamptz, _>(value);
        self
    }
}

impl<'a> Piece<'a> {
    /// The next `limit` matches; none if it takes too long.
    async fn page(self, connection: &mut AsyncPgConnection, limit: i64) -> Result<Option<Vec<String>>, Error> {
        let first: Ids = self.walk(limit).get_result(connection).await?;
        if first.rows < STRIDE || first.ids.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(Some(first.ids));
        }
        let found = connection
            .transaction::<_, Error, _>(async |connection| {
                connection
                    .batch_execute(&format!("set local statement_timeout = '{PATIENCE}'; {BITMAPS_ONLY}"))
                    .await?;
                let all: Ids = self.gather(limit).get_result(connection).await?;
                if all.rows <= FEW {
                    return Ok(all.ids);
                }
                connection.batch_execute(ANY_PLAN).await?;
                let page: Ids = self.ordered(limit).get_result(connection).await?;
                Ok(page.ids)
            })
            .await;
        match found {
            Ok(ids) => Ok(Some(ids)),
            Err(Error::Conflict(text)) if text.contains("statement timeout") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at the next people in order.
    fn walk(self, limit: i64) -> Query<'a> {
        let sql = Writing::new("with step as materialized (select id, username_key, (true");
        let sql = self.names(sql).sql(") as matches from users where true");
        let sql = self.state(sql).text(" and username_key > ", self.after, "");
        let sql = sql.number(" order by username_key limit ", STRIDE);
        let sql = sql.number(") select array(select id from step where matches order by username_key limit ", limit);
        sql.sql(") as ids, (select count(*) from step) as rows").query
    }

    /// Collects matches from wherever they are.
    fn gather(self, limit: i64) -> Query<'a> {
        let sql = Writing::new("with found as materialized (select id, username_key from users where true");
        let sql = self.names(self.state(sql)).number(" limit ", FEW + 1);
        let sql = sql.text(") select array(select id from found where username_key > ", self.after, "");
        let sql = sql.number(" order by username_key limit ", limit);
        sql.sql(") as ids, (select count(*) from found) as rows").query
    }

    /// Whatever the planner thinks best.
    fn ordered(self, limit: i64) -> Query<'a> {
        let sql = Writing::new("select array(select id from users where true");
        let sql = self.names(self.state(sql)).text(" and username_key > ", self.after, "");
        sql.number(" order by username_key limit ", limit).sql(") as ids, 0::bigint as rows").query
    }

    /// Conditions that an index keeps in order.
    fn state(self, mut sql: Writing<'a>) -> Writing<'a> {
        if let Some(site) = &self.search.site {
            sql = sql.text(" and site = ", site, "");
        }
        if let (Part::Beginning, Some(text)) = (self.part, &self.search.text) {
            sql = sql.text(" and username_key >= ", text, "").text(" and username_key < ", &beyond(text), "");
        }
        // The partial indexes are found by these very words.
        let unlocked =
            |sql: Writing<'a>| sql.time(" and (locked_until is null or locked_until <= ", self.search.now).sql(")");
        match self.search.status {
            None if self.search.include_disabled => sql,
            None => sql.sql(" and active and not blocked"),
            Some(Status::Blocked) => sql.sql(" and blocked"),
            Some(Status::Inactive) => sql.sql(" and not active and not blocked"),
            Some(Status::Locked) => sql
                .time(" and active and not blocked and locked_until is not null and locked_until > ", self.search.now),
            Some(Status::ForcePasswordReset) => {
                unlocked(sql.sql(" and active and not blocked and must_change_password"))
            }
            Some(Status::Invited) => {
                unlocked(sql.sql(" and active and not blocked and not must_change_password and invitation = 'pending'"))
            }
            Some(Status::Active) => unlocked(
                sql.sql(" and active and not blocked and not must_change_password and invitation <> 'pending'"),
            ),
        }
    }

    /// Conditions of which only collecting makes use.
    fn names(self, mut sql: Writing<'a>) -> Writing<'a> {
        if let Some(role) = &self.search.role {
            sql = sql.text(" and roles @> array[", role, "::text]");
        }
        if let (Part::Others, Some(text)) = (self.part, &self.search.text) {
            let mut or = " and (";
            for pattern in patterns(text) {
                sql = sql.sql(or).text("users_search_text(username_key, email_key, display_name) like ", &pattern, "");
                or = " or ";
            }
            sql = sql.sql(")");
            sql = sql.text(" and not (username_key >= ", text, "").text(" and username_key < ", &beyond(text), ")");
        }
        sql
    }
}

/// What comes after every key that begins with this, in the order of code points.
fn beyond(text: &str) -> String {
    format!("{text}\u{10ffff}")
}

/// What `like` compares with. A trigram needs three characters: of a shorter text the beginning of a field or word is meant,
/// where the index knows what comes before it.
fn patterns(text: &str) -> Vec<String> {
    let mut literal = String::new();
    for character in text.chars() {
        if matches!(character, '\\' | '%' | '_') {
            literal.push('\\');
        }
        literal.push(character);
    }
    let before: &[&str] = if text.chars().nth(2).is_some() { &[""] } else { &["\u{1}", " "] };
    before.iter().map(|before| format!("%{before}{literal}%")).collect()
}

/// Whether parts of names are found by an index.
///
/// # Errors
/// When the database fails.
pub async fn is_indexed(connection: &mut AsyncPgConnection) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct Valid {
        #[diesel(sql_type = Nullable<Bool>)]
        valid: Option<bool>,
    }
    let row: Valid = diesel::sql_query(
        "select (select indisvalid from pg_index where indexrelid = to_regclass('users_search')) as valid",
    )
    .get_result(connection)
    .await?;
    Ok(row.valid == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_themselves() {
        for (text, wanted) in [
            ("ada", vec!["%ada%"]),
            ("ad", vec!["%\u{1}ad%", "% ad%"]),
            ("王芳", vec!["%\u{1}王芳%", "% 王芳%"]),
            ("50%", vec![r"%50\%%"]),
            ("a_b", vec![r"%a\_b%"]),
            (r"a\b", vec![r"%a\\b%"]),
        ] {
            assert_eq!(patterns(text), wanted);
        }
    }

    #[test]
    fn a_statement_binds_what_it_names() {
        let search = Search {
            text: Some("ada".into()),
            site: Some("north".into()),
            role: Some("admin".into()),
            status: Some(Status::Locked),
            ..Search::default()
        };
        let piece = Piece { search: &search, part: Part::Others, after: "" };
        for query in [piece.walk(51), piece.gather(51), piece.ordered(51)] {
            let shown = diesel::debug_query::<Pg, _>(&query).to_string();
            assert!(
                shown.contains("like $") && shown.contains("roles @> array[$") && !shown.contains("ada%'"),
                "{shown}"
            );
        }
    }
}
