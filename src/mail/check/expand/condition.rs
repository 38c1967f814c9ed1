//! Helpers: which exist, and what they ask.

use handlebars::template::{HelperTemplate, Parameter};
use serde_json::Value as Json;

use super::super::scope::Meaning;
use super::{Expander, Tag, did_you_mean};
use crate::mail::piece::{Condition, Operand, Piece};
use crate::mail::placeholder::Kind;
use crate::mail::problem::Rule;
use crate::mail::wording::Style;

/// The helpers that open a block.
const BLOCKS: [&str; 3] = ["if", "unless", "with"];
/// The helpers that stand in brackets, as in `{{#if (eq a b)}}`.
const QUESTIONS: [&str; 5] = ["eq", "ne", "not", "and", "or"];
/// The helpers that show a part of a moment.
const FORMATS: [(&str, Style); 2] = [("date", Style::Date), ("time", Style::Time)];

impl Expander<'_> {
    /// The one parameter of a block.
    pub(super) fn only_parameter<'p>(
        &mut self,
        block: &'p HelperTemplate,
        name: &str,
        tag: Tag,
    ) -> Option<&'p Parameter> {
        if block.params.len() != 1 || !block.hash.is_empty() {
            let message = format!("`{name}` takes exactly one thing to ask about");
            let help = match name {
                "with" => "write `{{#with user}}`",
                _ => "write `{{#if name}}`, or `{{#if (and one other)}}`",
            };
            self.report(Rule::HelperMisuse, tag, Some(name), message, Some(help.to_owned()));
        }
        block.params.first()
    }

    /// What a parameter asks; `None` after a problem.
    pub(super) fn condition(&mut self, parameter: &Parameter, tag: Tag) -> Option<Condition> {
        let Parameter::Subexpression(call) = parameter else {
            return match self.meaning(parameter, tag) {
                Meaning::One(operand) => Some(Condition::Operand(operand)),
                Meaning::Root | Meaning::Group(_) => {
                    let name = parameter.as_name().unwrap_or_default();
                    let message = format!("`{name}` is a group of placeholders, and so always there");
                    let help = self.members(name);
                    self.report(Rule::PlaceholderMisuse, tag, Some(name), message, Some(help));
                    None
                }
                Meaning::Unknown => None,
            };
        };
        let name = call_name(parameter);
        let empty = Vec::new();
        let params = call.params().unwrap_or(&empty);
        let fits = match name {
            "not" => params.len() == 1,
            "eq" | "ne" => params.len() == 2,
            "and" | "or" => params.len() >= 2,
            _ => {
                self.unknown_helper(name, tag);
                return None;
            }
        };
        if !fits || call.hash().is_some_and(|hash| !hash.is_empty()) {
            let count = match name {
                "not" => "one thing",
                "eq" | "ne" => "two things",
                _ => "two things or more",
            };
            let message = format!("`{name}` takes {count} to ask about");
            self.report(Rule::HelperMisuse, tag, Some(name), message, None);
            return None;
        }
        if matches!(name, "eq" | "ne") {
            let mut sides = params.iter().map(|p| self.operand(p, tag)).collect::<Vec<_>>().into_iter();
            let equal = Condition::Equal(sides.next()??, sides.next()??);
            return Some(if name == "ne" { Condition::Not(Box::new(equal)) } else { equal });
        }
        let inner: Vec<_> = params.iter().map(|p| self.condition(p, tag)).collect();
        let mut inner: Vec<_> = inner.into_iter().collect::<Option<_>>()?;
        match name {
            "not" => inner.pop().map(|c| Condition::Not(Box::new(c))),
            "and" => Some(Condition::All(inner)),
            _ => Some(Condition::Any(inner)),
        }
    }

    fn operand(&mut self, parameter: &Parameter, tag: Tag) -> Option<Operand> {
        match self.meaning(parameter, tag) {
            Meaning::One(operand) => Some(operand),
            Meaning::Root | Meaning::Group(_) => {
                let name = parameter.as_name().unwrap_or_default();
                let message = format!("`{name}` is a group of placeholders and cannot be compared");
                let help = self.members(name);
                self.report(Rule::PlaceholderMisuse, tag, Some(name), message, Some(help));
                None
            }
            Meaning::Unknown => None,
        }
    }

    /// What a parameter stands for: a name or a literal.
    pub(super) fn meaning(&mut self, parameter: &Parameter, tag: Tag) -> Meaning {
        let text = |text: String| Meaning::One(Operand::Text(text));
        match parameter {
            Parameter::Name(name) => self.resolve(name, tag),
            Parameter::Literal(Json::String(s)) => text(s.clone()),
            Parameter::Literal(Json::Bool(b)) => Meaning::One(Operand::Flag(*b)),
            Parameter::Literal(Json::Number(n)) => text(n.to_string()),
            Parameter::Literal(Json::Null) => text(String::new()),
            Parameter::Literal(_) => {
                let message = "lists and objects cannot be written in a tag";
                self.report(Rule::Unsupported, tag, None, message, None);
                Meaning::Unknown
            }
            Parameter::Subexpression(_) => {
                let message = "a helper in brackets can only stand in the condition of `{{#if}}`";
                self.report(Rule::HelperMisuse, tag, Some(call_name(parameter)), message, None);
                Meaning::Unknown
            }
            other => match other.as_name() {
                Some(name) => self.resolve(name, tag),
                None => Meaning::Unknown,
            },
        }
    }

    /// A helper where a value should stand: `{{eq a b}}`, `{{if a}}`, `{{shout name}}`.
    pub(super) fn inline_call(&mut self, call: &HelperTemplate, tag: Tag, out: &mut Vec<Piece>) {
        let name = match &call.name {
            Parameter::Subexpression(_) => call_name(&call.name),
            name => name.as_name().unwrap_or_default(),
        };
        if let Some((_, style)) = FORMATS.iter().find(|(known, _)| *known == name) {
            self.formatted(call, name, *style, tag, out);
        } else if BLOCKS.contains(&name) {
            let message = format!("`{name}` needs a block");
            let help = format!("write `{{{{#{name} …}}}}…{{{{/{name}}}}}`");
            self.report(Rule::HelperMisuse, tag, Some(name), message, Some(help));
        } else if QUESTIONS.contains(&name) {
            let message = format!("`{name}` asks a question and shows nothing");
            let help = format!("write `{{{{#if ({name} …)}}}}…{{{{/if}}}}`");
            self.report(Rule::HelperMisuse, tag, Some(name), message, Some(help));
        } else {
            self.unknown_helper(name, tag);
        }
    }

    /// `{{date …}}` and `{{time …}}`: a part of a moment.
    fn formatted(&mut self, call: &HelperTemplate, name: &str, style: Style, tag: Tag, out: &mut Vec<Piece>) {
        let help = || Some(format!("write `{{{{{name} expires_at}}}}`, with a placeholder that is a time"));
        let [parameter] = call.params.as_slice() else {
            let message = format!("`{name}` takes one placeholder, and nothing else");
            return self.report(Rule::HelperMisuse, tag, Some(name), message, help());
        };
        match self.meaning(parameter, tag) {
            Meaning::One(Operand::Placeholder(placeholder)) if placeholder.kind == Kind::Time => {
                if self.spend(1, 0, tag) {
                    out.push(Piece::Value { placeholder, style, at: self.at(tag, parameter.as_name()) });
                }
            }
            Meaning::Unknown => {}
            _ => {
                let message = format!("`{name}` shows a part of a time, and this is none");
                self.report(Rule::HelperMisuse, tag, parameter.as_name(), message, help());
            }
        }
    }

    /// `{{#each}}`: there is nothing that it could go through.
    pub(super) fn each(&mut self, block: &HelperTemplate, tag: Tag) {
        let name = block.params.first().and_then(Parameter::as_name);
        let meaning = block.params.first().map(|p| self.meaning(p, tag));
        if matches!(meaning, Some(Meaning::Unknown)) {
            return;
        }
        let message = match name {
            Some(name) => format!("`{name}` is not a list"),
            None => "`each` takes a list".to_owned(),
        };
        let help = "no placeholder is a list; use `{{#if}}` for what may be missing".to_owned();
        self.report(Rule::PlaceholderMisuse, tag, name, message, Some(help));
    }

    pub(super) fn unknown_helper(&mut self, name: &str, tag: Tag) {
        let known = BLOCKS.into_iter().chain(QUESTIONS).chain(FORMATS.map(|(name, _)| name));
        let list = known.clone().collect::<Vec<_>>().join("`, `");
        let (message, help) = if let Some(help) = super::names::block_word(name) {
            (format!("there is no helper `{name}`"), help)
        } else if self.scope.resolve(name).is_ok_and(|m| !matches!(m, Meaning::Unknown)) {
            let message = format!("`{name}` is a placeholder and takes no parameters or block");
            (message, format!("write `{{{{{name}}}}}`, or `{{{{#if {name}}}}}…{{{{/if}}}}`"))
        } else if matches!(name, "lookup" | "log" | "raw" | "len" | "gt" | "gte" | "lt" | "lte") {
            (format!("the helper `{name}` cannot be used in emails"), format!("helpers are: `{list}`"))
        } else {
            let help = did_you_mean(name, known);
            (format!("there is no helper `{name}`"), help.unwrap_or_else(|| format!("helpers are: `{list}`")))
        };
        self.report(Rule::UnknownHelper, tag, Some(name), message, Some(help));
    }
}

fn call_name(parameter: &Parameter) -> &str {
    match parameter {
        Parameter::Subexpression(call) => match call.as_element() {
            handlebars::template::TemplateElement::Expression(inner) => inner.name.as_name().unwrap_or_default(),
            _ => "",
        },
        other => other.as_name().unwrap_or_default(),
    }
}
