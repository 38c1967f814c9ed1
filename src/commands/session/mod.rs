//! Sessions: signing in, out, and being signed out.

pub mod check;
pub mod force_logout;
pub mod impersonate;
pub mod login;
pub mod logout;
