//! A comment, a tag or a style whose end is missing takes everything after it for its own, up to where another ends. All that
//! would be said of the rest, much of it in partials, follows from that.

use html5gum::{Span, Spanned, StartTag};

use super::{Reader, text};
use crate::mail::check::tags::TYPOGRAPHIC_QUOTES;
use crate::mail::problem::Rule;

impl Reader<'_> {
    /// Reports the one fault from which the others follow.
    pub(super) fn runaway(&mut self, span: Span<usize>, message: &str, help: &str) {
        self.problems.clear();
        self.report(Rule::Html, span, message, help);
        self.has_runaway = true;
    }

    /// An attribute that goes on into the next tag: its second quote is missing.
    pub(super) fn runaway_quote(&mut self, tag: &StartTag<usize>) -> bool {
        let found = tag.attributes.values().find(|value| holds_tag(&text(&value.value)));
        let Some(Spanned { span, .. }) = found else { return false };
        let help = "write `\"` after its last sign";
        self.runaway(*span, "the quote after this attribute is missing: it goes on into the next tag", help);
        true
    }

    /// Words of an element that takes no tags: it was to end before them.
    pub(super) fn runaway_element(&mut self, words: &str) -> bool {
        let Some(open) = self.open.last().filter(|open| matches!(open.name.as_str(), "style" | "title" | "textarea"))
        else {
            return false;
        };
        let (name, span) = (open.name.clone(), open.span);
        if !holds_tag(words) {
            return false;
        }
        let message = format!("`<{name}>` is opened here and never closed");
        self.runaway(span, &message, &format!("add `</{name}>` where it ends"));
        true
    }

    /// Quotes as word processors set them, where plain ones are meant: for HTML they are a part of the value.
    pub(super) fn typographic_quotes(&mut self, span: Span<usize>) -> bool {
        let page = self.page;
        let Some(tag) = page.text.get(span.start..span.end) else { return false };
        let mut quote = None;
        for (at, c) in tag.char_indices() {
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None, c) if TYPOGRAPHIC_QUOTES.contains(&c) => {
                    let start = span.start + at;
                    let place = Span { start, end: start + 1 };
                    self.report(
                        Rule::Html,
                        place,
                        "these are typographic quotes",
                        "type the plain sign `\"` in their place",
                    );
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

fn holds_tag(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/'))
}
