//! What must be true of an expanded file as a whole.

use std::collections::BTreeSet;

use super::lookalike;
use crate::mail::catalogue::Template;
use crate::mail::locate::{FileId, Part, Sources};
use crate::mail::piece::{At, Piece};
use crate::mail::problem::{Problem, Rule};

/// How long a subject may be with the samples in it, in characters: desktop inboxes show about half of it, phones a third.
const SUBJECT_LENGTH: usize = 120;

/// Checks the pieces of one file of a template.
pub(super) fn check(sources: &Sources, template: Template, part: Part, file: FileId, pieces: &[Piece]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let path = &sources.file(file).path;
    let start = |problem: Problem| {
        let source = &sources.file(file).text;
        if source.is_empty() { problem } else { problem.at(source, 1, 1, 0) }
    };
    if !always_shows(pieces) {
        let message = match part {
            Part::Subject => "the subject can come out empty",
            _ => "this can come out empty",
        };
        let help = "write something outside of every `{{#if}}`, or in each `{{else}}` too";
        problems.push(start(Problem::of(Rule::Empty, path, message).help(help)));
    }
    problems.extend(unguarded(sources, pieces));
    match part {
        Part::Subject => {
            subject(sources, pieces, &mut problems);
            let length = longest(pieces);
            if length > SUBJECT_LENGTH {
                let message = format!("the subject can have {length} characters; inboxes show about 50");
                let help = format!("say it in fewer words: {SUBJECT_LENGTH} characters at most");
                problems.push(start(Problem::of(Rule::SubjectTooLong, path, message).help(help)));
            }
        }
        Part::Text | Part::Html => {
            let (mut certain, mut possible) = (BTreeSet::new(), BTreeSet::new());
            shown(pieces, &mut certain, &mut possible);
            // Those with a brace too few are complained of where they stand.
            let half = lookalike::names(&sources.file(file).text);
            let missing = |name: &&&str| !certain.contains(**name) && !half.contains(**name);
            for name in template.required().iter().filter(missing) {
                let about = template.placeholder(name).map_or("", |p| p.about);
                let (message, help) = if possible.contains(name) {
                    (
                        format!("`{name}` is shown only under a condition that can be false"),
                        format!("show `{{{{{name}}}}}` ({about}) in every case"),
                    )
                } else {
                    (
                        format!("`{name}` is missing: without it the email is of no use"),
                        format!("add `{{{{{name}}}}}` ({about})"),
                    )
                };
                problems.push(start(Problem::of(Rule::MissingPlaceholder, path, message).help(help)));
            }
        }
        Part::Settings => {}
    }
    problems
}

/// Values that may be missing, and stand outside of every condition. Under one that asks for another value they may be right:
/// what is known is often known together.
fn unguarded(sources: &Sources, pieces: &[Piece]) -> Vec<Problem> {
    let shown = pieces.iter().filter_map(|piece| match piece {
        Piece::Value { placeholder, at, .. } if placeholder.may_be_absent => Some((placeholder.name, at)),
        _ => None,
    });
    shown
        .map(|(name, at)| {
            let file = sources.file(at.file);
            let message = format!("`{name}` may be missing, and then nothing stands here");
            let help = format!("put it and the words around it inside `{{{{#if {name}}}}}…{{{{/if}}}}`");
            let problem = Problem::of(Rule::Unguarded, &file.path, message);
            problem.at(&file.text, at.line, at.column, at.length).help(help)
        })
        .collect()
}

/// The placeholders that are shown in every email, and those that are in some.
fn shown(pieces: &[Piece], certain: &mut BTreeSet<&'static str>, possible: &mut BTreeSet<&'static str>) {
    for piece in pieces {
        match piece {
            Piece::Text { .. } => {}
            Piece::Value { placeholder, .. } => {
                certain.insert(placeholder.name);
                possible.insert(placeholder.name);
            }
            Piece::Branch { then, otherwise, .. } => {
                let (mut yes, mut no) = (BTreeSet::new(), BTreeSet::new());
                shown(then, &mut yes, possible);
                shown(otherwise, &mut no, possible);
                certain.extend(yes.intersection(&no));
            }
        }
    }
}

/// How many characters can come out, with the samples.
fn longest(pieces: &[Piece]) -> usize {
    let of = |piece: &Piece| match piece {
        Piece::Text { text, .. } => text.trim_matches('\n').chars().count(),
        Piece::Value { placeholder, .. } => placeholder.sample.chars().count(),
        Piece::Branch { then, otherwise, .. } => longest(then).max(longest(otherwise)),
    };
    pieces.iter().map(of).sum()
}

/// Whether something can be seen in every email.
fn always_shows(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| match piece {
        Piece::Text { text, .. } => !text.trim().is_empty(),
        Piece::Value { placeholder, .. } => !placeholder.may_be_absent,
        Piece::Branch { then, otherwise, .. } => always_shows(then) && always_shows(otherwise),
    })
}

fn subject(sources: &Sources, pieces: &[Piece], problems: &mut Vec<Problem>) {
    let mut atoms = Vec::new();
    flatten(pieces, &mut atoms);
    // Line breaks at the ends do no harm: the subject is trimmed.
    let is_blank = |atom: &&Atom<'_>| matches!(atom, Atom::Text(text, _) if text.trim().is_empty());
    let from = atoms.iter().take_while(is_blank).count();
    let to = atoms.len() - atoms.iter().skip(from).rev().take_while(is_blank).count();
    for (i, atom) in atoms.iter().enumerate().take(to).skip(from) {
        match atom {
            Atom::Text(text, at) => {
                let inner = if i == from { text.trim_start() } else { text };
                let inner = if i + 1 == to { inner.trim_end() } else { inner };
                if inner.contains(['\n', '\r', '\u{2028}', '\u{2029}']) {
                    let file = sources.file(at.file);
                    let message = "the subject goes on after a line break";
                    let problem = Problem::of(Rule::SubjectLineBreak, &file.path, message)
                        .at(&file.text, at.line, at.column, 0)
                        .help("write it on one line, `{{#if}}` and `{{else}}` included");
                    problems.push(problem);
                    break;
                }
            }
            Atom::Secret(name, at) => {
                let file = sources.file(at.file);
                let message = format!("`{name}` cannot stand in a subject");
                let problem = Problem::of(Rule::SecretInSubject, &file.path, message)
                    .at(&file.text, at.line, at.column, at.length)
                    .help("subjects are kept in the history and shown on locked screens");
                problems.push(problem);
            }
            Atom::Value => {}
        }
    }
}

/// What a subject is made of, in the order of the file.
enum Atom<'a> {
    Text(&'a str, At),
    Secret(&'static str, At),
    Value,
}

fn flatten<'a>(pieces: &'a [Piece], atoms: &mut Vec<Atom<'a>>) {
    for piece in pieces {
        match piece {
            Piece::Text { text, at } => atoms.push(Atom::Text(text, *at)),
            Piece::Value { placeholder, at, .. } if placeholder.kind.is_secret() => {
                atoms.push(Atom::Secret(placeholder.name, *at));
            }
            Piece::Value { .. } => atoms.push(Atom::Value),
            Piece::Branch { then, otherwise, .. } => {
                flatten(then, atoms);
                flatten(otherwise, atoms);
            }
        }
    }
}
