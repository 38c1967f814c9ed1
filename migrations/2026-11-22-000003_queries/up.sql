-- What user.search, history.activity, history.passwords and email.explain read by.
--
-- The indexes are built inside the migration: no release had these tables yet. On a large table of later days an index
-- needs a migration of its own, with `create index concurrently`.

-- Everything that user.search looks for a text in. The fields are set apart by a character that no field can hold, so that
-- a text matches inside one of them, and a field's beginning can be asked for.
--
-- The keys are folded by the daemon. The display name is stored as it was given and folded here; `lower` of a database in
-- the locale "C" knows ASCII only, so ICU's is taken where there is one.
do $$
declare
    folded text := 'lower(display_name)';
begin
    if getdatabaseencoding() = 'UTF8' then
        folded := 'lower(normalize(display_name, nfc))';
        if exists (select from pg_catalog.pg_collation where collname = 'und-x-icu') then
            folded := 'lower(normalize(display_name, nfc) collate pg_catalog."und-x-icu")';
        end if;
    end if;
    execute format(
        'create function users_search_text(username_key text, email_key text, display_name text) returns text
         language sql immutable parallel safe
         as $f$ select chr(1) || username_key || chr(1) || email_key || chr(1) || coalesce(%s, '''') $f$',
        folded);
end
$$;

-- A text anywhere in a name, by its trigrams. The extension is part of PostgreSQL and `trusted`: whoever may create objects
-- in the database may create it. Where it is missing or forbidden all else works, and `regrant check` says what to do.
do $$
declare
    home text;
begin
    create extension if not exists pg_trgm;
    select nspname into strict home
        from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        where extname = 'pg_trgm';
    -- A short list of what is not yet in the index proper: whoever fills it up waits for milliseconds, not for seconds.
    execute format(
        'create index users_search on users
         using gin (users_search_text(username_key, email_key, display_name) %I.gin_trgm_ops)
         with (gin_pending_list_limit = 256)',
        home);
exception when others then
    raise notice 'user.search has no index for parts of a name: %', sqlerrm;
end
$$;

-- A site's people, and the few in an unusual state, in the order of pages.
create index users_site on users (site, username_key);
create index users_blocked on users (username_key) where blocked;
create index users_inactive on users (username_key) where not active;
create index users_locked on users (username_key) where locked_until is not null;
create index users_must_change_password on users (username_key) where must_change_password;
create index users_invited on users (username_key) where invitation = 'pending';
-- Holders of a rare role.
create index users_roles on users using gin (roles);

-- What happened to an account, without the sign-ins that outnumber everything else.
create index activity_account on activity (user_id, id desc) where user_id is not null and kind not like 'session.%';
