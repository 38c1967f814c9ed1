//! The values that labels can have.

/// Declares an enum whose variants are label values.
macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// How a delivery of a command ended.
    CommandOutcome {
        /// Done.
        Ok => "ok",
        /// Refused by a rule.
        Rejected => "rejected",
        /// Could not be understood; moved to the dead letters.
        Invalid => "invalid",
        /// Done before; answered with the first reply.
        Duplicate => "duplicate",
        /// Failed unexpectedly; to be tried again later.
        Retried => "retried",
        /// Somebody keeps locked in the database what it needs; tried again until it goes through.
        Postponed => "postponed",
        /// Nobody waited for it any more; not executed.
        Expired => "expired",
        /// Failed unexpectedly too often; moved to the dead letters.
        Buried => "buried",
    }
}

label! {
    /// Which queue a command came from.
    Lane {
        /// State and mail.
        State => "state",
        /// Passwords.
        Credentials => "credentials",
        /// Read-only.
        Queries => "queries",
        /// Routing keys that nobody binds.
        Unknown => "unknown",
    }
}

label! {
    /// What became of an email.
    EmailOutcome {
        /// Accepted by the mail server.
        Sent => "sent",
        /// Refused for good.
        Failed => "failed",
        /// An attempt failed; to be tried again.
        Retried => "retried",
        /// Nothing to say any more: its ticket is used, its template disabled, its person blocked.
        Cancelled => "cancelled",
        /// Its ticket ran out first.
        Expired => "expired",
        /// The address bounced or complained before.
        Suppressed => "suppressed",
    }
}

label! {
    /// How a sign-in ended: well, or with an error code, once it was understood.
    LoginOutcome {
        /// Signed in.
        Ok => "ok",
        /// Unknown person or wrong password.
        InvalidCredentials => "invalid_credentials",
        /// Too many wrong passwords before.
        AccountLocked => "account_locked",
        /// Right password, blocked person.
        UserBlocked => "user_blocked",
        /// Right password, inactive person.
        UserInactive => "user_inactive",
        /// Right temporary password: a new one must be chosen.
        PasswordChangeRequired => "password_change_required",
        /// Right temporary password, past its time.
        TemporaryPasswordExpired => "temporary_password_expired",
        /// The password of several profiles with the same address.
        AmbiguousUser => "ambiguous_user",
        /// A plain password, where they must be sealed.
        SealedRequired => "sealed_required",
        /// A sealed password that cannot be opened.
        SealedInvalid => "sealed_invalid",
        /// The publisher may not sign people in.
        PublisherNotAllowed => "publisher_not_allowed",
        /// In the name of the system, by a publisher that is none.
        ActorRequired => "actor_required",
        /// Under the message id of something else.
        MessageIdReused => "message_id_reused",
        /// Nobody waited for it any more; not tried.
        Expired => "expired",
        /// Failed unexpectedly too often.
        Internal => "internal",
    }
}

label! {
    /// What a ticket is for.
    TicketPurpose {
        /// A password reset.
        PasswordReset => "password_reset",
        /// An invitation.
        Invite => "invite",
        /// The verification of an email address.
        Verification => "verification",
    }
}

label! {
    /// What happened to a ticket.
    TicketEvent {
        /// Made.
        Opened => "opened",
        /// Used.
        Used => "used",
        /// Replaced by a newer one.
        Superseded => "superseded",
        /// Past its time, unused.
        Expired => "expired",
        /// Withdrawn.
        Revoked => "revoked",
        /// Killed by wrong tries.
        TooManyAttempts => "too_many_attempts",
    }
}

label! {
    /// A server that the daemon keeps a connection to.
    Target {
        /// `RabbitMQ`.
        Broker => "broker",
        /// `PostgreSQL`.
        Database => "database",
        /// The mail server.
        Smtp => "smtp",
    }
}

label! {
    /// What the mail provider said later of an email that it took.
    EmailReport {
        /// It is in the mailbox.
        Delivered => "delivered",
        /// It came back.
        Bounced => "bounced",
        /// Its reader called it spam.
        Complained => "complained",
    }
}

label! {
    /// What a pooled connection does.
    PoolState {
        /// It works.
        InUse => "in_use",
        /// It rests.
        Idle => "idle",
    }
}
