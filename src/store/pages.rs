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
    /// At most `limit` of the rows, of which one more was asked for; how to go on, it says if there are more of them, or the
    /// range is longer than a stride.
    pub(super) async fn of(
        mut rows: Vec<Row>,
        limit: i64,
        id: impl Fn(&Row) -> Uuid,
        range: Option<Range<'_>>,
        connection: &mut AsyncPgConnection,
    ) -> Result<Self, Error> {
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let resume = if rows.len() > size {
            rows.truncate(size);
            rows.last().map(id)
        } else if let Some(range) = range {
            range.end_of_stride(connection).await?
        } else {
            None
        };
        Ok(Self { rows, resume })
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
