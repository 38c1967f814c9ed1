//! What stands between the braces of a tag: signs that word processors put there, and the conditions of other languages.
//! Handlebars would only say that it cannot read them.

use super::{Fault, fault};
use crate::domain::email_address::is_invisible;

/// Quotes as word processors set them.
pub(in crate::mail::check) const TYPOGRAPHIC_QUOTES: [char; 11] =
    ['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '＂'];

/// Looks at the first sign that cannot stand in a tag, and at the condition of `{{#if}}`.
pub(super) fn check(tag: &str, start: usize) -> Result<(), Fault> {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match quote {
            Some(q) if q == c => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if TYPOGRAPHIC_QUOTES.contains(&c) => {
                let message = "these are typographic quotes".to_owned();
                return Err(at_sign(start + at, message, "type the plain sign `\"` in their place".to_owned()));
            }
            None if is_unseen(c) => {
                let message = format!("a character that nobody sees (U+{:04X}) stands in this tag", u32::from(c));
                let clean: String = tag.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
                let clean: String = clean.chars().filter(|c| !is_unseen(*c)).collect();
                let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
                let clean = clean.replace("{{ ", "{{").replace(" }}", "}}");
                return Err(at_sign(start + at, message, format!("type the tag anew: `{clean}`")));
            }
            _ => {}
        }
    }
    condition(tag, start)
}

fn at_sign(at: usize, message: String, help: String) -> Fault {
    Fault { at, length: 1, message, help: Some(help) }
}

/// A blank other than a space, or a character without a shape.
fn is_unseen(c: char) -> bool {
    !c.is_ascii() && (c.is_whitespace() || is_invisible(c))
}

/// `{{#if a == "b"}}` and the like.
fn condition(tag: &str, start: usize) -> Result<(), Fault> {
    let inner = tag.trim_matches(['{', '}', '~', ' ']);
    let Some((opening, asked)) =
        ["#if ", "#unless ", "else if "].into_iter().find_map(|opening| Some((opening, inner.strip_prefix(opening)?)))
    else {
        return Ok(());
    };
    let words = words(asked);
    let operator = words.iter().copied().find(|word| {
        matches!(*word, "=" | "==" | "===" | "!=" | "!==" | "&&" | "||" | "<" | ">" | "<=" | ">=")
            || word.starts_with('!')
    });
    let Some(operator) = operator else { return Ok(()) };
    let call = match operator {
        "=" | "==" | "===" => "eq",
        "!=" | "!==" => "ne",
        "&&" => "and",
        "||" => "or",
        _ => "",
    };
    let help = match words.as_slice() {
        [left, _, right] if !call.is_empty() => format!("write `{{{{{opening}({call} {left} {right})}}}}`"),
        [one] if one.len() > 1 => format!("write `{{{{{opening}(not {})}}}}`", one.trim_start_matches('!')),
        _ => "questions are `(eq a b)`, `(ne a b)`, `(and a b)`, `(or a b)` and `(not a)`".to_owned(),
    };
    Err(fault(start, tag, format!("a condition is not asked with `{operator}`"), Some(help)))
}

/// Words that blanks separate, outside of quotes and brackets.
fn words(text: &str) -> Vec<&str> {
    let (mut quote, mut depth) = (None, 0_usize);
    let split = text.split(|c: char| {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        quote.is_none() && depth == 0 && c.is_whitespace()
    });
    split.filter(|word| !word.is_empty()).collect()
}
