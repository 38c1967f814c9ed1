//! Histories: newest first, page by page.

pub mod emails;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
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
}
