//! Statements that each connection prepares once.
//!
//! diesel keeps a prepared statement only if its text says it all. An insert of several rows is another text for each number of
//! rows, and `sql_query` and `sql` are never kept: such a statement is parsed and planned at each execution, which costs
//! PostgreSQL more than the rows themselves, and a round trip. An array for each column (`unnest`) has one text for any number
//! of rows.

use std::marker::PhantomData;

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Bool, HasSqlType, Untyped};

/// A whole statement; each `?` in its text is a value, in the order in which they are bound.
pub struct Statement<B = ()> {
    text: &'static str,
    binds: B,
}

/// The statement of this text, and no values yet.
pub const fn statement(text: &'static str) -> Statement {
    Statement { text, binds: () }
}

/// Statements that leave together and are executed in this order; the error of the first that fails.
///
/// All are waited for: those that follow a failed one fail too, for no reason of their own.
macro_rules! in_one_go {
    ($($statement:expr),+ $(,)?) => {{
        let done = tokio::join!(biased; $($statement),+);
        crate::store::statement::InOrder::all(done)?
    }};
}
pub(crate) use in_one_go;

/// Outcomes of statements in their order.
pub trait InOrder {
    /// What they give.
    type All;
    /// Why they fail.
    type Error;

    /// What all of them give, or the first error.
    fn all(self) -> Result<Self::All, Self::Error>;
}

macro_rules! in_order {
    ($($name:ident)+) => {
        impl<Error, $($name),+> InOrder for ($(Result<$name, Error>,)+) {
            type All = ($($name,)+);
            type Error = Error;

            #[expect(non_snake_case, reason = "a variable for each type")]
            fn all(self) -> Result<Self::All, Error> {
                let ($($name,)+) = self;
                Ok(($($name?,)+))
            }
        }
    };
}

in_order! { A B }
in_order! { A B C }
in_order! { A B C D }
in_order! { A B C D E F G H I J }

/// A column of rows.
pub fn column<'a, R, V>(rows: &'a [R], of: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(of).collect()
}

/// A value after others.
pub struct Bound<B, ST, V> {
    before: B,
    value: V,
    sql_type: PhantomData<fn() -> ST>,
}

impl<B> Statement<B> {
    /// Gives the next `?` its value.
    pub fn bind<ST, V>(self, value: V) -> Statement<Bound<B, ST, V>> {
        Statement { text: self.text, binds: Bound { before: self.binds, value, sql_type: PhantomData } }
    }
}

/// Values for the `?` of a text.
pub trait Binds {
    /// Writes the text up to and with the last of these values; returns what follows.
    fn walk<'b>(&'b self, text: &'static str, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<&'static str>;
}

impl Binds for () {
    fn walk<'b>(&'b self, text: &'static str, _: &mut AstPass<'_, 'b, Pg>) -> QueryResult<&'static str> {
        Ok(text)
    }
}

impl<B: Binds, ST, V: ToSql<ST, Pg>> Binds for Bound<B, ST, V>
where
    Pg: HasSqlType<ST>,
{
    fn walk<'b>(&'b self, text: &'static str, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<&'static str> {
        let text = self.before.walk(text, out)?;
        let (part, rest) = text.split_once('?').ok_or_else(|| too("many", text))?;
        out.push_sql(part);
        out.push_bind_param::<ST, V>(&self.value)?;
        Ok(rest)
    }
}

impl<B: Binds> QueryFragment<Pg> for Statement<B> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let rest = self.binds.walk(self.text, &mut out)?;
        if rest.contains('?') {
            return Err(too("few", self.text));
        }
        out.push_sql(rest);
        Ok(())
    }
}

fn too(what: &str, text: &str) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(format!("too {what} values for: {text}").into())
}

impl<B> QueryId for Statement<B> {
    type QueryId = ();
    // It is known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<B> Query for Statement<B> {
    type SqlType = Untyped;
}

/// A condition as it stands, such as the literal without which a partial index is not used: a prepared statement with a
/// parameter in that place cannot know that the index holds its rows.
#[derive(Debug, Clone, Copy)]
pub struct Literally(pub &'static str);

impl Expression for Literally {
    type SqlType = Bool;
}

impl<Tables> AppearsOnTable<Tables> for Literally {}
impl<Tables> SelectableExpression<Tables> for Literally {}

impl<Grouping> ValidGrouping<Grouping> for Literally {
    type IsAggregate = is_aggregate::Never;
}

impl QueryId for Literally {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for Literally {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::debug_query;
    use diesel::sql_types::{Array, Integer, Text};

    #[test]
    fn values_take_their_places() {
        let query = statement("select a from unnest(?, ?) limit ?")
            .bind::<Array<Text>, _>(vec!["x", "y"])
            .bind::<Array<Integer>, _>(vec![1, 2])
            .bind::<Integer, _>(7);
        assert_eq!(
            debug_query::<Pg, _>(&query).to_string(),
            "select a from unnest($1, $2) limit $3 -- binds: [[\"x\", \"y\"], [1, 2], 7]"
        );
    }

    #[test]
    fn a_connection_keeps_it() {
        let query = statement("select ?").bind::<Array<Text>, _>(vec!["x"; 3]);
        assert!(query.is_safe_to_cache_prepared(&Pg).unwrap());
        assert!(Literally("state = 'queued'").is_safe_to_cache_prepared(&Pg).unwrap());
    }

    #[test]
    fn values_without_places_and_places_without_values_are_errors() {
        let mut sql = diesel::pg::PgQueryBuilder::default();
        let none = statement("select 1").bind::<Integer, _>(1);
        assert!(none.to_sql(&mut sql, &Pg).unwrap_err().to_string().contains("too many values"));
        let missing = statement("select ?, ?").bind::<Integer, _>(1);
        assert!(missing.to_sql(&mut sql, &Pg).unwrap_err().to_string().contains("too few values"));
    }
}
