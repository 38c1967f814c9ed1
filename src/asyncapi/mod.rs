//! The reference as documents, made from the code: an [`AsyncAPI`](https://www.asyncapi.com/docs/reference/specification/v3.0.0)
//! 3.0 document as JSON or YAML, and the reference of `docs/` as Markdown.
//!
//! [`contract`] gathers what the commands, events and errors say of themselves; [`document`] and [`markdown`] only render it.

pub mod contract;
pub mod document;
pub mod errors;
pub mod markdown;
pub mod yaml;

mod properties;
mod schemas;

#[cfg(test)]
mod tests;
