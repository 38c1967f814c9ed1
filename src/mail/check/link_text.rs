//! One-time links as words: mail programs, and people who copy them, take everything up to the next blank for the link.

use super::page::{Page, cases};
use crate::mail::locate::Sources;
use crate::mail::piece::Piece;
use crate::mail::placeholder::Kind;
use crate::mail::problem::{Problem, Rule};

/// Checks a text body.
pub(super) fn check(sources: &Sources, pieces: &[Piece]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for case in cases(pieces) {
        let page = Page::write(pieces, case);
        for problem in run_together(sources, &page, &page.text) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// The one-time links in words of a page that something stands right beside.
pub(super) fn run_together(sources: &Sources, page: &Page, words: &str) -> Vec<Problem> {
    let links = page.values(words).into_iter().filter_map(|(at, spot)| Some((at, spot.at, spot.value?)));
    links
        .filter(|(.., value)| value.kind == Kind::Link)
        .filter(|(at, ..)| {
            let (before, after) = Page::around(words, *at);
            !(may_precede(before) && may_follow(after))
        })
        .map(|(_, at, value)| {
            let name = value.name;
            let file = sources.file(at.file);
            let message = format!("`{name}` runs into what stands beside it, which becomes a part of the link");
            let help = format!("put a blank or a line break before and after `{{{{{name}}}}}`");
            let problem = Problem::of(Rule::Link, &file.path, message);
            problem.at(&file.text, at.line, at.column, at.length).help(help)
        })
        .collect()
}

fn may_precede(before: Option<char>) -> bool {
    before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '[' | '<' | '"'))
}

/// Whether a link ends before these words. A full stop or comma at the end of its words is left out by mail programs.
fn may_follow(after: &str) -> bool {
    let mut rest = after.chars();
    match rest.next() {
        None | Some(')' | ']' | '>' | '"') => true,
        Some('.' | ',') => rest.next().is_none_or(char::is_whitespace),
        Some(c) => c.is_whitespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_ends_where_mail_programs_end_it() {
        for after in ["", " x", "\nx", "\u{3000}x", ")", "> x", "].", ".", ", x", ".\nx"] {
            assert!(may_follow(after), "{after:?}");
        }
        for after in ["x", "&utm_source=mail", "から", ".x", "..", "/", "?", "!", "」", "*"] {
            assert!(!may_follow(after), "{after:?}");
        }
        assert!([None, Some(' '), Some('\n'), Some('(')].into_iter().all(may_precede));
        assert!(['=', 'x', ':', 'ち', '*'].into_iter().all(|c| !may_precede(Some(c))));
    }
}
