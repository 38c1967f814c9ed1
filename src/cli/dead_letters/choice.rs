//! Which dead letters: filters, and the names that somebody typed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use chrono::{DateTime, Utc};
use clap::Args;

use crate::cli::moment::Moment;
use crate::config::covers;
use crate::lane::dead_letter::Letter;

/// What a letter must be like.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only those with this error code: `internal`, `invalid_body`, `invalid_message`, `unknown_command` …
    #[arg(long)]
    reason: Option<String>,
    /// Only those of this command, or of several: `password.*`.
    #[arg(long)]
    command: Option<String>,
    /// Only those from this publisher.
    #[arg(long)]
    publisher: Option<String>,
    /// Only those put aside since this moment: `2h` (ago), or a time in UTC.
    #[arg(long)]
    since: Option<Moment>,
    /// Only those put aside before this moment.
    #[arg(long)]
    until: Option<Moment>,
}

/// A filter at a moment.
pub struct FilterAt<'a> {
    filter: &'a Filter,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Filter {
    /// The filter as of now.
    pub fn at(&self, now: DateTime<Utc>) -> FilterAt<'_> {
        let seen = |moment: Option<Moment>| moment.map(|moment| moment.seen_from(now));
        FilterAt { filter: self, since: seen(self.since), until: seen(self.until) }
    }
}

impl FilterAt<'_> {
    /// Whether it lets a letter through. One that does not say when it was buried passes no time.
    pub fn lets_through(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.filter.reason, &letter.reason)
            && is(&self.filter.publisher, &letter.publisher)
            && self.filter.command.as_deref().is_none_or(|pattern| covers(pattern, &letter.command))
            && self.since.is_none_or(|since| letter.failed_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| letter.failed_at.is_some_and(|at| at < until))
    }
}

/// Names of letters as somebody typed them: ids, beginnings of ids, message ids.
#[derive(Debug)]
pub struct Choice<'a> {
    /// For each name, the ids of the letters that it stands for, and whether it is a message id.
    names: BTreeMap<&'a str, Found>,
}

#[derive(Debug, Default)]
struct Found {
    by_id: BTreeSet<String>,
    by_message_id: bool,
}

impl<'a> Choice<'a> {
    /// Prepares to look for letters by these names.
    ///
    /// # Errors
    /// When one of them is too short to stand for a single letter.
    pub fn new(names: &'a [String]) -> Result<Self, String> {
        if let Some(empty) = names.iter().find(|name| name.trim().is_empty()) {
            return Err(format!("`{empty}` names no dead letter"));
        }
        Ok(Self { names: names.iter().map(|name| (name.as_str(), Found::default())).collect() })
    }

    /// Whether a name stands for this letter.
    pub fn takes(&mut self, letter: &Letter) -> bool {
        let mut taken = false;
        for (name, found) in &mut self.names {
            if letter.message_id.as_deref() == Some(name) {
                (found.by_message_id, taken) = (true, true);
            } else if name.len() >= 4 && letter.id.starts_with(&name.to_ascii_lowercase()) {
                found.by_id.insert(letter.id.clone());
                taken = true;
            }
        }
        taken
    }

    /// Checks the names, once all letters were seen.
    ///
    /// # Errors
    /// When a name stands for nothing, or for several letters.
    pub fn finish(self) -> Result<(), String> {
        for (name, found) in self.names {
            match (found.by_id.len(), found.by_message_id) {
                (0, true) | (1, false) => {}
                (0, false) => {
                    return Err(format!(
                        "no dead letter is called `{name}` (or a filter leaves it out); `regrant dead-letters list` shows them. \
                         Nothing was done"
                    ));
                }
                _ => {
                    let ids: Vec<&str> = found.by_id.iter().map(String::as_str).take(5).collect();
                    return Err(format!(
                        "`{name}` may be several dead letters: {}; type more of the id. Nothing was done",
                        ids.join(", ")
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The newest letters of many, without keeping the others.
pub struct Newest {
    limit: usize,
    count: usize,
    heap: BinaryHeap<Reverse<Ordered>>,
}

/// In the order of burial; in that of the queue where it is the same.
struct Ordered {
    key: (Option<DateTime<Utc>>, usize),
    letter: Letter,
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl Newest {
    /// Keeps at most `limit` letters.
    pub fn new(limit: usize) -> Self {
        Self { limit, count: 0, heap: BinaryHeap::new() }
    }

    /// Adds a letter; beyond the limit the oldest one is dropped.
    pub fn add(&mut self, letter: Letter) {
        self.count += 1;
        self.heap.push(Reverse(Ordered { key: (letter.failed_at, self.count), letter }));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    /// The letters that were kept, newest first.
    pub fn into_sorted(self) -> Vec<Letter> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(ordered)| ordered.letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str, message_id: &str, at: i64) -> Letter {
        Letter {
            id: id.to_owned(),
            message_id: Some(message_id.to_owned()),
            command: "password.set".to_owned(),
            publisher: "shop".to_owned(),
            reason: "internal".to_owned(),
            detail: String::new(),
            failed_at: DateTime::from_timestamp(at, 0),
            attempts: 1,
            redacted: false,
            bytes: 2,
        }
    }

    #[test]
    fn filters_narrow_by_everything_they_name() {
        let now = DateTime::from_timestamp(10_000, 0).unwrap();
        let lets = |filter: Filter| filter.at(now).lets_through(&letter("a", "m", 9_000));
        let text = |text: &str| Some(text.to_owned());
        let moment = |text: &str| Some(text.parse::<Moment>().unwrap());
        assert!(lets(Filter::default()));
        for (good, filter) in [
            (true, Filter { reason: text("internal"), ..Filter::default() }),
            (false, Filter { reason: text("invalid_body"), ..Filter::default() }),
            (true, Filter { command: text("password.*"), ..Filter::default() }),
            (true, Filter { command: text("password.set"), ..Filter::default() }),
            (false, Filter { command: text("user.*"), ..Filter::default() }),
            (true, Filter { publisher: text("shop"), ..Filter::default() }),
            (false, Filter { publisher: text("desk"), ..Filter::default() }),
            (true, Filter { since: moment("1000s"), ..Filter::default() }),
            (false, Filter { since: moment("999s"), ..Filter::default() }),
            (false, Filter { until: moment("1000s"), ..Filter::default() }),
            (true, Filter { until: moment("999s"), ..Filter::default() }),
            (false, Filter { reason: text("internal"), publisher: text("desk"), ..Filter::default() }),
        ] {
            assert_eq!(lets(filter.clone()), good, "{filter:?}");
        }
        let undated = Letter { failed_at: None, ..letter("a", "m", 0) };
        assert!(!Filter { since: moment("30d"), ..Filter::default() }.at(now).lets_through(&undated));
    }

    fn chosen(names: &[&str]) -> Result<Vec<&'static str>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut choice = Choice::new(&names)?;
        let letters = [("aabbccdd0011", "m1"), ("aabbccdd0022", "m1"), ("ffee00112233", "m2")];
        let taken = letters.into_iter().filter(|(id, message)| choice.takes(&letter(id, message, 1)));
        let taken = taken.map(|(id, _)| id).collect();
        choice.finish().map(|()| taken)
    }

    #[test]
    fn names_are_ids_their_beginnings_or_message_ids() {
        assert_eq!(chosen(&["ffee"]).unwrap(), ["ffee00112233"]);
        assert_eq!(chosen(&["FFEE00112233"]).unwrap(), ["ffee00112233"]);
        assert_eq!(chosen(&["m1"]).unwrap(), ["aabbccdd0011", "aabbccdd0022"]);
        assert_eq!(chosen(&["aabbccdd0022", "m2"]).unwrap(), ["aabbccdd0022", "ffee00112233"]);
    }

    #[test]
    fn a_name_that_is_not_clear_stops_everything() {
        let several = chosen(&["ffee", "aabbcc"]).unwrap_err();
        assert!(several.contains("aabbccdd0011, aabbccdd0022"), "{several}");
        assert!(chosen(&["ffee", "0000"]).unwrap_err().contains("`0000`"));
        assert!(chosen(&["ffe"]).is_err(), "three characters are too few");
        assert!(chosen(&[" "]).is_err());
    }

    #[test]
    fn of_many_the_newest_are_kept() {
        let mut newest = Newest::new(3);
        for (at, id) in [(5, "a"), (9, "b"), (1, "c"), (9, "d"), (7, "e")] {
            newest.add(letter(id, "m", at));
        }
        let ids: Vec<String> = newest.into_sorted().into_iter().map(|letter| letter.id).collect();
        assert_eq!(ids, ["d", "b", "e"]);
        let mut none = Newest::new(0);
        none.add(letter("a", "m", 1));
        assert!(none.into_sorted().is_empty());
    }
}
