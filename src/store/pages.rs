//! Pages of tables that grow without end, newest first.

use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;

/// Rows that a page looks at: what is picky could otherwise read all that there are. A page that ends for this reason holds
/// fewer rows than it may, and the next one goes on.
pub(super) const STRIDE: i64 = 4000;

/// Rows, newest first.
#[derive(Debug)]
pub struct Page<Row> {
    /// The rows.
    pub rows: Vec<Row>,
    /// Older ones have ids below this one; none: there are no older ones.
    pub resume: Option<Uuid>,
}

/// The rows that a page chooses from.
pub(super) struct Range<'a> {
    /// `select * from … order by id desc`, with the three that follow as `$1`, `$2` and `$3`.
    pub sql: &'a str,
    pub whose: Option<&'a str>,
    pub before: Uuid,
    pub from: Uuid,
}

impl<Row> Page<Row> {
    /// At most `limit` of the rows, of which one more was asked for: so it is known whether there are more.
    pub fn cut(mut rows: Vec<Row>, limit: i64, id: impl Fn(&Row) -> Uuid) -> Self {
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let resume = rows.last().filter(|_| more).map(id);
        Self { rows, resume }
    }

    /// The same page with other rows.
    pub fn map<R>(self, shown: impl FnMut(Row) -> R) -> Page<R> {
        Page { rows: self.rows.into_iter().map(shown).collect(), resume: self.resume }
    }

    /// As [`Self::cut`]; a page without more rows goes on, too, if its range is longer than a stride.
    pub(super) async fn of(
        rows: Vec<Row>,
        limit: i64,
        id: impl Fn(&Row) -> Uuid,
        range: Option<Range<'_>>,
        connection: &mut AsyncPgConnection,
    ) -> Result<Self, Error> {
        let mut page = Self::cut(rows, limit, id);
        if let (None, Some(range)) = (page.resume, range) {
            page.resume = range.end_of_stride(connection).await?;
        }
        Ok(page)
    }
}

impl Range<'_> {
    /// The last row that a stride sees; none if the range ends before.
    async fn end_of_stride(&self, connection: &mut AsyncPgConnection) -> Result<Option<Uuid>, Error> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let end: Option<Id> = diesel::sql_query(format!("select id from ({} offset $4 limit 1) r", self.sql))
            .bind::<Nullable<Text>, _>(self.whose)
            .bind::<SqlUuid, _>(self.before)
            .bind::<SqlUuid, _>(self.from)
            .bind::<BigInt, _>(STRIDE - 1)
            .get_result(connection)
            .await
            .optional()?;
        Ok(end.map(|end| end.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_where_the_next_begins() {
        let ids: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        let page = |limit| Page::cut(ids.clone(), limit, |id| *id);
        assert_eq!((page(4).rows.as_slice(), page(4).resume), (&ids[..4], Some(ids[3])));
        assert_eq!((page(5).rows, page(5).resume), (ids.clone(), None));
    }
}
