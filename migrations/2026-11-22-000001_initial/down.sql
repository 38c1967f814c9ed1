drop table rate_limits, event_outbox, inbox, activity, email_attempts, emails, suppressions, sessions, tickets, users;
