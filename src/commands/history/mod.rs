//! Histories: newest first, page by page.

pub mod activity;
pub mod emails;
pub mod passwords;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// `limit`: rows a page, 1 to 200.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub i64);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = i64::deserialize(deserializer)?;
        if (1..=200).contains(&limit) { Ok(Self(limit)) } else { Err(serde::de::Error::custom("must be 1 to 200")) }
    }
}

impl JsonSchema for Limit {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 })
    }
}

/// `cursor`: where the page before ended. Callers pass on what `next_cursor` gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub Uuid);

impl Cursor {
    /// As `next_cursor` shows it.
    pub fn shown(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("must be the `next_cursor` of the page before"))
    }
}

impl JsonSchema for Cursor {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Rows of one table, newest first by id, and where it goes on; none: it is at its end.
struct Source<T> {
    rows: Vec<(Uuid, T)>,
    resume: Option<Uuid>,
}

impl<T> Source<T> {
    /// From one row more than the limit, if there are more.
    fn of(mut rows: Vec<T>, limit: Limit, id: impl Fn(&T) -> Uuid) -> Self {
        let size = usize::try_from(limit.0).unwrap_or(50);
        let more = rows.len() > size;
        rows.truncate(size);
        let rows: Vec<_> = rows.into_iter().map(|row| (id(&row), row)).collect();
        let resume = rows.last().filter(|_| more).map(|(id, _)| *id);
        Self { rows, resume }
    }

    fn map<R>(self, shown: impl Fn(T) -> R) -> Source<R> {
        Source { rows: self.rows.into_iter().map(|(id, row)| (id, shown(row))).collect(), resume: self.resume }
    }
}

/// One page of two tables, whose ids are in one order of time. Where one of them is not at its end, older rows of the other
/// must wait for its next page.
fn merge<T>(one: Source<T>, other: Source<T>, limit: Limit) -> (Vec<T>, Option<String>) {
    let complete_from = one.resume.max(other.resume);
    let mut rows: Vec<(Uuid, T)> = one.rows.into_iter().chain(other.rows).collect();
    rows.retain(|(id, _)| complete_from.is_none_or(|from| *id >= from));
    rows.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let size = usize::try_from(limit.0).unwrap_or(50);
    let cut = rows.get(size).is_some();
    rows.truncate(size);
    let next = if cut { rows.last().map(|(id, _)| *id) } else { complete_from };
    (rows.into_iter().map(|(_, row)| row).collect(), next.map(|id| Cursor(id).shown()))
}

/// Cuts a page of `limit` rows from one row more, and tells where the next begins.
pub fn page<T>(mut rows: Vec<T>, limit: Limit, id: impl Fn(&T) -> Uuid) -> (Vec<T>, Option<String>) {
    let size = usize::try_from(limit.0).unwrap_or(50);
    let more = rows.len() > size;
    rows.truncate(size);
    let next = if more { rows.last().map(|row| Cursor(id(row)).shown()) } else { None };
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_where_the_next_begins() {
        let ids: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        let (rows, next) = page(ids.clone(), Limit(4), |id| *id);
        assert_eq!(rows, &ids[..4]);
        let cursor: Cursor = serde_json::from_value(next.unwrap().into()).unwrap();
        assert_eq!(cursor.0, ids[3]);
        assert_eq!(page(ids.clone(), Limit(5), |id| *id), (ids, None));
    }

    /// Every page until the last, of two tables that can each look at `stride` rows at once.
    fn pages(one: &[u128], other: &[u128], limit: i64, stride: usize) -> Vec<Vec<u128>> {
        let mut pages = Vec::new();
        let mut before = Uuid::max();
        loop {
            let source = |ids: &[u128]| {
                let older: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(*id)).filter(|id| *id < before).collect();
                let mut source = Source::of(older.clone(), Limit(limit), |id| *id);
                if older.len() > stride && stride < source.rows.len() {
                    source.rows.truncate(stride);
                    source.resume = Some(older[stride - 1]);
                }
                source
            };
            let (rows, next) = merge(source(one), source(other), Limit(limit));
            pages.push(rows.iter().map(Uuid::as_u128).collect());
            let Some(next) = next else { return pages };
            before = serde_json::from_value::<Cursor>(next.into()).unwrap().0;
        }
    }

    #[test]
    fn two_tables_are_one_history() {
        let (tickets, changes) = ([9, 7, 6, 5, 1], [8, 4, 3, 2]);
        for limit in 1..=10 {
            for stride in 1..=10 {
                let pages = pages(&tickets, &changes, limit, stride);
                assert_eq!(pages.concat(), [9, 8, 7, 6, 5, 4, 3, 2, 1], "{limit} {stride}: {pages:?}");
                assert!(pages.iter().all(|page| i64::try_from(page.len()).unwrap() <= limit));
            }
        }
        assert_eq!(pages(&tickets, &changes, 4, 10), [[9, 8, 7, 6].as_slice(), &[5, 4, 3, 2], &[1]]);
        assert_eq!(pages(&[], &[], 4, 10), [[0; 0]]);
    }
}
