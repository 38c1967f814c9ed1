//! Whether the database answers: asked regularly, and at once when somebody found that it does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::vitals::Pulse;

use super::{Error, Pool, migrations, pool};

/// A shared view of the database's state.
#[derive(Clone)]
pub struct Health {
    state: watch::Sender<Result<(), String>>,
    doubt: Arc<Notify>,
    failing: Arc<Mutex<Failing>>,
    pool: Pool,
}

/// Who fails at work, although the database answers; and when it did not answer.
#[derive(Default)]
struct Failing {
    /// Why.
    troubles: BTreeMap<u64, String>,
    next: u64,
    /// What the log says is wrong, since all was well.
    told: Vec<String>,
    outage: Outage,
}

/// So long the database may be away without that a lease on a mail can have lapsed: they last for 15 s, and are prolonged every 3 s.
const LEASES_HOLD: Duration = Duration::from_secs(8);

/// When the database was away last. Not each trouble at work counts: somebody may have some for hours, at every try, while all that
/// others do goes well.
#[derive(Debug, Default)]
struct Outage {
    /// When it answered last.
    answered: Option<Instant>,
    /// When it answered again, after it had not for so long that others may have taken up what this daemon held.
    back: Option<Instant>,
}

impl Outage {
    /// It answers. How long it did not is counted from its last answer: it may have been away long before anybody noticed.
    fn answers(&mut self, now: Instant) {
        if self.answered.is_none_or(|last| now - last >= LEASES_HOLD) {
            self.back = Some(now);
        }
        self.answered = Some(now);
    }

    fn is_over_for(&self, time: Duration, now: Instant) -> bool {
        self.back.is_some_and(|back| now - back >= time)
    }
}

/// The most reasons that are logged before all is well again.
const REASONS: usize = 10;

impl Failing {
    /// Whether the log has something to say now: of each reason once, and of the end of it all.
    fn is_news(&mut self, problem: Option<&String>) -> bool {
        match problem {
            Some(reason) if self.told.contains(reason) || self.told.len() >= REASONS => false,
            Some(reason) => {
                self.told.push(reason.clone());
                true
            }
            None => !std::mem::take(&mut self.told).is_empty(),
        }
    }
}

impl Health {
    /// The health of the database that this pool connects to.
    pub fn of(pool: Pool) -> Self {
        let state = watch::Sender::new(Err("the schema is still being looked at".to_owned()));
        let failing = Failing::default();
        Self { state, doubt: Arc::default(), failing: Arc::new(Mutex::new(failing)), pool }
    }

    /// Why the database cannot be used, if so.
    pub fn problem(&self) -> Option<String> {
        self.state.borrow().clone().err().or_else(|| self.failing().troubles.values().next_back().cloned())
    }

    /// Waits until it answers.
    pub async fn wait_until_up(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.state.subscribe().wait_for(Result::is_ok).await;
    }

    /// Whether the database answers, and this much time has passed since an outage in which a lease on a mail may have lapsed.
    pub fn is_back_for(&self, time: Duration) -> bool {
        self.state.borrow().is_ok() && self.failing().outage.is_over_for(time, Instant::now())
    }

    /// Somebody's statement failed because the server is away.
    pub fn report_down(&self, error: &Error) {
        if error.is_of_the_session() {
            self.pool.renew();
        }
        self.set(Err(error.to_string()));
        self.doubt.notify_one();
    }

    /// The same, of a statement by which leases on mails are taken, prolonged or ended: as long as it fails they may lapse,
    /// although the database answers.
    pub fn report_down_for_leases(&self, error: &Error) {
        self.failing().outage.back = Some(Instant::now());
        self.report_down(error);
    }

    /// As [`Self::report_down`], until the caller drops the trouble: the server may answer and still fail at work (a full disk, a table that
    /// somebody has locked).
    pub fn report_failing(&self, error: &Error) -> Trouble {
        let number = {
            let mut failing = self.failing();
            failing.next += 1;
            let number = failing.next;
            failing.troubles.insert(number, error.to_string());
            number
        };
        self.report_down(error);
        Trouble { health: self.clone(), number }
    }

    /// Asks on a connection of its own, or through the pool: where a new connection is one too many, those that there are
    /// still work.
    async fn ask(&self, url: &SecretString, connection: &mut Option<AsyncPgConnection>) -> Result<f64, Error> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match pool::connect(url).await {
                Ok(new) => new,
                Err(error) => return ask(&mut *self.pool.get().await.map_err(|_| error)?).await,
            },
        };
        let skew = ask(&mut open).await?;
        *connection = Some(open);
        Ok(skew)
    }

    fn set(&self, now: Result<(), String>) {
        self.state.send_if_modified(|before| {
            let changed = before.is_ok() != now.is_ok();
            if now.is_ok() {
                // Before anybody sees that it answers.
                self.failing().outage.answers(Instant::now());
            }
            *before = now;
            changed
        });
        self.tell();
    }

    /// Logs each change, of what the server answers and of how work goes together.
    fn tell(&self) {
        let problem = self.problem();
        if !self.failing().is_news(problem.as_ref()) {
            return;
        }
        if let Some(reason) = problem {
            warn!(reason, "the database is away or cannot be used; waiting for it");
        } else {
            info!("the database answers");
        }
    }

    fn failing(&self) -> MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until `stop`: every 5 s while all is well, every 500 ms while it is not. Calls `changed` with each change.
    ///
    /// Each answer also tells `skewed` how many seconds this clock is ahead of the database's.
    ///
    /// If possible on a connection of its own: a pool that is busy is no database that is away.
    pub async fn watch(
        &self,
        url: &SecretString,
        pulse: Pulse,
        stop: CancellationToken,
        changed: impl Fn(bool),
        skewed: impl Fn(f64),
    ) {
        let mut was_up = None;
        let mut connection = None;
        while !stop.is_cancelled() {
            if was_up == Some(true) && self.state.borrow().is_err() {
                // Others found out, and it may be over already.
                changed(false);
                was_up = Some(false);
            }
            let is_new = connection.is_none();
            let asked = tokio::time::timeout(PATIENCE, self.ask(url, &mut connection)).await;
            if !matches!(asked, Ok(Ok(_))) {
                connection = None;
            }
            let answer = match asked {
                // A session that was ended says nothing about the server.
                Ok(Err(_)) if !is_new => continue,
                Ok(answer) => answer,
                Err(_) => Err(Error::Unavailable("it does not answer".to_owned())),
            };
            // Counted before anybody can see it.
            let up = answer.is_ok();
            if was_up != Some(up) {
                changed(up);
                was_up = Some(up);
            }
            self.set(answer.map(&skewed).map_err(|e| e.to_string()));
            let well = self.problem().is_none();
            let pause = if well { Duration::from_secs(5) } else { Duration::from_millis(500) };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.doubt.notified() => {}
                () = pulse.waiting(tokio::time::sleep(pause)) => {}
            }
        }
    }
}

/// Somebody's trouble with a database that answers; over when it is dropped.
#[must_use = "the trouble is over when this is dropped"]
pub struct Trouble {
    health: Health,
    number: u64,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.health.failing().troubles.remove(&self.number);
        self.health.tell();
    }
}

/// How long the server may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks whether the database can be used, and how many seconds this clock is ahead of its.
async fn ask(connection: &mut AsyncPgConnection) -> Result<f64, Error> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = diesel::sql_types::Text)]
        read_only: String,
        #[diesel(sql_type = diesel::sql_types::Timestamptz)]
        now: DateTime<Utc>,
    }
    let question = "select current_setting('transaction_read_only') as read_only, clock_timestamp() as now";
    let before = clock::now();
    let answer: Answer = diesel::sql_query(question).get_result(connection).await?;
    let after = clock::now();
    if answer.read_only == "on" {
        return Err(Error::Unavailable("it is read-only".to_owned()));
    }
    Ok(skew(before, answer.now, after))
}

/// Whether commands find what they need: the schema is up to date, and this role may use the tables that most commands use. If so,
/// something that is missing is missing for one command only.
///
/// Whoever is loaded comes with tickets and suppressions; requests for mail are counted in `rate_limits`, and write mails. What erasures and
/// the histories of mails alone use is not among them.
///
/// # Errors
/// When the database fails.
pub async fn is_prepared(connection: &mut AsyncPgConnection) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct Allowed {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        allowed: bool,
    }
    if !migrations::lacking(connection).await?.is_empty() {
        return Ok(false);
    }
    let allowed: Allowed = diesel::sql_query(
        "select coalesce(bool_and(coalesce(has_table_privilege(to_regclass(name), required), false)), false) as allowed \
         from (select name, required from unnest(array['users', 'tickets', 'sessions', 'rate_limits', 'emails']) name, \
         unnest(array['select', 'insert', 'update']) required \
         union all values ('activity', 'insert'), ('inbox', 'select'), ('inbox', 'insert'), ('event_outbox', 'insert'), \
         ('suppressions', 'select')) as needed (name, required)",
    )
    .get_result(connection)
    .await?;
    Ok(allowed.allowed)
}

/// How many seconds this clock is ahead of one that was read somewhere between `before` and `after`. Any of these moments may
/// be the true one, so less than the time of the round trip is no skew.
fn skew(before: DateTime<Utc>, theirs: DateTime<Utc>, after: DateTime<Utc>) -> f64 {
    let seconds = |from: DateTime<Utc>, to: DateTime<Utc>| (to - from).as_seconds_f64();
    if theirs < before {
        seconds(theirs, before)
    } else if theirs > after {
        seconds(theirs, after)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_does_not_end_the_trouble_of_who_fails_at_work() {
        let url = SecretString::from("postgres://localhost/nowhere");
        let health = Health::of(Pool::new(&url, 2).unwrap());
        assert!(health.problem().is_some(), "nobody has asked yet");
        health.set(Ok(()));
        let full = Error::Unavailable("No space left on device".to_owned());
        let (first, second) = (health.report_failing(&full), health.report_failing(&full));
        health.set(Ok(()));
        drop(first);
        assert!(health.problem().is_some_and(|problem| problem.contains("No space left on device")));
        drop(second);
        assert_eq!(health.problem(), None);
    }

    #[test]
    fn only_an_outage_in_which_leases_may_lapse_makes_mails_wait() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut outage = Outage::default();
        assert!(!outage.is_over_for(Duration::ZERO, start), "nobody has asked yet");
        outage.answers(start);
        assert!(
            !outage.is_over_for(5 * second, start + 4 * second),
            "others may have begun before this daemon started"
        );
        // Somebody's trouble every 5 s, after each of which it is asked.
        for at in 1..20 {
            let now = start + 5 * at * second;
            assert!(outage.is_over_for(5 * second, now));
            outage.answers(now);
        }
        let away = start + 95 * second;
        outage.answers(away + 7 * second);
        assert!(outage.is_over_for(5 * second, away + 7 * second));
        outage.answers(away + 15 * second);
        assert!(!outage.is_over_for(5 * second, away + 19 * second));
        assert!(outage.is_over_for(5 * second, away + 20 * second));
    }

    #[test]
    fn of_those_who_fail_at_work_only_who_holds_leases_makes_mails_wait() {
        let url = SecretString::from("postgres://localhost/nowhere");
        let health = Health::of(Pool::new(&url, 2).unwrap());
        health.set(Ok(()));
        let long_ago = Instant::now() - Duration::from_secs(60);
        let is_back = || health.is_back_for(Duration::from_secs(5));
        health.failing().outage.back = Some(long_ago);
        let missing = Error::Unavailable("relation \"erasures\" does not exist".to_owned());
        health.report_down(&missing);
        assert!(!is_back(), "it has to answer first");
        health.set(Ok(()));
        assert!(is_back());
        health.report_down_for_leases(&missing);
        health.set(Ok(()));
        assert!(!is_back());
        health.failing().outage.back = Some(long_ago);
        assert!(is_back());
    }

    #[test]
    fn each_reason_is_news_once_until_all_is_well() {
        let mut failing = Failing::default();
        let mut is_news = |problem: Option<&str>| failing.is_news(problem.map(str::to_owned).as_ref());
        assert!(!is_news(None), "it was well all along");
        for problem in [Some("it is read-only"), Some("Connection refused"), None] {
            assert!(is_news(problem), "{problem:?}");
            assert!(!is_news(problem), "{problem:?} again");
        }
        let reasons: Vec<String> = (0..2 * REASONS).map(|number| number.to_string()).collect();
        assert_eq!(reasons.iter().filter(|reason| is_news(Some(reason))).count(), REASONS);
        assert!(is_news(None));
    }

    #[test]
    fn only_what_the_round_trip_does_not_explain_is_skew() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap();
        for (theirs, expected) in [(0, 0.0), (40, 0.0), (100, 0.0), (-500, 0.5), (2100, -2.0)] {
            assert_eq!(skew(at(0), at(theirs), at(100)).to_bits(), f64::to_bits(expected), "{theirs}");
        }
    }
}
