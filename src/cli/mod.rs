//! The shell.

pub mod config_show;
pub mod keys;
