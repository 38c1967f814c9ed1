//! Passwords: resets by link or code, and manual entry.

pub mod reset_complete;
pub mod reset_inspect;
pub mod reset_request;
pub mod set;
