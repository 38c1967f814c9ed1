//! Who keeps others from working.

use diesel::QueryableByName;
use diesel::sql_types::{Integer, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Error;

/// The strongest lock that somebody holds on a whole table and that keeps others from writing to it, in words.
///
/// # Errors
/// When the database fails.
pub async fn of_a_table(connection: &mut AsyncPgConnection) -> Result<Option<String>, Error> {
    #[derive(QueryableByName)]
    struct Lock {
        #[diesel(sql_type = Text)]
        table: String,
        #[diesel(sql_type = Text)]
        mode: String,
        #[diesel(sql_type = Integer)]
        pid: i32,
        #[diesel(sql_type = Text)]
        application: String,
    }
    // What has an id below is PostgreSQL's own.
    let question = "select relation::regclass::text as table, mode, pid, coalesce(application_name, '') as application \
                    from pg_locks left join pg_stat_activity using (pid) \
                    where locktype = 'relation' and granted and pid <> pg_backend_pid() and relation >= 16384 \
                    and database = (select oid from pg_database where datname = current_database()) \
                    and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
                    and pg_table_is_visible(relation) \
                    order by mode = 'AccessExclusiveLock' desc limit 1";
    let held: Vec<Lock> = diesel::sql_query(question).load(connection).await?;
    Ok(held.into_iter().next().map(|Lock { table, mode, pid, application }| {
        format!(
            "`{table}` is locked ({mode}) by the session {pid} ({application}), until its transaction ends or somebody \
             ends it: select pg_terminate_backend({pid})"
        )
    }))
}
