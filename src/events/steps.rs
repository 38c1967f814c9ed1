//! In which order a round's events are published, and what stays of them.
//!
//! Events of one person leave in order. They are published together while all is well; but an event whose name was refused is
//! the last of its person in its step: what follows is published in the next one, or not at all if it was refused again.
//! Whatever the broker took stays only if an earlier event about the same person, of the same step, was not taken: it has to
//! come after that one.

use std::collections::{HashSet, VecDeque};

use crate::broker::PublishError;
use crate::store::event_outbox::Relayed;
use crate::store::packed_events::Waiting;

use super::refused::Refused;

/// What became of a round's events.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What stays of each row.
    pub rows: Vec<Relayed>,
    /// Rows that are not passed over, whatever stays of them: the broker took nothing any more.
    pub unsent: Vec<i64>,
    /// Why an event was not taken.
    pub trouble: Option<PublishError>,
    /// Events wait for a key.
    pub without_key: bool,
}

/// An event of the round.
#[derive(Debug)]
struct Planned {
    /// Its row, as an index of [`Outcome::rows`].
    row: usize,
    /// Its place in the row.
    place: usize,
    event: Waiting,
    /// Otherwise it stays, since this daemon does not have its key.
    readable: bool,
}

/// An event that is being published.
#[derive(Debug)]
struct Sent {
    row: usize,
    place: usize,
    subject: String,
    name: String,
}

/// A round's events, step by step.
pub struct Steps<'a> {
    refused: &'a mut Refused,
    /// In their order.
    planned: VecDeque<Planned>,
    sent: Vec<Sent>,
    outcome: Outcome,
}

impl<'a> Steps<'a> {
    /// Of a round in which nothing is published yet.
    pub fn new(refused: &'a mut Refused) -> Self {
        Self { refused, planned: VecDeque::new(), sent: Vec::new(), outcome: Outcome::default() }
    }

    /// The next row, which has so many events.
    pub fn add_row(&mut self, seq: i64, count: usize) {
        self.outcome.rows.push(Relayed { seq, count, stay: Vec::new() });
    }

    /// The next row, of which nothing can be read: it stays as it is. Says whether that is news.
    pub fn add_strange_row(&mut self, seq: i64) -> bool {
        self.outcome.rows.push(Relayed { seq, count: 1, stay: vec![0] });
        self.refused.is_news(seq)
    }

    /// An event of the row that was added last.
    pub fn add(&mut self, place: usize, event: Waiting) {
        self.plan(place, event, true);
    }

    /// One of that row that is encrypted with a key which this daemon does not have: it stays, and so does what follows it.
    pub fn add_unreadable(&mut self, place: usize, event: Waiting) {
        self.outcome.without_key = true;
        self.plan(place, event, false);
    }

    fn plan(&mut self, place: usize, event: Waiting, readable: bool) {
        let row = self.outcome.rows.len().saturating_sub(1);
        self.planned.push_back(Planned { row, place, event, readable });
    }

    /// What may be published next; nothing at the end of the round. [`Self::settle`] takes what became of it.
    pub fn next(&mut self) -> Vec<Waiting> {
        let (mut events, mut later, mut in_doubt) = (Vec::new(), VecDeque::new(), HashSet::new());
        for Planned { row, place, event, readable } in std::mem::take(&mut self.planned) {
            if in_doubt.contains(&event.subject) {
                later.push_back(Planned { row, place, event, readable });
            } else if !readable {
                self.refused.hold(&event.subject);
                self.stay(row, place);
            } else if self.refused.admits(self.outcome.rows[row].seq, &event.subject, &event.name) {
                if self.refused.knows(&event.name) {
                    in_doubt.insert(event.subject.clone());
                }
                self.sent.push(Sent { row, place, subject: event.subject.clone(), name: event.name.clone() });
                events.push(event);
            } else {
                self.stay(row, place);
            }
        }
        self.planned = later;
        events
    }

    /// What became of the events of this step, in their order.
    pub fn settle(&mut self, fates: Vec<Result<(), PublishError>>) {
        let mut failed = HashSet::new();
        let mut broken = false;
        for (Sent { row, place, subject, name }, fate) in std::mem::take(&mut self.sent).into_iter().zip(fates) {
            match fate {
                Ok(()) if !failed.contains(&subject) => continue,
                // Its row may be passed over; what comes later must not go before it.
                Ok(()) => self.refused.hold(&subject),
                Err(error) => {
                    if matches!(error, PublishError::Unavailable(_)) {
                        self.outcome.unsent.push(self.outcome.rows[row].seq);
                    } else {
                        self.refused.refuse(&subject, &name);
                    }
                    broken |= matches!(error, PublishError::Unavailable(_) | PublishError::Unknown(_));
                    failed.insert(subject);
                    self.outcome.trouble.get_or_insert(error);
                }
            }
            self.stay(row, place);
        }
        if broken {
            // The connection is gone, or the broker does not answer: each further step would wait as long for nothing.
            for Planned { row, place, .. } in std::mem::take(&mut self.planned) {
                self.outcome.unsent.push(self.outcome.rows[row].seq);
                self.stay(row, place);
            }
        }
    }

    /// What is left, when there is nothing more to publish.
    pub fn finish(mut self) -> Outcome {
        for row in &mut self.outcome.rows {
            row.stay.sort_unstable();
        }
        self.outcome
    }

    fn stay(&mut self, row: usize, place: usize) {
        self.outcome.rows[row].stay.push(place);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::refused::Again;
    use super::*;

    type Event = (&'static str, &'static str);

    /// The outbox, each event in a row of its own, and the broker.
    struct Relay {
        refused: Refused,
        outbox: Vec<(i64, Event)>,
        published: Vec<i64>,
    }

    impl Relay {
        fn new(events: &[Event]) -> Self {
            let outbox = (0..).zip(events.iter().copied()).collect();
            Self { refused: Refused::default(), outbox, published: Vec::new() }
        }

        /// A round; says what was taken.
        fn round(&mut self, mut broker: impl FnMut(i64, Event) -> Result<(), PublishError>) -> Vec<i64> {
            let passed_over = self.refused.rows();
            let mut steps = Steps::new(&mut self.refused);
            for (seq, (subject, name)) in self.outbox.iter().filter(|(seq, _)| !passed_over.contains(seq)) {
                steps.add_row(*seq, 1);
                steps.add(0, Waiting { subject: (*subject).into(), name: (*name).into(), body: seq.to_string() });
            }
            let mut taken = Vec::new();
            loop {
                let step = steps.next();
                if step.is_empty() {
                    break;
                }
                let mut fates = Vec::new();
                for event in step {
                    let seq: i64 = event.body.parse().unwrap();
                    let (_, known) = self.outbox[self.outbox.iter().position(|(other, _)| *other == seq).unwrap()];
                    self.published.push(seq);
                    let fate = broker(seq, known);
                    if fate.is_ok() {
                        taken.push(seq);
                    }
                    fates.push(fate);
                }
                steps.settle(fates);
            }
            let outcome = steps.finish();
            for row in &outcome.rows {
                if row.stay.is_empty() {
                    self.outbox.retain(|(seq, _)| *seq != row.seq);
                } else if !outcome.unsent.contains(&row.seq) {
                    self.refused.pass_over(row.seq);
                }
            }
            taken
        }

        fn left(&self) -> Vec<i64> {
            self.outbox.iter().map(|(seq, _)| *seq).collect()
        }
    }

    /// A queue with room for one event, of which somebody takes one from time to time.
    #[test]
    fn a_slow_queue_gets_each_event_of_a_person_once_and_in_order() {
        let mut events = vec![("ada", "created")];
        events.extend([("ada", "updated"); 5]);
        events.extend([("ada", "blocked"), ("zoe", "created"), ("zoe", "updated")]);
        let mut relay = Relay::new(&events);
        let mut got = Vec::new();
        relay.round(|_, _| Err(PublishError::Nacked));
        for _ in 0..events.len() {
            let mut room = 1;
            while room > 0 && relay.refused.again() != Again::Nothing {
                relay.refused.begin_again();
                let taken = relay.round(|_, _| {
                    let full = room == 0;
                    room = 0;
                    if full { Err(PublishError::Nacked) } else { Ok(()) }
                });
                assert!(!taken.is_empty(), "no progress: {:?}", relay.left());
                got.extend(taken);
            }
        }
        assert_eq!(relay.left(), [0; 0]);
        let (of_ada, of_zoe): (Vec<i64>, Vec<i64>) = got.iter().partition(|&&seq| seq <= 6);
        assert_eq!((of_ada, of_zoe), (vec![0, 1, 2, 3, 4, 5, 6], vec![7, 8]));
    }

    #[test]
    fn what_was_taken_before_an_event_that_is_held_back_by_its_name_is_told() {
        let mut relay = Relay::new(&[("ada", "a"), ("ada", "b"), ("bob", "b"), ("bob", "c")]);
        relay.round(|_, (_, name)| if name == "c" { Ok(()) } else { Err(PublishError::Nacked) });
        assert_eq!(relay.left(), [0, 1, 2, 3]);
        relay.round(|_, _| Err(PublishError::Nacked));
        relay.refused.begin_again();
        assert_eq!(relay.round(|_, _| Ok(())), [0, 2, 3], "of those named b one is tried");
        assert_eq!(relay.left(), [1]);
        relay.refused.begin_again();
        assert_eq!(relay.round(|_, _| Ok(())), [1]);
    }

    #[test]
    fn what_follows_a_refused_event_is_told_after_it() {
        let mut relay = Relay::new(&[("ada", "a"), ("ada", "b"), ("bob", "b"), ("ada", "c")]);
        let no_a = |_, (_, name): Event| if name == "a" { Err(PublishError::Nacked) } else { Ok(()) };
        assert_eq!(relay.round(no_a), [1, 2, 3], "nothing was refused before: they are on their way together");
        assert_eq!(relay.left(), [0, 1, 3], "what followed is told again");
        for _ in 0..3 {
            relay.refused.begin_again();
            relay.published.clear();
            assert_eq!(relay.round(no_a), [0; 0]);
            assert_eq!(relay.published, [0], "what follows is not even tried");
        }
        relay.refused.begin_again();
        assert_eq!(relay.round(|_, _| Ok(())), [0, 1, 3]);
    }

    /// The allowance of a name is for those who are tried.
    #[test]
    fn who_waits_for_another_event_takes_nobodys_turn() {
        let mut relay = Relay::new(&[("ada", "a"), ("ada", "b"), ("kim", "b")]);
        relay.round(|_, _| Err(PublishError::Nacked));
        relay.refused.begin_again();
        assert_eq!(relay.round(|_, (_, name)| if name == "b" { Ok(()) } else { Err(PublishError::Nacked) }), [2]);
        assert_eq!((relay.left(), relay.refused.again()), (vec![0, 1], Again::Later));
    }

    #[test]
    fn a_broker_that_does_not_answer_is_asked_for_one_step() {
        let mut relay = Relay::new(&[("ada", "a"), ("ada", "a"), ("bob", "b"), ("kim", "a"), ("kim", "c")]);
        relay.round(|_, (subject, _)| if subject == "ada" { Err(PublishError::Nacked) } else { Ok(()) });
        let new = |seq, event| (seq, event);
        relay.outbox.extend([new(10, ("eve", "a")), new(11, ("eve", "c")), new(12, ("bob", "b"))]);
        relay.published.clear();
        let away = |what: &str| match what {
            "a" => Err(PublishError::Unknown(String::new())),
            _ => Err(PublishError::Unavailable(String::new())),
        };
        relay.round(|_, (_, name)| away(name));
        assert_eq!(relay.published, [10, 12]);
        assert_eq!(relay.left(), [0, 1, 10, 11, 12]);
        let passed_over: HashSet<i64> = relay.refused.rows().into_iter().collect();
        assert_eq!(passed_over, HashSet::from([0, 1, 10]), "what was not tried is looked at again in the next round");
    }

    /// Whatever is refused, whenever: in the end everybody's events were told, the last of each time in order.
    #[test]
    fn events_of_a_person_are_told_in_order_whatever_is_refused() {
        use rand::rngs::StdRng;
        use rand::{RngExt as _, SeedableRng as _};
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let names = ["a", "b", "c"];
            let people = ["ada", "bob", "kim"];
            let events: Vec<Event> = (0..random.random_range(1..30))
                .map(|_| (people[random.random_range(0..3)], names[random.random_range(0..3)]))
                .collect();
            let mut relay = Relay::new(&events);
            let mut told: HashMap<&str, Vec<i64>> = HashMap::new();
            let mut tries = 0;
            while !relay.outbox.is_empty() {
                tries += 1;
                assert!(tries < 500, "seed {seed}: no progress, {:?}", relay.left());
                let taken = relay.round(|_, _| match random.random_range(0..6) {
                    0 | 1 => Err(PublishError::Nacked),
                    2 if random.random_range(0..4) == 0 => Err(PublishError::Unknown(String::new())),
                    _ => Ok(()),
                });
                for seq in taken {
                    told.entry(events[usize::try_from(seq).unwrap()].0).or_default().push(seq);
                }
                if random.random() {
                    relay.refused.begin_again();
                }
            }
            for (subject, told) in &told {
                let mut last = told.clone();
                last.reverse();
                let mut seen = HashSet::new();
                last.retain(|seq| seen.insert(*seq));
                assert!(last.is_sorted_by(|a, b| a > b), "seed {seed}, {subject}: {told:?}");
            }
            assert_eq!(told.values().flatten().collect::<HashSet<_>>().len(), events.len());
        }
    }
}
