-- What `regrant emails` lists by its state: mails that did not arrive, few among the many that did. Built while daemons write.
create index concurrently if not exists emails_unsent on emails (state, id desc)
    where state in ('failed', 'expired', 'cancelled', 'suppressed', 'bounced', 'complained');
