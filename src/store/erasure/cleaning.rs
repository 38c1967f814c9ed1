//! One pass over all tables that hold something about a person.

use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::email_address::email_key;
use crate::keys::KeyRing;
use crate::store::schema::{activity, email_attempts, emails, suppressions, users};
use crate::store::{Error, inbox};
use crate::world::erasing::Erased;
use crate::world::subject_key;

/// Mails of somebody else that are looked through for one thing that the person did.
const MAILS_SINCE: i64 = 200;

/// One bounded pass over everything that is stored about a person.
pub(super) struct Cleaning<'a> {
    pub connection: &'a mut AsyncPgConnection,
    pub keys: &'a KeyRing,
    pub person: &'a Erased,
    /// Rows with this id or a larger one are of somebody else who has the same id now.
    pub before: Uuid,
    pub limit: i64,
    /// Whether a table may hold more than was looked at.
    pub full: bool,
}

/// Mails that somebody was sent from `from` on, and before `to`.
struct Mailed {
    user: String,
    from: Uuid,
    to: Uuid,
}

impl Cleaning<'_> {
    /// `taken`: addresses that people have who are not stored yet. Returns the templates of cancelled mails.
    pub(super) async fn run(&mut self, taken: &BTreeSet<String>) -> Result<Vec<String>, Error> {
        self.rights().await?;
        let invited = self.tickets_for_others().await?;
        let (addresses, cancelled) = self.mails().await?;
        self.addresses(addresses, taken).await?;
        self.history().await?;
        let caused = self.deeds().await?;
        // Invitations say by whom they are, also when they are sent once more; other mails, where they were asked for.
        self.others_mails(&invited, "facts - 'invited_by'", "command_id").await?;
        self.others_mails(&caused, "facts - 'invited_by' - 'request_ip'", "null").await?;
        Ok(cancelled)
    }

    fn count(&mut self, rows: usize) {
        self.full |= i64::try_from(rows).unwrap_or(i64::MAX) >= self.limit;
    }

    /// Links, codes and sessions. Those that are still good are few, and go whatever else there is.
    async fn rights(&mut self) -> Result<(), Error> {
        for statement in [
            "delete from tickets where user_id = $1 and id < $2 and state = 'open'",
            "delete from sessions where user_id = $1 and id < $2 and ended_at is null",
        ] {
            diesel::sql_query(statement)
                .bind::<Text, _>(&self.person.id)
                .bind::<SqlUuid, _>(self.before)
                .execute(self.connection)
                .await?;
        }
        for statement in [
            "delete from tickets where id = any(array(\
             select id from tickets where user_id = $1 and id < $2 order by id desc limit $3))",
            "delete from sessions where id = any(array(\
             select id from sessions where user_id = $1 and id < $2 and ended_at is not null limit $3))",
            // Acting as somebody else.
            "update sessions set impersonated_by = $4 where id = any(array(\
             select id from sessions where impersonated_by = $1 and id < $2 limit $3))",
        ] {
            let query = diesel::sql_query(statement)
                .bind::<Text, _>(&self.person.id)
                .bind::<SqlUuid, _>(self.before)
                .bind::<BigInt, _>(self.limit);
            let rows = if statement.contains("$4") {
                query.bind::<Text, _>(&self.person.key).execute(self.connection).await?
            } else {
                query.execute(self.connection).await?
            };
            self.count(rows);
        }
        Ok(())
    }

    /// Tickets that the person opened for others; returns the mails that may carry an invitation of theirs.
    async fn tickets_for_others(&mut self) -> Result<Vec<Mailed>, Error> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
            #[diesel(sql_type = Text)]
            user_id: String,
            #[diesel(sql_type = Text)]
            purpose: String,
        }
        let rows: Vec<Row> = diesel::sql_query(
            "update tickets set actor = $4 where id = any(array(\
             select id from tickets where actor = $1 and id < $2 limit $3)) returning id, user_id, purpose",
        )
        .bind::<Text, _>(&self.person.id)
        .bind::<SqlUuid, _>(self.before)
        .bind::<BigInt, _>(self.limit)
        .bind::<Text, _>(&self.person.key)
        .load(self.connection)
        .await?;
        self.count(rows.len());
        let invitations = rows.into_iter().filter(|row| row.purpose == "invite");
        let mailed = |row: Row| Mailed { user: row.user_id, from: millisecond(row.id, 0), to: Uuid::max() };
        Ok(invitations.map(mailed).collect())
    }

    /// The person's mails; returns where they went, and the templates of those that were cancelled.
    async fn mails(&mut self) -> Result<(BTreeSet<String>, Vec<String>), Error> {
        // Locked: an attempt in flight may be writing its result. It is waited for, and the next one finds nothing to settle.
        let mails: Vec<(Uuid, String, String, String)> = emails::table
            .filter(emails::user_id.eq(&self.person.id).and(emails::id.lt(self.before)))
            .order(emails::id.desc())
            .limit(self.limit)
            .select((emails::id, emails::to_address, emails::template, emails::state))
            .for_update()
            .load(self.connection)
            .await?;
        self.count(mails.len());
        let mut addresses = BTreeSet::from([self.person.email_key.clone()]);
        if mails.is_empty() {
            return Ok((addresses, Vec::new()));
        }
        addresses.extend(mails.iter().map(|(_, to, ..)| email_key(to)));
        let ids: Vec<Uuid> = mails.iter().map(|(id, ..)| *id).collect();
        diesel::update(emails::table.filter(emails::id.eq_any(&ids)))
            .set((
                emails::user_id.eq(&self.person.key),
                emails::to_address.eq(""),
                emails::locale.eq(None::<String>),
                emails::subject.eq(None::<String>),
                emails::facts.eq(serde_json::json!({})),
                emails::smtp_reply.eq(None::<String>),
                emails::command_id.eq(None::<String>),
                emails::traceparent.eq(None::<String>),
                emails::state.eq(sql("case state when 'queued' then 'cancelled' else state end")),
            ))
            .execute(self.connection)
            .await?;
        diesel::update(email_attempts::table.filter(email_attempts::email_id.eq_any(&ids)))
            .set(email_attempts::reply.eq(None::<String>))
            .execute(self.connection)
            .await?;
        let cancelled = mails.into_iter().filter(|(.., state)| state == "queued").map(|(_, _, template, _)| template);
        Ok((addresses, cancelled.collect()))
    }

    /// Addresses that nobody has any more: off the suppression list, and nobody asked for them.
    async fn addresses(&mut self, addresses: BTreeSet<String>, taken: &BTreeSet<String>) -> Result<(), Error> {
        let others: Vec<String> = users::table
            .filter(users::email_key.eq_any(&addresses))
            .select(users::email_key)
            .distinct()
            .load(self.connection)
            .await?;
        let free: Vec<&String> = addresses.iter().filter(|a| !others.contains(a) && !taken.contains(*a)).collect();
        diesel::delete(suppressions::table.filter(suppressions::email_key.eq_any(&free)))
            .execute(self.connection)
            .await?;
        let subjects: Vec<Uuid> = free.into_iter().map(|address| subject_key(self.keys, address)).collect();
        let rows = diesel::sql_query(
            "update activity set subject_key = null, ip = null, command_id = null where id = any(array(\
             select id from activity where subject_key = any($1) and id < $2 limit $3))",
        )
        .bind::<Array<SqlUuid>, _>(subjects)
        .bind::<SqlUuid, _>(self.before)
        .bind::<BigInt, _>(self.limit)
        .execute(self.connection)
        .await?;
        self.count(rows);
        Ok(())
    }

    /// What was done to the person, and what was answered.
    async fn history(&mut self) -> Result<(), Error> {
        type Row = (Uuid, String, Option<String>, String, Value);
        let rows: Vec<Row> = activity::table
            .filter(activity::user_id.eq(&self.person.id).and(activity::id.lt(self.before)))
            .order(activity::id.desc())
            .limit(self.limit)
            .select((activity::id, activity::publisher, activity::command_id, activity::outcome, activity::details))
            .load(self.connection)
            .await?;
        self.count(rows.len());
        if rows.is_empty() {
            return Ok(());
        }
        diesel::sql_query(
            "update activity a set user_id = $3, actor = case actor when $4 then $3 else actor end, command_id = null, \
             ip = null, subject_key = null, details = r.details \
             from unnest($1, $2) as r(id, details) where a.id = r.id",
        )
        .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind::<Array<Jsonb>, _>(rows.iter().map(|row| self.person.harmless(&row.4)).collect::<Vec<_>>())
        .bind::<Text, _>(&self.person.key)
        .bind::<Nullable<Text>, _>(self.person.actor())
        .execute(self.connection)
        .await?;
        let answer = |(_, publisher, command, outcome, _): &Row| {
            Some((inbox::key(self.keys, publisher, command.as_deref()?), inbox::forgotten(outcome)))
        };
        let answers: Vec<(Uuid, Value)> = rows.iter().filter_map(answer).collect();
        inbox::forget(self.connection, &answers).await
    }

    /// What the person did to others; returns the mails that those may have got by it.
    async fn deeds(&mut self) -> Result<Vec<Mailed>, Error> {
        let Some(actor) = self.person.actor() else { return Ok(Vec::new()) };
        let rows: Vec<(Uuid, Option<String>)> = activity::table
            .filter(activity::actor.eq(actor).and(activity::id.lt(self.before)))
            .order(activity::id.desc())
            .limit(self.limit)
            .select((activity::id, activity::user_id))
            .load(self.connection)
            .await?;
        self.count(rows.len());
        let ids: Vec<Uuid> = rows.iter().map(|row| row.0).collect();
        diesel::update(activity::table.filter(activity::id.eq_any(ids)))
            .set((
                activity::actor.eq(&self.person.key),
                activity::ip.eq(None::<String>),
                activity::command_id.eq(None::<String>),
            ))
            .execute(self.connection)
            .await?;
        let mailed = |(id, user)| Some(Mailed { user: user?, from: millisecond(id, 0), to: millisecond(id, 1) });
        Ok(rows.into_iter().filter_map(mailed).collect())
    }

    /// Takes the person out of mails to others.
    async fn others_mails(&mut self, mails: &[Mailed], facts: &str, command_id: &str) -> Result<(), Error> {
        if mails.is_empty() {
            return Ok(());
        }
        diesel::sql_query(format!(
            "update emails e set facts = e.{facts}, command_id = {command_id}, \
             subject = case when strpos(e.subject, e.facts->>'invited_by') > 0 then null else e.subject end \
             where e.id = any(array(\
             select m.id from unnest($1, $2, $3) as i(user_id, since, before), lateral (\
             select id from emails where user_id = i.user_id and id >= i.since and id < i.before order by id limit $4) m))"
        ))
        .bind::<Array<Text>, _>(mails.iter().map(|mail| mail.user.as_str()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(mails.iter().map(|mail| mail.from).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(mails.iter().map(|mail| mail.to).collect::<Vec<_>>())
        .bind::<BigInt, _>(MAILS_SINCE)
        .execute(self.connection)
        .await?;
        Ok(())
    }
}

/// The smallest id that could be made `after` milliseconds after this one: a batch makes all of its ids in one millisecond.
fn millisecond(id: Uuid, after: u128) -> Uuid {
    Uuid::from_u128(((id.as_u128() >> 80) + after) << 80)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::ids;

    #[test]
    fn ids_of_a_batch_are_found_by_their_millisecond() {
        let now = crate::clock::now();
        let mut ids = ids::Ids::default();
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let (first, second) = (ids.next(now, &mut rng), ids.next(now, &mut rng));
        assert_eq!(millisecond(second, 0), ids::floor(now));
        assert!(millisecond(second, 0) <= first && second < millisecond(first, 1));
    }
}
