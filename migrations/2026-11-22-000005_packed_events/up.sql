-- Events of one transaction share rows of the outbox. A row for each cost more to write, read and delete than what is in it.
alter table event_outbox add column count integer not null default 1;
-- A JSON array of {"name", "subject", "body"}, in the order in which they leave; an enclosed body is a string.
update event_outbox set body = '[{"name":' || to_json(name) || ',"subject":' || to_json(subject)
    || ',"body":' || case when starts_with(body, '{') then body else to_json(body)::text end || '}]';
alter table event_outbox rename column body to events;
alter table event_outbox alter column count drop default, drop column subject, drop column name;
-- A row is as large as a page holds, and stays on it: neither compressed nor cut into pieces, for the milliseconds that it
-- lives. So fewer of them are vacuumed together than when a page held many.
alter table event_outbox set (toast_tuple_target = 8160, autovacuum_vacuum_threshold = 1000);
