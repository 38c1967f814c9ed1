//! Mails of the history, and proofs of addresses.

pub mod explain;
pub mod report;
pub mod resend;
pub mod unsuppress;
pub mod verification_complete;
pub mod verification_send;

use crate::domain::rejection::{Code, Rejection};

fn email_not_found() -> Rejection {
    Rejection::new(
        Code::EmailNotFound,
        "no email of the history has this id; those older than retention.emails are gone",
    )
}
