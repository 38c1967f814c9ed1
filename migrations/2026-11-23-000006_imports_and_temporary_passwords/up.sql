-- Which hash was imported last, as a keyed hash: the same one again changes nothing, whatever the password is by now.
alter table users add column imported_hash uuid;
-- When the temporary password was asked for that is pending: one that was asked for earlier does not replace it.
alter table users add column temporary_requested_at timestamptz;
