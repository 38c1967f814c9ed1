//! `users`.

use std::collections::BTreeSet;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::account::{Account, Invitation, Keys, Profile, Temporary};
use crate::world::UserName;

use super::Error;
use super::schema::{suppressions, users};
use super::statement::{column, in_one_go, statement};

/// Profiles of one address that are looked at. More than anybody has; bounds what one message can load.
const MAX_PROFILES_OF_AN_ADDRESS: i64 = 100;

#[expect(clippy::struct_excessive_bools, reason = "a row of the table")]
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: String,
    username: String,
    username_key: String,
    email: String,
    email_key: String,
    display_name: Option<String>,
    site: String,
    roles: Vec<String>,
    locale: Option<String>,
    email_verified: bool,
    active: bool,
    blocked: bool,
    password_hash: Option<String>,
    previous_hashes: Vec<String>,
    password_changed_at: Option<chrono::DateTime<chrono::Utc>>,
    must_change_password: bool,
    temporary_expires_at: Option<chrono::DateTime<chrono::Utc>>,
    failed_logins: i32,
    locked_until: Option<chrono::DateTime<chrono::Utc>>,
    invitation: String,
    session_epoch: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
    last_login_at: Option<chrono::DateTime<chrono::Utc>>,
    imported_hash: Option<Uuid>,
    temporary_requested_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        Self {
            profile: Profile {
                id: row.id,
                username: row.username,
                email: row.email,
                display_name: row.display_name,
                site: row.site,
                roles: row.roles,
                locale: row.locale,
            },
            keys: Keys::stored(row.username_key, row.email_key),
            email_verified: row.email_verified,
            active: row.active,
            blocked: row.blocked,
            password_hash: row.password_hash,
            previous_hashes: row.previous_hashes,
            password_changed_at: row.password_changed_at,
            temporary: row
                .must_change_password
                .then_some(Temporary { until: row.temporary_expires_at, requested_at: row.temporary_requested_at }),
            failed_logins: row.failed_logins,
            locked_until: row.locked_until,
            invitation: Invitation::parse(&row.invitation).unwrap_or_default(),
            session_epoch: row.session_epoch,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_login_at: row.last_login_at,
            imported_hash: row.imported_hash,
            suppressed: false,
            tickets: Vec::new(),
            sessions: Vec::new(),
            stored: true,
            dirty: false,
            renamed: false,
        }
    }
}

impl From<&Account> for Row {
    fn from(account: &Account) -> Self {
        let profile = account.profile.clone();
        Self {
            id: profile.id,
            username: profile.username,
            username_key: account.username_key().to_owned(),
            email: profile.email,
            email_key: account.email_key().to_owned(),
            display_name: profile.display_name,
            site: profile.site,
            roles: profile.roles,
            locale: profile.locale,
            email_verified: account.email_verified,
            active: account.active,
            blocked: account.blocked,
            password_hash: account.password_hash.clone(),
            previous_hashes: account.previous_hashes.clone(),
            password_changed_at: account.password_changed_at,
            must_change_password: account.must_change_password(),
            temporary_expires_at: account.temporary.and_then(|temporary| temporary.until),
            failed_logins: account.failed_logins,
            locked_until: account.locked_until,
            invitation: account.invitation.as_str().to_owned(),
            session_epoch: account.session_epoch,
            created_at: account.created_at,
            updated_at: account.updated_at,
            last_login_at: account.last_login_at,
            imported_hash: account.imported_hash,
            temporary_requested_at: account.temporary.and_then(|temporary| temporary.requested_at),
        }
    }
}

/// The ids that names mean now.
///
/// # Errors
/// When the database fails.
pub async fn ids_of(mut connection: &AsyncPgConnection, names: &[UserName]) -> Result<BTreeSet<String>, Error> {
    let mut ids = BTreeSet::new();
    let (mut usernames, mut emails) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            UserName::Id(id) => {
                ids.insert(id.clone());
            }
            UserName::Username(key) => usernames.push(key.as_str()),
            UserName::Email(key) => emails.push(key.as_str()),
        }
    }
    if !usernames.is_empty() {
        let found: Vec<String> =
            users::table.filter(users::username_key.eq_any(usernames)).select(users::id).load(&mut connection).await?;
        ids.extend(found);
    }
    if !emails.is_empty() {
        emails.sort_unstable();
        emails.dedup();
        ids.extend(ids_of_emails(connection, &emails).await?);
    }
    Ok(ids)
}

/// Lateral, so that an address which ten thousand profiles share costs no more than the bound.
async fn ids_of_emails(mut connection: &AsyncPgConnection, keys: &[&str]) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = Text)]
        id: String,
    }
    let found: Vec<Id> = statement(
        "select u.id from unnest(?) as wanted(key), \
         lateral (select id from users where email_key = wanted.key limit ?) u",
    )
    .bind::<Array<Text>, _>(keys)
    .bind::<BigInt, _>(MAX_PROFILES_OF_AN_ADDRESS)
    .load(&mut connection)
    .await?;
    Ok(found.into_iter().map(|row| row.id).collect())
}

/// Accounts by id, without tickets and sessions; locked in id order if asked, so that batches cannot deadlock.
///
/// # Errors
/// When the database fails.
pub async fn load(connection: &AsyncPgConnection, ids: &BTreeSet<String>, lock: bool) -> Result<Vec<Account>, Error> {
    load_as(connection, ids, if lock { Lock::Change } else { Lock::None }).await
}

/// People who act, by id. If asked, they are kept from being erased until the transaction ends: else its activity would name
/// somebody who is no more. Nobody waits for that but an erasure.
///
/// # Errors
/// When the database fails.
pub async fn load_actors(
    connection: &AsyncPgConnection,
    ids: &BTreeSet<String>,
    keep: bool,
) -> Result<Vec<Account>, Error> {
    load_as(connection, ids, if keep { Lock::Keep } else { Lock::None }).await
}

#[derive(Clone, Copy)]
enum Lock {
    None,
    Keep,
    Change,
}

async fn load_as(
    mut connection: &AsyncPgConnection,
    ids: &BTreeSet<String>,
    lock: Lock,
) -> Result<Vec<Account>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // With each person whether their address is suppressed: only the person's row is locked.
    let suppressed = exists(suppressions::table.filter(suppressions::email_key.eq(users::email_key)));
    let query =
        users::table.filter(users::id.eq_any(ids.iter())).order(users::id).select((Row::as_select(), suppressed));
    let rows: Vec<(Row, bool)> = match lock {
        Lock::None => query.load(&mut connection).await?,
        Lock::Keep => query.for_key_share().load(&mut connection).await?,
        Lock::Change => query.for_no_key_update().load(&mut connection).await?,
    };
    Ok(rows.into_iter().map(|(row, suppressed)| Account { suppressed, ..row.into() }).collect())
}

/// Those of the addresses that are on the suppression list.
///
/// # Errors
/// When the database fails.
pub async fn suppressed(
    mut connection: &AsyncPgConnection,
    keys: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let found: Vec<String> = suppressions::table
        .filter(suppressions::email_key.eq_any(keys))
        .select(suppressions::email_key)
        .load(&mut connection)
        .await?;
    Ok(found.into_iter().collect())
}

/// Writes new and changed accounts.
///
/// # Errors
/// [`Error::Conflict`] when somebody else took a username or id first: who decided to create a profile, and finds that another
/// daemon did so meanwhile, has to decide again. Nobody can lock a row that is not there yet.
pub async fn write<'a>(
    connection: &AsyncPgConnection,
    accounts: impl Iterator<Item = &'a Account>,
) -> Result<(), Error> {
    let (changed, new): (Vec<&Account>, Vec<&Account>) = accounts.filter(|a| a.dirty).partition(|a| a.stored);
    in_one_go!(rename(connection, &changed), update(connection, &changed), insert(connection, &new));
    Ok(())
}

/// A statement that names a unique column locks its rows against everybody who only wants them to stay, such as the batches in
/// which that person acts (see [`load_actors`]). So usernames are written by themselves, where they changed.
async fn rename(mut connection: &AsyncPgConnection, changed: &[&Account]) -> Result<(), Error> {
    let renamed: Vec<&Account> = changed.iter().copied().filter(|account| account.renamed).collect();
    if renamed.is_empty() {
        return Ok(());
    }
    statement(
        "update users u set username = r.username, username_key = r.username_key \
         from unnest(?, ?, ?) as r(id, username, username_key) where u.id = r.id",
    )
    .bind::<Array<Text>, _>(column(&renamed, |account| account.id()))
    .bind::<Array<Text>, _>(column(&renamed, |account| account.profile.username.as_str()))
    .bind::<Array<Text>, _>(column(&renamed, |account| account.username_key()))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// A statement has at most 65,535 parameters.
const ROWS: usize = 2500;

fn rows(accounts: &[&Account]) -> Vec<Row> {
    accounts.iter().map(|account| Row::from(*account)).collect()
}

async fn insert(mut connection: &AsyncPgConnection, new: &[&Account]) -> Result<(), Error> {
    for new in new.chunks(ROWS) {
        diesel::insert_into(users::table).values(rows(new)).execute(&mut connection).await?;
    }
    Ok(())
}

/// All but their usernames, by an insert that always finds the rows there: roles and hashes of before are arrays, of which
/// `unnest` cannot take one for each row.
async fn update(mut connection: &AsyncPgConnection, changed: &[&Account]) -> Result<(), Error> {
    for changed in changed.chunks(ROWS) {
        diesel::insert_into(users::table)
            .values(rows(changed))
            .on_conflict(users::id)
            .do_update()
            .set((
                (
                    users::email.eq(excluded(users::email)),
                    users::email_key.eq(excluded(users::email_key)),
                    users::display_name.eq(excluded(users::display_name)),
                    users::site.eq(excluded(users::site)),
                    users::roles.eq(excluded(users::roles)),
                    users::locale.eq(excluded(users::locale)),
                    users::email_verified.eq(excluded(users::email_verified)),
                    users::active.eq(excluded(users::active)),
                    users::blocked.eq(excluded(users::blocked)),
                ),
                (
                    users::password_hash.eq(excluded(users::password_hash)),
                    users::previous_hashes.eq(excluded(users::previous_hashes)),
                    users::password_changed_at.eq(excluded(users::password_changed_at)),
                    users::must_change_password.eq(excluded(users::must_change_password)),
                    users::temporary_expires_at.eq(excluded(users::temporary_expires_at)),
                    users::failed_logins.eq(excluded(users::failed_logins)),
                    users::locked_until.eq(excluded(users::locked_until)),
                    users::invitation.eq(excluded(users::invitation)),
                    users::session_epoch.eq(excluded(users::session_epoch)),
                    users::updated_at.eq(excluded(users::updated_at)),
                    users::last_login_at.eq(excluded(users::last_login_at)),
                ),
                (
                    users::imported_hash.eq(excluded(users::imported_hash)),
                    users::temporary_requested_at.eq(excluded(users::temporary_requested_at)),
                ),
            ))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn what_is_stored_is_read_as_it_was() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let profile =
            Profile { id: "ada".into(), username: "Ada".into(), email: "A@x.org".into(), ..Profile::default() };
        let stored = Account { stored: true, dirty: false, ..Account::new(profile, at) };
        // Older versions did not write when a temporary password was asked for.
        let whole = Temporary { until: Some(at), requested_at: Some(at) };
        let temporary =
            [None, Some(whole), Some(Temporary { requested_at: None, ..whole }), Some(Temporary::default())];
        for temporary in temporary {
            let account = Account { temporary, ..stored.clone() };
            assert_eq!(Account::from(Row::from(&account)), account);
        }
    }
}
