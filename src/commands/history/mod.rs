//! Histories: newest first, page by page.

pub mod activity;
pub mod emails;
pub mod passwords;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::store::pages::Page;

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

/// One page of two tables, whose ids are in one order of time. Where one of them is not at its end, older rows of the other
/// must wait for its next page.
fn merge<T>(one: Page<(Uuid, T)>, other: Page<(Uuid, T)>, limit: Limit) -> Page<T> {
    let complete_from = one.resume.max(other.resume);
    let mut rows: Vec<(Uuid, T)> = one.rows.into_iter().chain(other.rows).collect();
    rows.retain(|(id, _)| complete_from.is_none_or(|from| *id >= from));
    rows.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let mut page = Page::cut(rows, limit.0, |(id, _)| *id).map(|(_, row)| row);
    page.resume = page.resume.or(complete_from);
    page
}

/// `next_cursor` after a page that is to be resumed there.
fn next_cursor(resume: Option<Uuid>) -> Option<String> {
    resume.map(|id| Cursor(id).shown())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every page until the last, of two tables that can each look at `stride` rows at once.
    fn pages(one: &[u128], other: &[u128], limit: i64, stride: usize) -> Vec<Vec<u128>> {
        let mut pages = Vec::new();
        let mut before = Uuid::max();
        loop {
            let source = |ids: &[u128]| {
                let older: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(*id)).filter(|id| *id < before).collect();
                let mut source = Page::cut(older.clone(), limit, |id| *id).map(|id| (id, id));
                if older.len() > stride && stride < source.rows.len() {
                    source.rows.truncate(stride);
                    source.resume = Some(older[stride - 1]);
                }
                source
            };
            let page = merge(source(one), source(other), Limit(limit));
            pages.push(page.rows.iter().map(Uuid::as_u128).collect());
            let Some(next) = next_cursor(page.resume) else { return pages };
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
