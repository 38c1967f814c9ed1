//! Mail: what is written, and how it leaves.
//!
//! [`catalogue`] says which templates exist and which placeholders each may use. [`locate`] reads the
//! templates directory, `check` finds every fault in it and turns each file into a short program of
//! `piece`s, and [`render`] runs that program with the values that [`mod@context`] has prepared. So what
//! was checked is exactly what is sent: nothing is parsed or looked up by name of a file afterwards.
//! [`listing`] and [`report`] are for the shell: what `regrant templates list` and `templates check` print.
//! [`message`] makes a MIME message of the three texts; [`transport`] and [`smtp`] hand it over.

pub mod catalogue;
mod check;
mod clean;
pub mod context;
pub mod listing;
pub mod locate;
pub mod message;
mod piece;
pub mod placeholder;
pub mod problem;
pub mod quoted;
pub mod render;
pub mod report;
pub mod retry;
pub mod sender;
pub mod smtp;
mod surroundings;
pub mod transport;
pub mod verdict;
pub mod watch;
mod wording;

pub use catalogue::Template;
pub use context::{Context, Facts, Person, Secrets, SiteFacts, context};
pub use problem::{Problem, Rule};
pub use render::{LoadError, Loaded, RenderError, Rendered, TemplateSet};
