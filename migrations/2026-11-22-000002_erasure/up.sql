-- Erasing a person, and counting tickets that ran out.
--
-- A person's row goes first, so that whoever writes about them at that moment is waited for; their tickets and sessions go
-- in bounded steps after it. What kept these from pointing at nobody was never the constraint, but the lock on the person's
-- row that every writer holds.
alter table tickets drop constraint tickets_user_id_fkey;
alter table sessions drop constraint sessions_user_id_fkey;

-- Sessions that ended, of an erased person. Beside `sessions_live`, not instead of it: a sign-in must not read past the
-- thousands of ended sessions of a machine that signs in all day.
create index sessions_ended on sessions (user_id) where ended_at is not null;
-- What an erased person did for others.
create index tickets_actor on tickets (actor) where actor is not null;
create index sessions_impersonated_by on sessions (impersonated_by) where impersonated_by is not null;

-- When it was noticed that a ticket's time was over: each is counted once, by one daemon.
alter table tickets add column expired_at timestamptz;
create index tickets_run_out on tickets (expires_at) where state = 'open' and expired_at is null;

-- What is left to do of erasures that were too large for one transaction.
create table erasures (
    id uuid primary key,
    -- Whom: sealed, so that this table does not name who is to be forgotten.
    sealed text not null,
    due_at timestamptz not null
);
create index erasures_due on erasures (due_at);
