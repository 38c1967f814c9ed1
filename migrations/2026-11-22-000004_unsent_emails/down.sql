drop index concurrently if exists emails_unsent;
