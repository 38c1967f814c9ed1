alter table users drop column imported_hash, drop column temporary_requested_at;
