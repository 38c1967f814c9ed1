//! What became of everybody, against what became of the first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::people::People;
use crate::harness::{Event, Place, mails};

#[derive(Default)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, usize>,
    /// People for whom something is missing.
    pub lost: Vec<String>,
    /// People whose state is not what it should be.
    pub wrong: Vec<String>,
}

/// One text per person: everything about them that must be the same for all, in order.
type Stories = HashMap<String, String>;

pub async fn take(place: &Place, people: &People, events: &[Event], count: usize) -> Tally {
    let mut tally = Tally { wrong: people.wrong.lock().unwrap().clone(), ..Tally::default() };
    let tickets = "select user_id, string_agg(purpose || ' ' || state, ', ' order by id) from tickets group by 1";
    let acts = "select user_id, string_agg(kind || ' ' || outcome, ', ' order by id) from activity \
        where user_id is not null group by 1";
    let sessions = "select user_id, count(*)::text from sessions group by 1";
    let changes = "select user_id, string_agg(template, ', ' order by template) from emails group by 1";
    let unsent = "select user_id, string_agg(template || ' ' || state, ', ') from emails where state <> 'sent' \
        and template = 'password_changed' group by 1";
    for (what, query) in [("tickets", tickets), ("activity", acts), ("sessions", sessions), ("mails queued", changes)] {
        compare(&mut tally, what, &stories(place, query).await, count);
    }
    of_nobody(&mut tally, place).await;
    for (id, mails) in stories(place, unsent).await {
        tally.lost.push(format!("{id}: {mails}"));
    }
    compare(&mut tally, "events", &told(events), count);
    mailed(&mut tally, place, count);
    let (mut seen, mut repeated) = (HashSet::new(), 0);
    for event in events {
        repeated += usize::from(!seen.insert(event.body["id"].to_string()));
    }
    let dead = usize::try_from(people_dead(place).await).unwrap();
    if dead > 0 {
        tally.wrong.push(format!("{dead} dead letters"));
    }
    for (what, number) in [
        ("people, each with 8 commands", count),
        ("commands", people.commands.load(Ordering::Relaxed)),
        ("messages published for them", people.published.load(Ordering::Relaxed)),
        ("replies that said `duplicate`", people.duplicates.load(Ordering::Relaxed)),
        ("events", seen.len()),
        ("events that came again", repeated),
    ] {
        tally.counts.insert(what, number);
    }
    tally
}

/// Commands that found nobody, though everybody was there before they were asked for; and what was logged of them.
async fn of_nobody(tally: &mut Tally, place: &Place) {
    let query = "select command_id, concat_ws(' ', kind, outcome, at, details) from activity where user_id is null";
    let logs = place.logs();
    for (id, act) in stories(place, query).await {
        let logged =
            logs.lines().filter(|line| line.contains(&id)).fold(String::new(), |all, line| all + "\n    " + line);
        tally.wrong.push(format!("of nobody: {id} {act}{logged}"));
    }
}

async fn people_dead(place: &Place) -> u32 {
    place.client().await.depth("dead").await
}

async fn stories(place: &Place, query: &str) -> Stories {
    place.rows(query).await.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The first one's story is how it is to be.
fn compare(tally: &mut Tally, what: &str, stories: &Stories, count: usize) {
    let none = String::new();
    let right = stories.get("p0").unwrap_or(&none);
    assert!(!right.is_empty(), "the first person has no {what}");
    for number in 1..count {
        let id = format!("p{number}");
        match stories.get(&id) {
            Some(story) if story == right => {}
            Some(story) if story.len() < right.len() => {
                tally.lost.push(format!("{id}: {what}: {story}\n    instead of: {right}"));
            }
            Some(story) => tally.wrong.push(format!("{id}: {what}: {story}\n    instead of: {right}")),
            None => tally.lost.push(format!("{id}: no {what}")),
        }
    }
}

/// What was told of each person, in the order in which it was heard first. When a mail went out is chance.
fn told(events: &[Event]) -> Stories {
    let mut seen = HashSet::new();
    let mut stories = Stories::new();
    for event in events {
        if seen.insert(event.body["id"].to_string()) && !event.routing_key.starts_with("email.") {
            let story = stories.entry(event.body["subject"].as_str().unwrap().to_owned()).or_default();
            *story += &event.routing_key;
            *story += ", ";
        }
    }
    stories
}

/// Each person has four mails; each may have come more than once, under the same Message-ID.
fn mailed(tally: &mut Tally, place: &Place, count: usize) {
    let mut by_person: HashMap<String, Vec<String>> = HashMap::new();
    for mail in mails(&place.mail) {
        by_person.entry(mail.to.clone()).or_default().push(mail.header("message-id"));
    }
    let (mut all, mut extra) = (0, 0);
    for number in 0..count {
        let ids = by_person.remove(&format!("p{number}@example.com")).unwrap_or_default();
        let different: HashSet<&String> = ids.iter().collect();
        all += ids.len();
        extra += ids.len() - different.len();
        match different.len() {
            4 => {}
            0..4 => tally.lost.push(format!("p{number}: {} mails instead of 4", different.len())),
            more => tally.wrong.push(format!("p{number}: {more} mails instead of 4")),
        }
    }
    for stranger in by_person.keys() {
        tally.wrong.push(format!("a mail to {stranger}, who is nobody"));
    }
    tally.counts.insert("mails taken by the server", all);
    tally.counts.insert("of these copies of one that was in flight", extra);
}
