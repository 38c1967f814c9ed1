drop table erasures;
drop index tickets_run_out, sessions_impersonated_by, tickets_actor, sessions_ended;
alter table tickets drop column expired_at;
alter table sessions add constraint sessions_user_id_fkey foreign key (user_id) references users (id) not valid;
alter table tickets add constraint tickets_user_id_fkey foreign key (user_id) references users (id) not valid;
