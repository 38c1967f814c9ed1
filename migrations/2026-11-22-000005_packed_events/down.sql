alter table event_outbox add column subject text, add column name text, add column body text;
-- With new numbers, after all that there are, in the same order.
insert into event_outbox (count, events, subject, name, body, created_at)
    select 1, '', e->>'subject', e->>'name',
        case json_typeof(e->'body') when 'object' then (e->'body')::text else e->>'body' end, created_at
    from event_outbox, json_array_elements(events::json) with ordinality as a(e, place) order by seq, place;
delete from event_outbox where subject is null;
alter table event_outbox drop column count, drop column events,
    alter column subject set not null, alter column name set not null, alter column body set not null;
alter table event_outbox reset (toast_tuple_target);
alter table event_outbox set (autovacuum_vacuum_threshold = 10000);
