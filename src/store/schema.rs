//! The tables, as diesel sees them. `migrations/` says what each is for.

#![expect(missing_docs, reason = "`migrations/` says what each table and column is for")]

diesel::table! {
    users (id) {
        id -> Text,
        username -> Text,
        username_key -> Text,
        email -> Text,
        email_key -> Text,
        display_name -> Nullable<Text>,
        site -> Text,
        roles -> Array<Text>,
        locale -> Nullable<Text>,
        email_verified -> Bool,
        active -> Bool,
        blocked -> Bool,
        password_hash -> Nullable<Text>,
        previous_hashes -> Array<Text>,
        password_changed_at -> Nullable<Timestamptz>,
        must_change_password -> Bool,
        temporary_expires_at -> Nullable<Timestamptz>,
        failed_logins -> Int4,
        locked_until -> Nullable<Timestamptz>,
        invitation -> Text,
        session_epoch -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        last_login_at -> Nullable<Timestamptz>,
        imported_hash -> Nullable<Uuid>,
        temporary_requested_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    tickets (id) {
        id -> Uuid,
        user_id -> Text,
        purpose -> Text,
        method -> Text,
        key_id -> Text,
        state -> Text,
        requester -> Text,
        actor -> Nullable<Text>,
        requested_at -> Timestamptz,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        wrong_tries -> Int4,
        closed_at -> Nullable<Timestamptz>,
        newer_requested_at -> Nullable<Timestamptz>,
        expired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Text,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        end_reason -> Nullable<Text>,
        impersonated_by -> Nullable<Text>,
    }
}

diesel::table! {
    suppressions (email_key) {
        email_key -> Text,
        reason -> Text,
        since -> Timestamptz,
    }
}

diesel::table! {
    emails (id) {
        id -> Uuid,
        user_id -> Text,
        ticket_id -> Nullable<Uuid>,
        template -> Text,
        site -> Text,
        locale -> Nullable<Text>,
        to_address -> Text,
        subject -> Nullable<Text>,
        facts -> Jsonb,
        state -> Text,
        attempts -> Int4,
        queued_at -> Timestamptz,
        next_attempt_at -> Timestamptz,
        give_up_at -> Timestamptz,
        sent_at -> Nullable<Timestamptz>,
        smtp_reply -> Nullable<Text>,
        resend_of -> Nullable<Uuid>,
        command_id -> Nullable<Text>,
        traceparent -> Nullable<Text>,
    }
}

diesel::table! {
    email_attempts (email_id, attempt) {
        email_id -> Uuid,
        attempt -> Int4,
        at -> Timestamptz,
        outcome -> Text,
        reply -> Nullable<Text>,
    }
}

diesel::table! {
    activity (id) {
        id -> Uuid,
        at -> Timestamptz,
        kind -> Text,
        user_id -> Nullable<Text>,
        actor -> Nullable<Text>,
        publisher -> Text,
        command_id -> Nullable<Text>,
        outcome -> Text,
        ip -> Nullable<Text>,
        subject_key -> Nullable<Uuid>,
        details -> Jsonb,
    }
}

diesel::table! {
    inbox (key) {
        key -> Uuid,
        fingerprint -> Uuid,
        reply -> Jsonb,
        received_at -> Timestamptz,
    }
}

diesel::table! {
    event_outbox (seq) {
        seq -> Int8,
        count -> Int4,
        events -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    erasures (id) {
        id -> Uuid,
        sealed -> Text,
        due_at -> Timestamptz,
    }
}

diesel::table! {
    rate_limits (key) {
        key -> Uuid,
        window_started_at -> Timestamptz,
        count -> Int4,
        last_at -> Timestamptz,
    }
}

diesel::allow_tables_to_appear_in_same_query!(users, tickets, sessions, suppressions, emails);
