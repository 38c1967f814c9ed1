//! The rules. Nothing here does I/O, reads a clock or draws randomness of its own: a decision is a function of what it
//! is given, so each rule is tested in microseconds and reads like the sentence it implements.

pub mod access;
pub mod account;
pub mod decision;
pub mod email_address;
pub mod email_state;
pub mod explain;
pub mod limits;
pub mod policy;
pub mod rejection;
pub mod session;
pub mod temporary_password;
pub mod ticket;
pub mod time;
