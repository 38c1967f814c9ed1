//! Passwords: resets by link or code, changes, temporary passwords, and manual entry.

pub mod change;
pub mod check;
pub mod reset_cancel;
pub mod reset_complete;
pub mod reset_inspect;
pub mod reset_request;
pub mod reset_resend;
pub mod set;
pub mod temporary_issue;
