//! `regrant templates preview`: a page on this machine that shows every email as it will look, and what is wrong with it.
//!
//! [`sample`] makes up people and emails; [`studio`] reads the templates directory whenever something in it is saved, and
//! keeps last good versions as the daemon does; `answer` says it as JSON, `server` serves it, and `assets/` is the page.
//! Needs no database, no broker and no keys, and shows nobody's data.

mod answer;
mod assets;
pub mod sample;
mod server;
pub mod studio;

pub use server::serve;
