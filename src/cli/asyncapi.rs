//! `regrant asyncapi`: the reference as a document, made from the code.

use clap::Args;

use crate::asyncapi::contract::Contract;
use crate::asyncapi::{document, markdown, yaml};

/// The form of the document.
#[derive(Debug, Args)]
pub struct Asyncapi {
    /// Print YAML instead of JSON.
    #[arg(long, conflicts_with = "markdown")]
    yaml: bool,
    /// Print the reference for people (docs/reference.md) instead.
    #[arg(long)]
    markdown: bool,
}

/// The document.
pub fn text(asyncapi: &Asyncapi) -> String {
    let contract = Contract::gather();
    if asyncapi.markdown {
        return markdown::reference(&contract);
    }
    let document = document::document(&contract);
    if asyncapi.yaml { yaml::text(&document) } else { format!("{document:#}\n") }
}
