//! Reads templates with Handlebars, each file once.

use std::collections::HashMap;
use std::sync::Arc;

use handlebars::{Handlebars, TemplateErrorReason};

use super::expand::line_column;
use super::lookalike;
use super::tags;
use crate::mail::locate::{FileId, SourceFile, Sources};
use crate::mail::problem::{Problem, Rule};

/// A file that was parsed, or why it could not be.
#[derive(Clone)]
pub(super) enum Parsed {
    /// With what in it only looks like a tag or like HTML.
    Good(Arc<handlebars::Template>, Arc<[Problem]>),
    Bad(Box<Problem>),
}

/// Parses files and remembers them.
#[derive(Default)]
pub(super) struct Parser {
    parsed: HashMap<FileId, Parsed>,
}

impl Parser {
    /// Whether the file has been asked for already.
    pub fn knows(&self, file: FileId) -> bool {
        self.parsed.contains_key(&file)
    }

    pub fn parse(&mut self, sources: &Sources, file: FileId) -> Parsed {
        let parsed = self.parsed.entry(file).or_insert_with(|| match parse(sources.file(file)) {
            Ok(template) => Parsed::Good(Arc::new(template), lookalike::check(sources.file(file)).into()),
            Err(problem) => Parsed::Bad(problem),
        });
        parsed.clone()
    }
}

fn parse(file: &SourceFile) -> Result<handlebars::Template, Box<Problem>> {
    if let Some(fault) = &file.fault {
        return Err(Box::new(fault.clone()));
    }
    tags::scan(&file.text).map_err(|fault| {
        let (line, column) = line_column(&file.text, fault.at);
        let problem = Problem::of(Rule::Syntax, &file.path, fault.message);
        Box::new(Problem { help: fault.help, ..problem.at(&file.text, line, column, fault.length) })
    })?;
    // A partial keeps the blanks before its tag, and its lines are not indented by them.
    let mut registry = Handlebars::new();
    registry.set_prevent_indent(true);
    registry.register_template_string("it", &file.text).map_err(|error| {
        let message = match error.reason() {
            TemplateErrorReason::InvalidSyntax(_) => {
                "Handlebars cannot read this: look for a stray brace, quote or blank".to_owned()
            }
            other => other.to_string(),
        };
        let problem = Problem::of(Rule::Syntax, &file.path, message);
        Box::new(match error.pos() {
            Some((line, column)) => problem.at(&file.text, line, column, 0),
            None => problem,
        })
    })?;
    Ok(registry.get_template("it").cloned().unwrap_or_default())
}
