//! A body written out with a mark for each value.

use super::expand::{line_column, offset};
use crate::mail::locate::Sources;
use crate::mail::piece::{At, Piece};
use crate::mail::placeholder::Placeholder;

/// Marks of values, in a plane of Unicode that is nobody's (U+F0000 and following).
const MARKS: u32 = 0xF_0000;

/// Which way each condition goes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Case {
    Then,
    Otherwise,
    /// The one with this number goes the other way than the rest.
    Other(usize),
}

/// How many conditions are tried by themselves.
const MAX_BRANCHES: usize = 24;

/// The cases in which a body is looked at: every condition true, every one false, and each by itself.
pub(super) fn cases(pieces: &[Piece]) -> impl Iterator<Item = Case> + use<> {
    let branches = count(pieces).min(MAX_BRANCHES);
    [Case::Then, Case::Otherwise].into_iter().chain((0..branches).map(Case::Other))
}

fn count(pieces: &[Piece]) -> usize {
    pieces.iter().fold(0, |sum, piece| match piece {
        Piece::Branch { then, otherwise, .. } => sum + 1 + count(then) + count(otherwise),
        _ => sum,
    })
}

/// A stretch of the page and where it comes from.
pub(super) struct Spot {
    /// The first byte in the page.
    start: usize,
    pub at: At,
    /// The value whose mark stands here; words of the template otherwise.
    pub value: Option<&'static Placeholder>,
}

/// A body with marks for its values.
pub(super) struct Page {
    pub text: String,
    pub spots: Vec<Spot>,
    /// Bytes with the samples in place of the marks.
    pub size: usize,
}

impl Page {
    pub fn write(pieces: &[Piece], case: Case) -> Self {
        let mut page = Self { text: String::new(), spots: Vec::new(), size: 0 };
        page.add(pieces, case, &mut 0);
        page
    }

    fn add(&mut self, pieces: &[Piece], case: Case, number: &mut usize) {
        for piece in pieces {
            let start = self.text.len();
            match piece {
                Piece::Text { text, at } => {
                    self.spots.push(Spot { start, at: *at, value: None });
                    self.text.push_str(text);
                    self.size += text.len();
                }
                Piece::Value { placeholder, at, .. } => {
                    let mark = u32::try_from(self.spots.len()).ok().and_then(|n| char::from_u32(MARKS + n));
                    self.spots.push(Spot { start, at: *at, value: Some(placeholder) });
                    self.text.push(mark.unwrap_or('\u{F0000}'));
                    self.size += placeholder.sample.len();
                }
                Piece::Branch { then, otherwise, .. } => {
                    let taken = match case {
                        Case::Then => true,
                        Case::Otherwise => false,
                        Case::Other(one) => one != *number,
                    };
                    *number += 1;
                    // The numbers below the way that is not taken are counted too: a condition keeps its own.
                    if taken {
                        self.add(then, case, number);
                        *number += count(otherwise);
                    } else {
                        *number += count(then);
                        self.add(otherwise, case, number);
                    }
                }
            }
        }
    }

    /// The values whose marks stand in a text.
    pub fn values(&self, text: &str) -> Vec<(usize, &Spot)> {
        text.char_indices()
            .filter_map(|(at, c)| {
                let number = u32::from(c).checked_sub(MARKS)?;
                self.spots.get(usize::try_from(number).ok()?).map(|spot| (at, spot))
            })
            .collect()
    }

    /// What stands right before and right after the mark at a byte of `text`, which is this page's or a part of it.
    pub fn around(text: &str, at: usize) -> (Option<char>, &str) {
        let mark = text[at..].chars().next().map_or(0, char::len_utf8);
        (text[..at].chars().next_back(), &text[at + mark..])
    }

    /// Where a byte of the page stands in its file.
    pub fn place(&self, sources: &Sources, byte: usize, length: usize) -> Option<At> {
        let spot = &self.spots[self.spots.partition_point(|spot| spot.start <= byte).checked_sub(1)?];
        if spot.value.is_some() {
            return Some(spot.at);
        }
        let source = &sources.file(spot.at.file).text;
        let begin = offset(source, spot.at.line, spot.at.column);
        let end = self.spots.iter().map(|s| s.start).find(|start| *start > spot.start).unwrap_or(self.text.len());
        let text = &self.text[spot.start..end];
        // Blanks before and after tags may have been taken away; a parameter's words stand elsewhere.
        let Some(found) = source.get(begin..).and_then(|rest| rest.find(text)) else { return Some(spot.at) };
        let (line, column) = line_column(source, begin + found + (byte - spot.start));
        Some(At { file: spot.at.file, line, column, length })
    }
}
