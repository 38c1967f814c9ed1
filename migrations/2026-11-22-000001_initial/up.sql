-- The first schema.
--
-- Rules that every table keeps:
--   * ids made by the daemon are UUIDv7, so primary keys grow to the right and retention deletes by key range;
--   * text keys are collated "C": they are compared for equality and order only, never shown sorted to people;
--   * each index is there for a named query; a table that is only inserted into has few;
--   * histories (emails, activity) have no foreign key to users: they outlive an erased person and are written in bulk.

create table users (
    id text collate "C" primary key check (length(id) between 1 and 128),
    username text not null,
    username_key text collate "C" not null,
    email text not null,
    email_key text collate "C" not null,
    display_name text,
    site text collate "C" not null,
    roles text[] not null default '{}',
    locale text,
    email_verified boolean not null default false,
    active boolean not null default true,
    blocked boolean not null default false,
    password_hash text,
    -- Newest first; only as many as the policy's `history` looks at.
    previous_hashes text[] not null default '{}',
    password_changed_at timestamptz,
    must_change_password boolean not null default false,
    temporary_expires_at timestamptz,
    failed_logins integer not null default 0,
    locked_until timestamptz,
    invitation text collate "C" not null default 'none' check (invitation in ('none', 'pending', 'accepted')),
    session_epoch bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    last_login_at timestamptz,
    constraint users_username_key unique (username_key)
) with (fillfactor = 85); -- sign-ins update unindexed columns only: room on the page keeps those updates HOT
-- Commands that name a person by email.
create index users_email_key on users (email_key);

create table tickets (
    id uuid primary key,
    user_id text collate "C" not null references users (id),
    purpose text collate "C" not null check (purpose in ('password_reset', 'invite', 'verification', 'password_change')),
    method text collate "C" not null check (method in ('link', 'code')),
    -- Which token key derives the link or code; the secret itself is never stored.
    key_id text collate "C" not null,
    state text collate "C" not null check (state in ('open', 'completed', 'superseded', 'revoked', 'too_many_attempts')),
    requester text collate "C" not null check (requester in ('self', 'system', 'actor')),
    actor text collate "C",
    requested_at timestamptz not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    wrong_tries integer not null default 0,
    closed_at timestamptz,
    -- When the request that superseded this one was made.
    newer_requested_at timestamptz
);
-- A person's newest tickets, and their history page by page. Also serves the foreign key.
create index tickets_user on tickets (user_id, id desc);
-- The tickets that a new one supersedes: at most one of a purpose a person.
create unique index tickets_one_open on tickets (user_id, purpose) where state = 'open';

create table sessions (
    id uuid primary key,
    user_id text collate "C" not null references users (id),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    end_reason text,
    impersonated_by text collate "C"
);
-- Sessions that a forced sign-out ends. Also serves the foreign key for what is live.
create index sessions_live on sessions (user_id) where ended_at is null;

create table suppressions (
    email_key text collate "C" primary key,
    reason text not null,
    since timestamptz not null
);

create table emails (
    id uuid primary key,
    user_id text collate "C" not null,
    ticket_id uuid,
    template text collate "C" not null,
    site text collate "C" not null,
    locale text collate "C",
    to_address text not null,
    subject text,
    -- Plain data for the template. Links and codes are derived when the mail is rendered.
    facts jsonb not null,
    state text collate "C" not null check (state in
        ('queued', 'sent', 'failed', 'expired', 'cancelled', 'suppressed', 'bounced', 'complained', 'delivered')),
    attempts integer not null default 0,
    queued_at timestamptz not null,
    -- When a poller may take the mail: a retry's delay, or the lease of whoever is sending it now.
    next_attempt_at timestamptz not null,
    -- No attempt is begun after this.
    give_up_at timestamptz not null,
    sent_at timestamptz,
    smtp_reply text,
    resend_of uuid,
    command_id text,
    traceparent text
) with (fillfactor = 80);
-- What a crash or a refusal left behind, oldest first; holds only what is waiting.
create index emails_due on emails (next_attempt_at) where state = 'queued';
-- A person's history page by page.
create index emails_user on emails (user_id, id desc);

-- One row for each attempt that did not end in acceptance.
create table email_attempts (
    email_id uuid not null,
    attempt integer not null,
    at timestamptz not null,
    outcome text collate "C" not null,
    reply text,
    primary key (email_id, attempt)
);

create table activity (
    id uuid primary key,
    at timestamptz not null,
    kind text collate "C" not null,
    user_id text collate "C",
    actor text collate "C",
    publisher text collate "C" not null,
    command_id text,
    outcome text collate "C" not null,
    ip text,
    -- Keyed hash of the address that was asked for when no profile has it.
    subject_key uuid,
    details jsonb not null default '{}'
);
create index activity_user on activity (user_id, id desc) where user_id is not null;
create index activity_actor on activity (actor, id desc) where actor is not null;
create index activity_subject on activity (subject_key, id desc) where subject_key is not null;

-- What each command was answered, so that its repetition is answered the same. `key` is a keyed hash of
-- (publisher, message id) and `fingerprint` one of (command, body): bodies hold passwords.
create table inbox (
    key uuid primary key,
    fingerprint uuid not null,
    reply jsonb not null,
    received_at timestamptz not null
);
-- Retention; grows to the right.
create index inbox_received on inbox (received_at);

-- Events that are committed but not yet confirmed by the broker. A row lives for milliseconds.
create table event_outbox (
    seq bigint generated always as identity primary key,
    -- Whom it is about: a person's events leave in order.
    subject text not null,
    name text not null,
    body text not null,
    created_at timestamptz not null
);

-- Fixed-window counters and last times, keyed by a keyed hash of what is limited.
create table rate_limits (
    key uuid primary key,
    window_started_at timestamptz not null,
    count integer not null,
    last_at timestamptz not null
) with (fillfactor = 85);

-- Queues churn: vacuum them by what changed, not by their size.
alter table event_outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
alter table emails set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
