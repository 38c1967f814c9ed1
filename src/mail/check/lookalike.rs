//! Words that look like a tag or like HTML and are neither: they would be mailed as they stand.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::expand::line_column;
use super::tags;
use crate::mail::catalogue::Template;
use crate::mail::locate::SourceFile;
use crate::mail::problem::{Problem, Rule};

/// The placeholders of all emails.
static NAMES: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| Template::ALL.into_iter().flat_map(Template::placeholders).map(|p| p.name).collect());

const OPENING: [char; 2] = ['{', '｛'];
const CLOSING: [char; 2] = ['}', '｝'];

/// Elements that people write for the looks of words.
const ELEMENTS: [&str; 22] = [
    "a", "b", "br", "center", "div", "em", "font", "h1", "h2", "h3", "hr", "i", "img", "li", "ol", "p", "span",
    "strong", "table", "td", "u", "ul",
];

/// What a file holds of both kinds. Markup ([`Rule::Markup`]) is right in HTML.
pub(super) fn check(file: &SourceFile) -> Vec<Problem> {
    let source = &file.text;
    let problem = |rule, at: usize, found: &str, message: String, help: String| {
        let (line, column) = line_column(source, at);
        Problem::of(rule, &file.path, message).at(source, line, column, found.chars().count()).help(help)
    };
    let mut problems = Vec::new();
    let words = tags::words(source);
    let foreign: Vec<(usize, &str)> =
        words.iter().flat_map(|(start, words)| foreign(words).map(move |(at, found)| (start + at, found))).collect();
    for (at, found) in &foreign {
        let message = format!("`{found}` begins no tag here, and is mailed as it stands");
        let help = "tags stand between double braces: `{{#if request_ip}}…{{else}}…{{/if}}`, `{{> signature}}`";
        problems.push(problem(Rule::NotATag, *at, found, message, help.to_owned()));
    }
    let is_said = |at: usize| foreign.iter().any(|(start, found)| (*start..start + found.len()).contains(&at));
    for (at, name) in names_in(source).into_iter().filter(|(at, _)| !is_said(*at)) {
        let message = format!("`{name}` is not between double braces here, and is mailed as it stands");
        problems.push(problem(Rule::NotATag, at, name, message, format!("write `{{{{{name}}}}}`")));
    }
    let markup = words.iter().find_map(|(start, words)| markup(words).map(|(at, found)| (start + at, found)));
    if let Some((at, found)) = markup {
        let message = format!("`{found}` is HTML, and is shown as it stands in a text body or a subject");
        problems.push(problem(
            Rule::Markup,
            at,
            found,
            message,
            "write the words alone, and signs as they are".to_owned(),
        ));
    }
    problems
}

/// The placeholders that stand between braces of which some are missing.
pub(super) fn names(source: &str) -> BTreeSet<&'static str> {
    names_in(source).into_iter().map(|(_, name)| name).collect()
}

fn names_in(source: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (start, words) in tags::words(source) {
        if !words.contains(OPENING) && !words.contains(CLOSING) {
            continue;
        }
        for name in NAMES.iter() {
            let places = words.match_indices(name).map(|(at, _)| at).filter(|at| {
                let (before, after) = (&words[..*at], &words[at + name.len()..]);
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
                !before.ends_with(is_part)
                    && !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'))
                    && (before.trim_end().ends_with(OPENING) || after.trim_start().starts_with(CLOSING))
            });
            found.extend(places.map(|at| (start + at, *name)));
        }
    }
    found.sort_unstable();
    found
}

/// Tags of other template languages, and blocks between single braces.
fn foreign(words: &str) -> impl Iterator<Item = (usize, &str)> {
    words.match_indices(['{', '｛', '<']).filter_map(|(at, brace)| {
        let rest = &words[at + brace.len()..];
        if rest.starts_with('%') {
            return Some((at, &words[at..=at + brace.len()]));
        }
        if brace == "<" {
            return None;
        }
        let inner = rest.trim_start_matches(OPENING).trim_start_matches(' ');
        let is_block = |word: &str| {
            let name = inner.strip_prefix(word);
            name.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-')))
        };
        let begins = |sign: char| {
            let after = inner.strip_prefix(sign).map(|after| after.trim_start_matches(' '));
            after.is_some_and(|after| after.starts_with(|c: char| c.is_ascii_alphabetic()))
        };
        let block = ["#if", "#unless", "#with", "#each"].into_iter().any(is_block)
            || inner.starts_with("#>")
            || begins('/')
            || begins('>')
            || inner.strip_prefix("else").is_some_and(|after| after.trim_start().starts_with(CLOSING));
        let found = words[at..].lines().next().unwrap_or_default();
        block.then(|| (at, found.find(CLOSING).map_or(found, |end| &found[..end])))
    })
}

/// The first element or character reference of HTML.
fn markup(words: &str) -> Option<(usize, &str)> {
    words.match_indices(['<', '&']).find_map(|(at, sign)| {
        let rest = &words[at + 1..];
        if sign == "&" {
            // No name is longer: a text may hold many of the sign.
            let end = rest.bytes().take(10).position(|b| b == b';')?;
            let name = &rest[..end];
            let is_name = (2..=8).contains(&end) && name.bytes().all(|b| b.is_ascii_alphabetic());
            let is_number =
                name.strip_prefix('#').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_hexdigit()));
            return (is_name || is_number).then(|| (at, &words[at..=at + 1 + end]));
        }
        let name = rest.trim_start_matches('/');
        let length = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let known = ELEMENTS.iter().any(|element| name[..length].eq_ignore_ascii_case(element));
        let closes = name[length..]
            .lines()
            .next()
            .is_some_and(|after| after.starts_with([' ', '/', '>']) && after.contains('>'));
        let end = rest.find('>')?;
        (known && closes).then(|| (at, &words[at..=at + 1 + end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let file = SourceFile { path: "x".into(), text: text.to_owned(), fault: None, locale: None };
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_looks_like_a_tag_is_named_with_its_place() {
        for (text, column, said) in [
            ("Hello {user.display_name},", 8, "`user.display_name` is not between double braces"),
            ("Hello user.display_name}},", 7, "`user.display_name` is not between double braces"),
            ("Hello { {user.email} }", 10, "write `{{user.email}}`"),
            ("｛｛reset_link｝｝", 3, "write `{{reset_link}}`"),
            ("${site.name}", 3, "write `{{site.name}}`"),
            ("{% if request_ip %}", 1, "`{%` begins no tag"),
            ("a <%= reason %>", 3, "`<%` begins no tag"),
            ("{#if request_ip}", 1, "`{#if request_ip` begins no tag"),
            ("x {/if}", 3, "`{/if` begins no tag"),
            ("{ else }", 1, "begins no tag"),
            ("{> signature}", 1, "begins no tag"),
        ] {
            let found = faults(text);
            assert!(!found.is_empty(), "{text}");
            assert!(found[0].starts_with(&format!("x:1:{column}: ")) && found[0].contains(said), "{text}: {found:#?}");
            assert!(found.iter().all(|fault| fault.ends_with("[not-a-tag]")), "{text}: {found:#?}");
        }
    }

    #[test]
    fn markup_is_named_where_it_stands() {
        for (text, column, said) in [
            ("Hi <b>you</b>", 4, "`<b>` is HTML"),
            ("</P>", 1, "`</P>`"),
            ("x<br/>", 2, "`<br/>`"),
            ("<a href=\"https://example.com\">x</a>", 1, "`<a href"),
            ("Terms &amp; conditions", 7, "`&amp;`"),
            ("caf&#233;", 4, "`&#233;`"),
        ] {
            let found = faults(text);
            assert_eq!(found.len(), 1, "{text}: {found:#?}");
            assert!(found[0].starts_with(&format!("x:1:{column}: ")) && found[0].contains(said), "{text}: {found:#?}");
            assert!(found[0].ends_with("[markup]"), "{text}: {found:#?}");
        }
    }

    #[test]
    fn plain_words_and_styles_are_neither() {
        for text in [
            "a {b} c}} {{user.email}} \\{{user.email}} {{! {user.email} }}",
            "the reason, {braces} and user.email",
            "<style>a{color:red} @media x{ .reason{b:c} #id{d:e} }</style>",
            "<https://example.com> <ada@example.com> 1 < 2 > 0 <3 R&D; a & b; ?a=1&b=2",
            "<{{reset_link}}> {\"a\": {\"b\": 1}} {/* c */}",
        ] {
            let found: Vec<_> = faults(text).into_iter().filter(|fault| !fault.contains("<style>")).collect();
            assert_eq!(found, Vec::<String>::new(), "{text}");
        }
    }
}
