//! Turns what Handlebars has parsed into [`Piece`]s: names bound to placeholders, partials put in their
//! places with their parameters. Whatever cannot be bound is a [`Problem`].

use std::collections::BTreeSet;

use handlebars::template::{BlockParam, HelperTemplate, Parameter, TemplateElement};

use super::parse::{Parsed, Parser};
use super::scope::{Meaning, Scope};
use crate::mail::catalogue::Template;
use crate::mail::locate::{FileId, Form, Place, Sources};
use crate::mail::piece::{At, Condition, Operand, Piece, escape_html};
use crate::mail::placeholder::Kind;
use crate::mail::problem::{Problem, Rule};
use crate::mail::wording::Style;
use crate::spelling::nearest;

mod condition;
mod names;
mod partials;

pub(super) use names::{line_column, offset};

/// How much a body may become by its partials: pieces, and bytes of text.
const MAX_PIECES: usize = 20_000;
const MAX_TEXT: usize = 1024 * 1024;

/// The pieces of a file and what is wrong with them.
#[derive(Default)]
pub(super) struct Expansion {
    pub pieces: Vec<Piece>,
    pub problems: Vec<Problem>,
    /// The partials that it includes, directly or through others.
    pub partials: BTreeSet<FileId>,
}

/// Expands a file as part of a template for a site (its partials come before those of all), or (without a template) a
/// partial that no template includes.
pub(super) fn expand(
    sources: &Sources,
    parser: &mut Parser,
    template: Option<Template>,
    site: Option<&str>,
    form: Form,
    file: FileId,
) -> Expansion {
    let mut expander = Expander {
        sources,
        parser,
        form,
        place: Place { site, locale: sources.file(file).locale.as_ref() },
        scope: Scope::new(template),
        including: vec![file],
        blocks: vec![None],
        problems: Vec::new(),
        giving: None,
        partials: BTreeSet::new(),
        pieces_left: MAX_PIECES,
        text_left: MAX_TEXT,
    };
    let mut pieces = Vec::new();
    expander.file(file, &mut pieces);
    Expansion { pieces, problems: expander.problems, partials: expander.partials }
}

struct Expander<'a> {
    sources: &'a Sources,
    parser: &'a mut Parser,
    form: Form,
    /// Where partials are looked for: with the body that includes them, so that its words and theirs are of one language.
    place: Place<'a>,
    scope: Scope,
    /// The files that include each other down to here.
    including: Vec<FileId>,
    /// What `@partial-block` stands for, by depth of inclusion.
    blocks: Vec<Option<Vec<Piece>>>,
    problems: Vec<Problem>,
    /// The parameter of a partial whose value is being looked at; empty for one without a name.
    giving: Option<String>,
    partials: BTreeSet<FileId>,
    pieces_left: usize,
    text_left: usize,
}

/// Where a tag stands.
#[derive(Clone, Copy)]
struct Tag {
    file: FileId,
    line: usize,
    column: usize,
    /// `{{else if …}}`, whose place the parser does not keep: `line` and `column` are those of the block.
    is_else: bool,
}

impl Tag {
    /// Where words begin, not the tag after them.
    fn words(self) -> At {
        At { file: self.file, line: self.line, column: self.column, length: 0 }
    }
}

impl Expander<'_> {
    fn file(&mut self, file: FileId, out: &mut Vec<Piece>) {
        match self.parser.parse(self.sources, file) {
            Parsed::Good(template, lookalikes) => {
                let here = lookalikes.iter().filter(|found| found.rule != Rule::Markup || self.form == Form::Text);
                self.problems.extend(here.cloned());
                self.template(&template, file, None, out);
            }
            Parsed::Bad(problem) => self.problems.push(*problem),
        }
    }

    fn template(&mut self, template: &handlebars::Template, file: FileId, chain: Option<Tag>, out: &mut Vec<Piece>) {
        for (i, element) in template.elements.iter().enumerate() {
            let tag = match (template.mapping.get(i), chain) {
                (Some(at), _) => Tag { file, line: at.0, column: at.1, is_else: false },
                (None, Some(outer)) => Tag { is_else: true, ..outer },
                (None, None) => Tag { file, line: 1, column: 1, is_else: false },
            };
            self.element(element, tag, out);
        }
    }

    fn element(&mut self, element: &TemplateElement, tag: Tag, out: &mut Vec<Piece>) {
        match element {
            TemplateElement::RawString(text) => self.text(text.clone(), tag, tag.words(), out),
            TemplateElement::Expression(call) => self.expression(call, tag, false, out),
            TemplateElement::HtmlExpression(call) => self.expression(call, tag, true, out),
            TemplateElement::HelperBlock(block) => self.block(block, tag, out),
            TemplateElement::PartialExpression(include) | TemplateElement::PartialBlock(include) => {
                self.include(include, tag, out);
            }
            TemplateElement::Comment(_) => {}
            // Decorators, and whatever a later version of Handlebars may bring.
            _ => {
                let message = "decorators such as `{{#*inline}}` cannot be used in emails";
                let help = "put the shared piece into a file in partials/";
                self.report(Rule::Unsupported, tag, None, message, Some(help.to_owned()));
            }
        }
    }

    /// Words that stand `at` a place.
    fn text(&mut self, text: String, tag: Tag, at: At, out: &mut Vec<Piece>) {
        if !text.is_empty() && self.spend(1, text.len(), tag) {
            out.push(Piece::Text { text, at });
        }
    }

    /// `{{name}}` or `{{{name}}}`.
    fn expression(&mut self, call: &HelperTemplate, tag: Tag, raw: bool, out: &mut Vec<Piece>) {
        let name = call.name.as_name();
        if raw && self.form == Form::Html {
            let shown = name.unwrap_or_default();
            let message = format!("`{{{{{{{shown}}}}}}}` puts text into HTML without escaping it");
            let help = format!("write `{{{{{shown}}}}}`: otherwise `<` in a name becomes part of the page");
            self.report(Rule::Unescaped, tag, name, message, Some(help));
        }
        let Some(name) = name.filter(|_| call.params.is_empty() && call.hash.is_empty()) else {
            self.inline_call(call, tag, out);
            return;
        };
        match self.resolve(name, tag) {
            Meaning::One(Operand::Placeholder(placeholder)) if placeholder.kind == Kind::Flag => {
                let message = format!("`{name}` is a yes or no, which cannot be shown");
                let help = format!("ask for it: `{{{{#if {name}}}}}…{{{{else}}}}…{{{{/if}}}}`");
                self.report(Rule::PlaceholderMisuse, tag, Some(name), message, Some(help));
            }
            Meaning::One(Operand::Placeholder(placeholder)) => {
                if self.spend(1, 0, tag) {
                    out.push(Piece::Value { placeholder, style: Style::Full, at: self.at(tag, Some(name)) });
                }
            }
            Meaning::One(Operand::Text(text)) => {
                let mut escaped = String::new();
                match self.form {
                    Form::Html => escape_html(&text, &mut escaped),
                    Form::Text => escaped = text,
                }
                let at = self.scope.given(name).unwrap_or_else(|| tag.words());
                self.text(escaped, tag, at, out);
            }
            Meaning::One(Operand::Flag(flag)) => self.text(flag.to_string(), tag, tag.words(), out),
            Meaning::Root | Meaning::Group(_) => {
                let message = format!("`{name}` is not a single placeholder, but a group of them");
                let help = self.members(name);
                self.report(Rule::PlaceholderMisuse, tag, Some(name), message, Some(help));
            }
            Meaning::Unknown => {}
        }
    }

    /// `{{#if}}`, `{{#unless}}`, `{{#with}}`.
    fn block(&mut self, block: &HelperTemplate, tag: Tag, out: &mut Vec<Piece>) {
        let name = block.name.as_name().unwrap_or_default();
        let (mut then, mut otherwise) = (Vec::new(), Vec::new());
        let condition = match name {
            "if" | "unless" => {
                let condition = self.only_parameter(block, name, tag);
                let condition = condition.and_then(|p| self.condition(p, tag));
                self.branch(block.template.as_ref(), tag, &mut then);
                match name {
                    "unless" => condition.map(|c| Condition::Not(Box::new(c))),
                    _ => condition,
                }
            }
            "with" => {
                let base = self.only_parameter(block, name, tag);
                let base = base.map_or(Meaning::Unknown, |p| self.meaning(p, tag));
                let condition = match &base {
                    Meaning::One(operand) => Some(Condition::Operand(operand.clone())),
                    _ => None,
                };
                let names = block_names(block.block_param.as_ref(), &base);
                self.scope.enter(Some(base), names);
                self.branch(block.template.as_ref(), tag, &mut then);
                self.scope.leave();
                Some(condition.unwrap_or(Condition::Operand(Operand::Flag(true))))
            }
            _ => {
                if name == "each" {
                    self.each(block, tag);
                } else {
                    self.unknown_helper(name, tag);
                }
                // Only to find what else is wrong in it.
                let names = block_names(block.block_param.as_ref(), &Meaning::Unknown);
                self.scope.enter(Some(Meaning::Unknown), names);
                self.branch(block.template.as_ref(), tag, &mut then);
                self.scope.leave();
                None
            }
        };
        self.branch(block.inverse.as_ref(), tag, &mut otherwise);
        // Without a condition something is wrong with it, which has been said: nothing will be rendered.
        if let Some(condition) = condition {
            match condition.constant() {
                Some(true) => out.append(&mut then),
                Some(false) => out.append(&mut otherwise),
                None => out.push(Piece::Branch { condition, then, otherwise }),
            }
        } else {
            out.append(&mut then);
            out.append(&mut otherwise);
        }
    }

    fn branch(&mut self, template: Option<&handlebars::Template>, tag: Tag, out: &mut Vec<Piece>) {
        if let Some(template) = template {
            self.template(template, tag.file, Some(tag), out);
        }
    }

    /// Takes from what the body may grow by; says once when that is used up.
    fn spend(&mut self, pieces: usize, text: usize, tag: Tag) -> bool {
        if self.pieces_left == 0 {
            return false;
        }
        if self.pieces_left <= pieces || self.text_left < text {
            self.pieces_left = 0;
            let message = "what this includes, and includes again, is too large for an email";
            self.report(Rule::TooLarge, tag, None, message, None);
            return false;
        }
        self.pieces_left -= pieces;
        self.text_left -= text;
        true
    }

    /// Reports a fault of a tag, at the name in it if there is one.
    fn report(&mut self, rule: Rule, tag: Tag, name: Option<&str>, message: impl Into<String>, help: Option<String>) {
        let file = self.sources.file(tag.file);
        let at = self.at(tag, name);
        let problem = Problem::of(rule, &file.path, message).at(&file.text, at.line, at.column, at.length);
        self.problems.push(Problem { help, ..problem });
    }

    fn at(&self, tag: Tag, name: Option<&str>) -> At {
        let source = &self.sources.file(tag.file).text;
        names::place(source, (tag.line, tag.column), tag.is_else, name, tag.file)
    }
}

/// The names that `as |name|` gives; a second one, the key, means nothing without lists.
fn block_names(given: Option<&BlockParam>, base: &Meaning) -> Vec<(String, Meaning)> {
    let bind = |p: &Parameter, meaning: Meaning| p.as_name().map(|name| (name.to_owned(), meaning));
    match given {
        Some(BlockParam::Single(one)) => bind(one, base.clone()).into_iter().collect(),
        Some(BlockParam::Pair((one, two))) => {
            [bind(one, base.clone()), bind(two, Meaning::Unknown)].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// How many pieces, and bytes of text in all their branches.
pub(super) fn size(pieces: &[Piece]) -> (usize, usize) {
    pieces.iter().fold((0, 0), |(count, text), piece| match piece {
        Piece::Text { text: t, .. } => (count + 1, text + t.len()),
        Piece::Value { .. } => (count + 1, text),
        Piece::Branch { then, otherwise, .. } => {
            let ((a, b), (c, d)) = (size(then), size(otherwise));
            (count + 1 + a + c, text + b + d)
        }
    })
}

/// The nearest of the names, as a question.
fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|name| format!("did you mean `{name}`?"))
}
