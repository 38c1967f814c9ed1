//! Events that were committed together share rows of the outbox: a row for each costs the database more than what is in it.
//!
//! A row holds a JSON array of `{"name", "subject", "body"}`. The body is the `CloudEvent` itself, or a string if it waits
//! encrypted.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::world::QueuedEvent;

/// How long a row's text may be: it fits on a page of the database, so nothing is compressed or stored in pieces. Only an
/// event that is longer by itself has a longer row, alone.
const ROW: usize = 8000;

/// Events that share a row, as they are stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// How many.
    pub count: i32,
    /// The text.
    pub events: String,
}

/// An event that waits in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The id of the person it is about.
    pub subject: String,
    /// The routing key.
    pub name: String,
    /// The `CloudEvent`, or its encrypted text.
    pub body: String,
}

/// Events in their order, as few rows as may be.
pub fn pack(events: &[QueuedEvent]) -> Vec<Packed> {
    let mut rows = Vec::new();
    let mut row = Packing::default();
    for event in events {
        let written = write(event.name, &event.subject, &event.body);
        if row.count > 0 && row.len_with(&written) > ROW {
            rows.push(std::mem::take(&mut row).packed());
        }
        row.add(&written);
    }
    if row.count > 0 {
        rows.push(row.packed());
    }
    rows
}

/// What became of a row's events, or is left of them: one row again.
pub fn repack(events: &[Waiting]) -> Packed {
    let mut row = Packing::default();
    for event in events {
        row.add(&write(&event.name, &event.subject, &event.body));
    }
    row.packed()
}

/// A row's events in their order; nothing if the text is none of ours.
pub fn unpack(events: &str) -> Option<Vec<Waiting>> {
    #[derive(Deserialize)]
    struct Written<'a> {
        name: String,
        subject: String,
        #[serde(borrow)]
        body: &'a RawValue,
    }
    let written: Vec<Written<'_>> = serde_json::from_str(events).ok()?;
    let waiting = |Written { name, subject, body }| {
        let body = body.get();
        let body = if body.starts_with('"') { serde_json::from_str(body).ok()? } else { body.to_owned() };
        Some(Waiting { subject, name, body })
    };
    written.into_iter().map(waiting).collect()
}

/// A `CloudEvent` stays as it is: it is JSON, and not read again to write it.
fn write(name: &str, subject: &str, body: &str) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let (name, subject) = (text(name), text(subject));
    let encrypted = (!body.starts_with('{')).then(|| text(body));
    format!(r#"{{"name":{name},"subject":{subject},"body":{}}}"#, encrypted.as_deref().unwrap_or(body))
}

/// A row that is being written.
#[derive(Default)]
struct Packing {
    count: i32,
    /// Without the bracket at its end.
    text: String,
}

impl Packing {
    fn len_with(&self, event: &str) -> usize {
        self.text.len() + event.len() + ",]".len()
    }

    fn add(&mut self, event: &str) {
        self.text.push(if self.count == 0 { '[' } else { ',' });
        self.text.push_str(event);
        self.count += 1;
    }

    fn packed(mut self) -> Packed {
        self.text.push(']');
        Packed { count: self.count, events: self.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(subject: &str, body: String) -> QueuedEvent {
        QueuedEvent { subject: subject.to_owned(), name: "user.created", body }
    }

    fn waiting(events: &[QueuedEvent]) -> Vec<Waiting> {
        let same =
            |e: &QueuedEvent| Waiting { subject: e.subject.clone(), name: e.name.to_owned(), body: e.body.clone() };
        events.iter().map(same).collect()
    }

    #[test]
    fn what_is_packed_is_what_is_unpacked() {
        let events = [
            queued("ada", r#"{"data": {"n":1.50, "actor":"o\"hara\u0000"}}"#.to_owned()),
            queued("o\"hara\n\\", "key1.c2VhbGVk".to_owned()),
            queued("ünï", String::new()),
        ];
        let rows = pack(&events);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row.count, 3);
        assert!(row.events.contains(&events[0].body));
        let unpacked = unpack(&row.events).unwrap();
        assert_eq!(unpacked, waiting(&events));
        assert_eq!(repack(&unpacked), *row);
        assert_eq!(pack(&[]), []);
    }

    #[test]
    fn rows_are_full_but_not_longer_than_a_page() {
        let events: Vec<QueuedEvent> =
            (0..100).map(|n| queued(&format!("u{n}"), format!(r#"{{"n":"{}"}}"#, "x".repeat(n * 7)))).collect();
        let rows = pack(&events);
        let unpacked: Vec<Vec<Waiting>> = rows.iter().map(|row| unpack(&row.events).unwrap()).collect();
        assert_eq!(unpacked.concat(), waiting(&events));
        for (row, events) in rows.iter().zip(&unpacked) {
            assert!(row.events.len() <= ROW, "{}", row.events.len());
            assert_eq!(usize::try_from(row.count), Ok(events.len()));
        }
        for (row, next) in rows.iter().zip(&unpacked[1..]) {
            assert!(row.events.len() + repack(&next[..1]).events.len() > ROW, "there was room for one more");
        }
    }

    #[test]
    fn a_row_is_filled_to_its_last_byte() {
        let body = |length| format!(r#"{{"n":"{}"}}"#, "x".repeat(length));
        let length = |first| {
            let rows = pack(&[queued("u", body(first)), queued("u", body(0))]);
            rows.iter().map(|row| row.events.len()).collect::<Vec<_>>()
        };
        let room = ROW - length(0)[0];
        assert_eq!(length(room), [ROW]);
        assert_eq!(length(room + 1).len(), 2);
    }

    #[test]
    fn an_event_that_is_longer_than_a_row_has_one_for_itself() {
        let long = format!(r#"{{"n":"{}"}}"#, "x".repeat(ROW));
        let counts = |bodies: &[&str]| {
            let events: Vec<QueuedEvent> = bodies.iter().map(|body| queued("u", (*body).to_owned())).collect();
            pack(&events).iter().map(|row| row.count).collect::<Vec<_>>()
        };
        assert_eq!(counts(&["{}", &long, &long, "{}", "{}"]), [1, 1, 1, 2]);
        assert_eq!(counts(&[&long]), [1]);
    }

    #[test]
    fn a_text_that_is_none_of_ours_is_told_from_one_without_events() {
        assert_eq!(unpack("[]"), Some(Vec::new()));
        for text in ["", "{}", "[{}]", r#"[{"name":"n","subject":"s"}]"#, r#"[{"name":"n","subject":"s","body":{}}"#] {
            assert_eq!(unpack(text), None, "{text}");
        }
    }
}
