//! What must be true of an HTML body as mail programs read it: elements close, links are the links that were given, nothing
//! is fetched from elsewhere, and no value stands where escaping does not protect it.
//!
//! The body is written out with a mark for each value and read by an HTML tokenizer, once with every condition true, once
//! with every condition false, and once for each condition by itself.

use std::collections::BTreeSet;

use html5gum::emitters::default::{DefaultEmitter, StartTag, Token};
use html5gum::{HtmlString, Span, Tokenizer};

use super::link_text;
use super::page::{Page, cases};
use crate::mail::catalogue::Template;
use crate::mail::locate::{FileId, Sources};
use crate::mail::piece::{At, Piece};
use crate::mail::problem::{Problem, Rule};

mod link;
mod runaway;

/// What Gmail shows of a message, in bytes: the rest is behind a link that few people find.
const MAX_SIZE: usize = 100 * 1024;
/// Elements that have no end (HTML, 13.1.2).
const VOID: [&str; 13] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];

/// Checks an HTML body. Unless it is `whole`, something with faults was left out of the pieces: a link may only seem to be
/// without words, or without a target.
pub(super) fn check(
    sources: &Sources,
    template: Template,
    file: FileId,
    pieces: &[Piece],
    whole: bool,
) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut largest = 0;
    for case in cases(pieces) {
        let page = Page::write(pieces, case);
        largest = largest.max(page.size);
        let mut reader = Reader {
            sources,
            template,
            whole,
            page: &page,
            open: Vec::new(),
            has_runaway: false,
            visible: BTreeSet::new(),
            problems: Vec::new(),
        };
        reader.read();
        let Reader { visible, problems: found, has_runaway, .. } = reader;
        if has_runaway {
            return found;
        }
        let unseen = whole.then(|| hidden(sources, template, file, &page, &visible));
        for problem in found.into_iter().chain(unseen.into_iter().flatten()) {
            if !problems.iter().any(|p| p.place() == problem.place() && p.message == problem.message) {
                problems.push(problem);
            }
        }
    }
    if largest > MAX_SIZE {
        let message = format!("the HTML has about {} KB; mail programs cut it off after 100 KB", largest / 1024);
        let help = "shorten it, or leave out styles and comments that are not needed";
        problems.push(Problem::of(Rule::Clipped, &sources.file(file).path, message).help(help));
    }
    problems
}

/// Required values that stand only where nobody sees them.
fn hidden(
    sources: &Sources,
    template: Template,
    file: FileId,
    page: &Page,
    visible: &BTreeSet<&'static str>,
) -> Vec<Problem> {
    let written = |name: &str| page.spots.iter().find(|spot| spot.value.is_some_and(|p| p.name == name));
    let required = template.required().iter().filter(|name| !visible.contains(*name));
    required
        .filter_map(|name| written(name).map(|spot| (name, spot)))
        .map(|(name, spot)| {
            let message = format!("`{name}` stands only where nobody sees it");
            let help = format!("show `{{{{{name}}}}}` in the text or as the target of a link with words in it, outside of comments and of what is hidden");
            let path = &sources.file(file).path;
            let problem = Problem::of(Rule::MissingPlaceholder, path, message).help(help);
            if spot.at.file == file {
                problem.at(&sources.file(file).text, spot.at.line, spot.at.column, spot.at.length)
            } else {
                problem.at(&sources.file(file).text, 1, 1, 0)
            }
        })
        .collect()
}

/// An element that is open.
struct Open {
    name: String,
    span: Span<usize>,
    /// Whether it hides what is in it.
    hides: bool,
    /// The value that is the target of its link.
    link: Option<&'static str>,
}

struct Reader<'a> {
    sources: &'a Sources,
    template: Template,
    /// Whether nothing with faults was left out of the page.
    whole: bool,
    page: &'a Page,
    open: Vec<Open>,
    /// Whether the one problem explains all others.
    has_runaway: bool,
    /// Values that people can see or click.
    visible: BTreeSet<&'static str>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut emitter = DefaultEmitter::new_with_span();
        emitter.naively_switch_states(true);
        // Where the last token ended, and whether a comment has no end.
        let (mut end, mut endless) = (0, false);
        for Ok(token) in Tokenizer::new_with_emitter(self.page.text.as_str(), emitter) {
            let before = end;
            end = span(&token).map_or(end, |span| span.end);
            match token {
                Token::StartTag(tag) => self.start(&tag),
                Token::EndTag(tag) => self.end(&text(&tag.name), tag.span),
                Token::String(words) => self.words(&text(&words.value), words.span),
                Token::Error(error) => match error.value {
                    html5gum::Error::EofInTag => {
                        let place = Span { start: before, end: before + 1 };
                        self.runaway(
                            place,
                            "this tag is never closed",
                            "is a quote missing in it, or the `>` at its end?",
                        );
                    }
                    html5gum::Error::EofInComment | html5gum::Error::NestedComment => endless = true,
                    other => self.error(other, error.span),
                },
                Token::Comment(_) if endless => {
                    let place = Span { start: before, end: before + "<!--".len() };
                    self.runaway(place, "this comment is never closed", "end it with `-->`");
                }
                Token::Comment(_) | Token::Doctype(_) => {}
            }
            if self.has_runaway {
                return;
            }
        }
        for Open { name, span, .. } in std::mem::take(&mut self.open) {
            let help = format!("add `</{name}>` where it ends");
            self.report(Rule::Html, span, format!("`<{name}>` is opened here and never closed"), &help);
        }
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        let name = text(&tag.name);
        if !self.page.values(&name).is_empty() {
            return self.unsafe_place(&name, "the name of an element");
        }
        if matches!(name.as_str(), "script" | "iframe" | "object" | "embed" | "form") {
            let help = "remove it: mail programs drop it, and filters take the mail for spam";
            self.report(Rule::Html, tag.span, format!("`<{name}>` has no place in an email"), help);
        }
        if self.runaway_quote(tag) {
            return;
        }
        let mut open = Open { name, span: tag.span, hides: false, link: None };
        let is_misread = self.typographic_quotes(tag.span);
        if is_misread {
            // Where the attributes begin and end is not known.
            self.visible.extend(
                self.page
                    .values(&self.page.text[tag.span.start..tag.span.end])
                    .iter()
                    .filter_map(|(_, s)| Some(s.value?.name)),
            );
        } else {
            self.quotes(tag.span);
        }
        for (attribute, value) in tag.attributes.iter().filter(|_| !is_misread) {
            let (attribute, place, value) = (text(attribute), value.span, text(&value.value));
            if !self.page.values(&attribute).is_empty() {
                self.unsafe_place(&attribute, "the name of an attribute");
            } else if attribute.starts_with("on") {
                let help = "remove it: mail programs drop scripts, and filters take the mail for spam";
                self.report(Rule::Html, tag.span, format!("`{attribute}` runs a script"), help);
            } else if attribute == "style" {
                self.unsafe_place(&value, "a style");
                self.style(&value, tag.span);
                open.hides |= hides(&value);
            } else if attribute == "hidden" {
                open.hides = true;
            } else if matches!(attribute.as_str(), "href" | "action" | "formaction" | "xlink:href") {
                open.link = self.link(&open.name, &value, tag.span, place);
            } else if matches!(attribute.as_str(), "src" | "srcset" | "background" | "poster" | "data") {
                self.unsafe_place(&value, "the address of an image");
                self.remote(&value, tag.span);
            }
        }
        let name = open.name.as_str();
        if VOID.contains(&name) {
            // A picture can be clicked as words can, and a part of one.
            if matches!(name, "img" | "area") && !open.hides {
                self.show(open.link);
            }
            return;
        }
        if tag.self_closing {
            if !name.contains(':') {
                let help = format!("write `<{name}></{name}>`");
                self.report(Rule::Html, tag.span, format!("`<{name}/>` does not close itself in HTML"), &help);
            }
            return;
        }
        self.open.push(open);
    }

    /// Something can be seen here that shows these values, and can be clicked where it is in a link.
    fn show(&mut self, values: impl IntoIterator<Item = &'static str>) {
        if !self.open.iter().any(|open| open.hides) {
            self.visible.extend(self.open.iter().filter_map(|open| open.link).chain(values));
        }
    }

    fn end(&mut self, name: &str, span: Span<usize>) {
        if VOID.contains(&name) {
            let help = "remove it";
            return self.report(Rule::Html, span, format!("`<{name}>` has no end tag"), help);
        }
        let Some(at) = self.open.iter().rposition(|open| open.name == name) else {
            let help = format!("remove it, or open `<{name}>` before it; what an `{{{{#if}}}}` opens, it must close");
            return self.report(Rule::Html, span, format!("`</{name}>` closes an element that is not open"), &help);
        };
        // Those in between were not closed: say so of the innermost, and go on with the rest.
        let unclosed = self.open.split_off(at + 1);
        self.open.pop();
        if let Some(Open { name: inner, span: opened, .. }) = unclosed.last() {
            let help = format!("add `</{inner}>` before `</{name}>`, which closes what is around it");
            self.report(Rule::Html, *opened, format!("`<{inner}>` is opened here and never closed"), &help);
        }
    }

    fn words(&mut self, words: &str, span: Span<usize>) {
        if self.runaway_element(words) {
            return;
        }
        match self.open.last().map(|open| open.name.as_str()) {
            Some("style") => {
                self.unsafe_place(words, "a style");
                self.style(words, span);
            }
            Some("script") => self.unsafe_place(words, "a script"),
            Some("title") => {}
            _ if words.trim().is_empty() => {}
            _ => {
                let page = self.page;
                self.problems.extend(link_text::run_together(self.sources, page, words));
                self.show(page.values(words).into_iter().filter_map(|(_, spot)| Some(spot.value?.name)));
            }
        }
    }

    fn error(&mut self, error: html5gum::Error, span: Span<usize>) {
        use html5gum::Error as E;
        let (message, help) = match error {
            // Shown as they stand, in every mail program.
            E::UnknownNamedCharacterReference | E::MissingSemicolonAfterCharacterReference => return,
            E::DuplicateAttribute => ("an attribute is given twice in one tag", "keep one of them"),
            E::MissingWhitespaceBetweenAttributes => {
                ("a space is missing between two attributes", "is a quote missing before it, or too much?")
            }
            E::MissingAttributeValue => ("an attribute has no value", "write it as `name=\"value\"`"),
            E::UnexpectedCharacterInAttributeName => {
                ("a quote or `<` stands in the name of an attribute", "is a quote or `>` missing before it?")
            }
            E::UnexpectedCharacterInUnquotedAttributeValue => {
                ("an attribute's value needs quotes", "write it as `name=\"value\"`")
            }
            E::InvalidFirstCharacterOfTagName => ("`<` begins no tag here", "write `&lt;` for the sign itself"),
            E::EndTagWithAttributes => ("an end tag has no attributes", "remove them"),
            E::MissingEndTagName => ("`</>` names no element", "write the name of what it closes"),
            other => {
                let message = format!("this is not HTML ({})", other.as_str());
                return self.report(Rule::Html, span, message, "the name in brackets is that of the HTML standard");
            }
        };
        // The tokenizer names the place after the sign.
        let back = if error == E::InvalidFirstCharacterOfTagName { 2 } else { 0 };
        let span = Span { start: span.start.saturating_sub(back), end: span.end };
        self.report(Rule::Html, span, message, help);
    }

    /// Values in attributes without quotes: a blank in the value would begin another attribute.
    fn quotes(&mut self, span: Span<usize>) {
        let page = self.page;
        let Some(tag) = page.text.get(span.start..span.end) else { return };
        let mut quote = None;
        for (at, c) in tag.char_indices() {
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None, _) => {
                    if let [(_, spot)] = page.values(&tag[at..at + c.len_utf8()]).as_slice()
                        && let Some(value) = spot.value
                    {
                        let message = format!("`{}` stands in a tag without quotes around it", value.name);
                        let help = format!("write `name=\"{{{{{}}}}}\"`", value.name);
                        self.report_at(Rule::UnsafePlace, spot.at, message, &help);
                    }
                }
                _ => {}
            }
        }
    }

    fn style(&mut self, css: &str, span: Span<usize>) {
        let css = css.to_ascii_lowercase();
        let fetched =
            css.match_indices("url(").any(|(at, _)| is_remote(css[at + 4..].trim_start_matches(['"', '\'', ' '])));
        if fetched || css.contains("@import") {
            self.report_remote(span);
        }
    }

    fn remote(&mut self, address: &str, span: Span<usize>) {
        if address.split(',').any(|one| is_remote(one.trim())) {
            self.report_remote(span);
        }
    }

    fn report_remote(&mut self, span: Span<usize>) {
        let help = "mail programs hide such images until people allow them, and fetching tells who has read the mail; \
                    use text and background colours";
        self.report(Rule::RemoteContent, span, "this is fetched from another server when the mail is opened", help);
    }

    fn unsafe_place(&mut self, content: &str, place: &str) {
        for (_, spot) in self.page.values(content) {
            if let Some(value) = spot.value {
                let message = format!("`{}` stands in {place}, where it is not made harmless", value.name);
                let help = "show it in the text, or in an attribute with quotes";
                self.report_at(Rule::UnsafePlace, spot.at, message, help);
            }
        }
    }

    fn report(&mut self, rule: Rule, span: Span<usize>, message: impl Into<String>, help: &str) {
        let line_end = self.page.text[span.start.min(self.page.text.len())..].find('\n').unwrap_or(usize::MAX);
        let length = span.end.saturating_sub(span.start).min(line_end);
        if let Some(at) = self.page.place(self.sources, span.start, length) {
            self.report_at(rule, at, message, help);
        }
    }

    fn report_at(&mut self, rule: Rule, at: At, message: impl Into<String>, help: &str) {
        let file = self.sources.file(at.file);
        let problem = Problem::of(rule, &file.path, message).at(&file.text, at.line, at.column, at.length).help(help);
        self.problems.push(problem);
    }
}

/// Whether an element with this style is not drawn, and nothing that is in it.
fn hides(css: &str) -> bool {
    let css: String = css.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    css.split(';').any(|one| one.starts_with("display:none") || one.starts_with("visibility:hidden"))
}

/// The place of a token other than an error, whose place is inside of another token.
fn span(token: &Token<usize>) -> Option<Span<usize>> {
    match token {
        Token::StartTag(tag) => Some(tag.span),
        Token::EndTag(tag) => Some(tag.span),
        Token::String(words) => Some(words.span),
        Token::Comment(comment) => Some(comment.span),
        Token::Doctype(doctype) => Some(doctype.span),
        Token::Error(_) => None,
    }
}

fn is_remote(address: &str) -> bool {
    address.starts_with("http:") || address.starts_with("https:") || address.starts_with("//")
}

fn text(bytes: &HtmlString) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
