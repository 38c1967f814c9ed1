//! Events that a subscriber's queue does not take (it is full, say): whom that holds up, and how they are tried again.
//!
//! What follows an event that was not taken stays too if it is about the same person, since events of one person leave in
//! order. Everybody else's goes on: rows of which something stays are passed over until they are tried again.
//!
//! A queue's refusal says nothing about the others that got the event all the same, and they get it again with each try. So of
//! what was tried before only one event of a name is published at first; then twice as many each time that all were taken.

use std::collections::{HashMap, HashSet};

/// How many rows are passed over at most, with some fifteen events each: bounds the memory, and what is read again for each
/// try. While there are as many, everybody waits.
const MOST: usize = 4096;

/// What stays, for now.
#[derive(Debug, Default)]
pub struct Refused {
    /// Rows of which something stays: passed over until the next try.
    rows: HashSet<i64>,
    /// Whose events stay until the next try.
    people: HashSet<String>,
    /// Rows that were passed over when this try began.
    tried: HashSet<i64>,
    /// Names of events that were refused, and how carefully they are tried.
    names: HashMap<String, Tries>,
    /// The log says that events wait for a key.
    pub told_of_keys: bool,
    /// Rows of which the log says that they cannot be read.
    told_of: HashSet<i64>,
}

/// How many events of a name are tried.
#[derive(Debug, Clone, Copy)]
struct Tries {
    /// The largest number of events that are tried of those that were refused before.
    allowed: usize,
    /// The number of events that were tried in this round.
    made: usize,
    /// More stay, since no more are allowed.
    more: bool,
    /// One was not taken.
    failed: bool,
}

/// When what stays is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Nothing stays.
    Nothing,
    /// All that was tried was taken: the next may follow.
    AtOnce,
    /// After a rest.
    Later,
}

impl Refused {
    /// Whether an event may be published now; otherwise it stays.
    pub fn admits(&mut self, row: i64, subject: &str, name: &str) -> bool {
        if self.people.contains(subject) {
            return false;
        }
        if self.tried.contains(&row)
            && let Some(tries) = self.names.get_mut(name)
        {
            if tries.failed || tries.made >= tries.allowed {
                tries.more = true;
                self.hold(subject);
                return false;
            }
            tries.made += 1;
        }
        true
    }

    /// Somebody's events stay.
    pub fn hold(&mut self, subject: &str) {
        self.people.insert(subject.to_owned());
    }

    /// Whether an event of this name was refused, and not all of them were taken since.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// An event was not taken.
    pub fn refuse(&mut self, subject: &str, name: &str) {
        self.hold(subject);
        self.names.insert(name.to_owned(), Tries { allowed: 1, made: 1, more: false, failed: true });
    }

    /// All that is left of a row stays.
    pub fn pass_over(&mut self, row: i64) {
        self.rows.insert(row);
    }

    /// Whether the log does not say yet that a row cannot be read.
    pub fn is_news(&mut self, row: i64) -> bool {
        self.told_of.insert(row)
    }

    /// The rows that are passed over.
    pub fn rows(&self) -> Vec<i64> {
        self.rows.iter().copied().collect()
    }

    /// Whether no more rows may be passed over.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= MOST
    }

    /// For people who read logs: whose queues to look at.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> =
            self.names.iter().filter(|(_, tries)| tries.failed).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }

    /// How many people wait.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// Everything was looked at once: when to try what stays.
    pub fn again(&self) -> Again {
        match self.rows.is_empty() && self.people.is_empty() {
            true => Again::Nothing,
            false if self.names.values().any(|tries| tries.more && !tries.failed) => Again::AtOnce,
            false => Again::Later,
        }
    }

    /// Tries again what stays, from the oldest.
    pub fn begin_again(&mut self) {
        self.tried = std::mem::take(&mut self.rows);
        self.people.clear();
        self.names.retain(|_, tries| {
            let goes_on = tries.failed || tries.more;
            let allowed = if tries.failed { 1 } else { tries.allowed.saturating_mul(2) };
            *tries = Tries { allowed, made: 0, more: false, failed: false };
            goes_on
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One try: who is published, given whether the queue takes an event of that name. Each row has one event.
    fn run(
        refused: &mut Refused,
        rows: &mut Vec<(i64, &'static str, &'static str)>,
        takes: impl Fn(&str, usize) -> bool,
    ) -> Vec<i64> {
        let (mut published, mut count) = (Vec::new(), 0);
        let passed = refused.rows();
        rows.retain(|&(row, subject, name)| {
            if passed.contains(&row) {
                return true;
            }
            if refused.admits(row, subject, name) {
                published.push(row);
                if takes(name, count) {
                    count += 1;
                    return false;
                }
                refused.refuse(subject, name);
            }
            refused.pass_over(row);
            true
        });
        published
    }

    #[test]
    fn what_follows_of_the_same_person_stays_and_nothing_else() {
        let mut refused = Refused::default();
        let mut rows = vec![(1, "ada", "a"), (2, "bob", "b"), (3, "ada", "b"), (4, "eve", "a"), (5, "bob", "b")];
        assert_eq!(run(&mut refused, &mut rows, |name, _| name != "a"), [1, 2, 4, 5], "each is tried once");
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!((refused.again(), refused.names(), refused.people()), (Again::Later, "a".to_owned(), 2));

        rows.extend([(6, "ada", "b"), (7, "kim", "a"), (8, "bob", "b")]);
        assert_eq!(
            run(&mut refused, &mut rows, |name, _| name != "a"),
            [7, 8],
            "who waits is passed over, what is new is not"
        );
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3, 4, 6, 7]);
    }

    #[test]
    fn what_was_refused_is_tried_one_by_one_and_then_faster() {
        let mut refused = Refused::default();
        let people: Vec<&'static str> = (0..20).map(|n| &*format!("u{n}").leak()).collect();
        let mut rows: Vec<_> = (0..).zip(&people).map(|(row, subject)| (row, *subject, "a")).collect();
        assert_eq!(run(&mut refused, &mut rows, |_, _| false).len(), 20);
        refused.begin_again();
        assert_eq!(run(&mut refused, &mut rows, |_, _| false), [0], "others get it again with each try");
        assert_eq!(refused.again(), Again::Later);

        for expected in [1, 2, 4] {
            refused.begin_again();
            assert_eq!(run(&mut refused, &mut rows, |_, _| true).len(), expected);
            assert_eq!(refused.again(), Again::AtOnce);
        }
        refused.begin_again();
        assert_eq!(run(&mut refused, &mut rows, |_, taken| taken < 2), [7, 8, 9], "it is full again");
        assert_eq!(refused.again(), Again::Later);
        while refused.again() != Again::Nothing {
            refused.begin_again();
            run(&mut refused, &mut rows, |_, _| true);
        }
        assert!(rows.is_empty());
        refused.begin_again();
        assert!(refused.names.is_empty() && refused.tried.is_empty());
    }

    #[test]
    fn an_event_that_was_never_refused_is_not_held_back_by_its_name() {
        let mut refused = Refused::default();
        let mut rows = vec![(1, "ada", "a"), (2, "bob", "a")];
        run(&mut refused, &mut rows, |_, _| false);
        refused.begin_again();
        rows.push((3, "eve", "a"));
        assert_eq!(run(&mut refused, &mut rows, |_, _| false), [1, 3]);
    }

    #[test]
    fn no_more_rows_are_passed_over_than_there_is_room_for() {
        let mut refused = Refused::default();
        for row in 0..i64::try_from(MOST).unwrap() {
            assert!(!refused.is_full());
            refused.pass_over(row);
        }
        assert!(refused.is_full());
    }
}
