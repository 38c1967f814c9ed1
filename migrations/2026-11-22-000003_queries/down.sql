drop index activity_account, users_roles, users_invited, users_must_change_password, users_locked, users_inactive, users_blocked, users_site;
drop index if exists users_search;
drop function users_search_text;
