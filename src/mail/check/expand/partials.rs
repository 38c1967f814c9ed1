//! Partials: put in their places, with the parameters that they are given.

use std::collections::HashMap;

use handlebars::template::{DecoratorTemplate, Parameter};

use super::super::scope::Meaning;
use super::{Expander, Tag, size};
use crate::mail::locate::FileId;
use crate::mail::piece::Piece;
use crate::mail::problem::Rule;

/// How deep partials may include each other.
const MAX_PARTIALS: usize = 16;
/// The name under which a partial includes what stands in its block.
const BLOCK: &str = "@partial-block";

impl Expander<'_> {
    /// `{{> partial}}` or `{{#> partial}}…{{/partial}}`.
    pub(super) fn include(&mut self, include: &DecoratorTemplate, tag: Tag, out: &mut Vec<Piece>) {
        let name = match include.name.as_name() {
            Some(BLOCK) => return self.partial_block(include, tag, out),
            Some(name) => name,
            None => {
                let message = "the name of a partial must be written out";
                return self.report(Rule::Unsupported, tag, None, message, None);
            }
        };
        let before = self.problems.len();
        let parameters = self.parameters(&include.hash, tag);
        // After a word without quotes, the next one would seem to be a base.
        let base = include.params.first().filter(|_| self.problems.len() == before);
        self.giving = Some(String::new());
        let base = base.map(|p| self.meaning(p, tag));
        self.giving = None;
        let found = self.sources.partial(name, self.form, self.place);
        if found.is_none() {
            self.unknown_partial(name, tag);
        }
        self.scope.enter_partial(base, parameters, self.at(tag, None));
        let block = include.template.as_ref().map(|content| {
            let mut pieces = Vec::new();
            self.template(content, tag.file, None, &mut pieces);
            pieces
        });
        if let Some(file) = found
            && self.may_include(file, name, tag)
        {
            self.partials.insert(file);
            self.including.push(file);
            self.blocks.push(block);
            self.file(file, out);
            self.blocks.pop();
            self.including.pop();
        }
        self.scope.leave();
    }

    /// `{{> @partial-block}}`: what stands between the tags that included this partial.
    fn partial_block(&mut self, include: &DecoratorTemplate, tag: Tag, out: &mut Vec<Piece>) {
        match self.blocks.last().cloned().flatten() {
            Some(pieces) => {
                let (count, text) = size(&pieces);
                if self.spend(count, text, tag) {
                    out.extend(pieces);
                }
            }
            None if include.template.is_some() => self.branch(include.template.as_ref(), tag, out),
            None if self.scope.template().is_none() => {}
            None => {
                let message = "there is nothing here for `@partial-block` to stand for";
                let help = match self.including.len() {
                    1 => "it is for partials only".to_owned(),
                    _ => "include this partial as `{{#> name}}…{{/name}}`".to_owned(),
                };
                self.report(Rule::UnknownPartial, tag, Some(BLOCK), message, Some(help));
            }
        }
    }

    fn parameters(&mut self, hash: &HashMap<String, Parameter>, tag: Tag) -> Vec<(String, Meaning)> {
        let mut sorted: Vec<_> = hash.iter().collect();
        sorted.sort_by_key(|(name, _)| name.as_str());
        let mut parameters = Vec::new();
        for (name, parameter) in sorted {
            self.giving = Some(name.clone());
            parameters.push((name.clone(), self.meaning(parameter, tag)));
        }
        self.giving = None;
        parameters
    }

    /// Whether a partial may be included here: not if it is being included already, which would go on
    /// for ever.
    fn may_include(&mut self, file: FileId, name: &str, tag: Tag) -> bool {
        if let Some(from) = self.including.iter().position(|f| *f == file) {
            let path = |id: &FileId| self.sources.file(*id).path.display().to_string();
            let mut circle: Vec<_> = self.including[from..].iter().map(path).collect();
            circle.push(path(&file));
            let message = match circle.len() {
                2 => format!("`{name}` includes itself"),
                _ => format!("these include each other: {}", circle.join(" → ")),
            };
            self.report(Rule::PartialCycle, tag, Some(name), message, None);
            return false;
        }
        if self.including.len() > MAX_PARTIALS {
            let message = format!("partials include each other more than {MAX_PARTIALS} deep");
            self.report(Rule::PartialCycle, tag, Some(name), message, None);
            return false;
        }
        self.pieces_left > 0
    }
}
