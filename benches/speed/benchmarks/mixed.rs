//! Commands of all lanes at a rate, and whether those that hash passwords delay the others.

use std::time::{Duration, Instant};

use regrant::commands::Lane;
use serde_json::json;

use crate::blend::{self, BLEND, Call, Known as Upstream};
use crate::harness::{Client, Command, PASSWORD};
use crate::scene::{Kind, Scene};
use crate::support::arrivals;
use crate::support::asker::{Asker, Callers};
use crate::support::chart::{self, Panel};
use crate::support::load;
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::{number, quantile};

pub const OPTIONS: &[Known] = &[
    ("rate", "200", "commands a second, with those that hash"),
    ("seconds", "8", "how long in each run"),
    ("rounds", "3", "runs of each, taking turns"),
];

/// In the order in which they are shown: those first that are not to be delayed.
const LANES: [Lane; 3] = [Lane::State, Lane::Queries, Lane::Credentials];

/// What the lane of credentials has to do beside the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Nothing.
    Without,
    /// Its part of the blend.
    Blend,
    /// More than it can: sign-ins wait all the time.
    Full,
}

impl Case {
    /// In the order in which they take turns.
    const ALL: [Self; 3] = [Self::Without, Self::Blend, Self::Full];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Without => "without hashing",
            Self::Blend => "the whole blend",
            Self::Full => "credentials full",
        }
    }

    /// Whether a call of the blend is made.
    fn has(self, call: &Call) -> bool {
        self == Self::Blend || blend::lane(call.command) != Lane::Credentials
    }
}

/// A call that was answered.
struct Answered {
    command: usize,
    due: Instant,
    came: Instant,
}

impl Answered {
    /// Milliseconds from when it was to be published to its answer.
    fn time(&self) -> f64 {
        (self.came - self.due).as_secs_f64() * 1e3
    }
}

/// All calls of a run.
type Run = Vec<Answered>;

/// People who sign in while the lane is full: so many that none has too many sessions.
const WAITING: usize = 1000;
/// Sign-ins that wait, for each core and second: far more than a core can do.
const MORE_THAN_A_CORE: usize = 300;
/// Seconds of the blend before the first run, to prepare statements and fill caches.
const WARM_UP: f64 = 2.0;

pub async fn run(options: &Options) {
    let (rate, seconds, rounds) =
        (options.get::<f64>("rate"), options.get::<f64>("seconds"), options.get::<usize>("rounds"));
    let mut report = Report::begin("mixed");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
    let [warm_up, count] = [WARM_UP, seconds].map(|seconds| (rate * seconds) as usize);
    // Everybody is spoken of once.
    let first = |run: usize| WAITING + warm_up + run * count;
    let begin = blend::calls(rate, warm_up, WAITING);
    let plan: Vec<Vec<Call>> = (0..rounds * Case::ALL.len()).map(|run| blend::calls(rate, count, first(run))).collect();
    let scene = Scene::set(first(plan.len())).await;
    let daemon = scene.launch(Kind::Daemon);
    let all: Vec<Call> = begin.iter().chain(plan.iter().flatten()).copied().collect();
    let stage = Stage::set(&scene, &all, seconds).await;
    let mut callers = Callers::connect(&scene.place.prefix).await;
    (callers, _) = stage.play(callers, Case::Blend, &begin).await;
    let mut found: [Vec<Run>; 3] = Default::default();
    for (n, calls) in plan.iter().enumerate() {
        let case = Case::ALL[n % Case::ALL.len()];
        let run;
        (callers, run) = stage.play(callers, case, calls).await;
        let times: Vec<f64> = run.iter().map(Answered::time).collect();
        let (round, p99) = (n / Case::ALL.len() + 1, quantile(&times, 0.99));
        eprintln!("round {round} of {rounds}: {}: p99 {p99:.1} ms", case.as_str());
        found[n % Case::ALL.len()].push(run);
    }
    daemon.stop().await;
    for lane in LANES {
        report.table(of_lane(lane, &found));
    }
    let [without, whole, _] = &found;
    report.table(of_commands(without, whole));
    report.note(format!(
        "{rate} commands a second for {seconds} s, {rounds} runs each; a time counts from when a command was to be published."
    ));
    let panels: Vec<Panel> = LANES.into_iter().map(|lane| panel(lane, &found)).collect();
    report.finish(&chart::distributions(&panels), options);
}

/// Milliseconds of those commands.
fn times(run: &Run, of: impl Fn(usize) -> bool) -> Vec<f64> {
    run.iter().filter(|call| of(call.command)).map(Answered::time).collect()
}

/// A value of each run; nothing where it has no such commands.
fn each(runs: &[Run], of: impl Fn(usize) -> bool, value: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    runs.iter().map(|run| times(run, &of)).filter(|times| !times.is_empty()).map(|times| value(&times)).collect()
}

fn p50(times: &[f64]) -> f64 {
    quantile(times, 0.5)
}

fn p99(times: &[f64]) -> f64 {
    quantile(times, 0.99)
}

/// Each run against the one of the same round.
fn against(values: &[f64], reference: &[f64]) -> Vec<f64> {
    values.iter().zip(reference).map(|(value, reference)| value / reference).collect()
}

fn of_lane(lane: Lane, found: &[Vec<Run>; 3]) -> Table {
    let mut table = Table::new(
        format!("The lane `{}`: milliseconds to the reply, median (lowest to highest)", lane.as_str()),
        &["p50", "p99", "p99 ratio", "last reply after last command"],
    );
    let of = |command| blend::lane(command) == lane;
    let reference = each(&found[0], of, p99);
    for (case, runs) in Case::ALL.into_iter().zip(found) {
        let high = each(runs, of, p99);
        if high.is_empty() {
            continue;
        }
        let behind = runs.iter().map(|run| {
            let of_lane = || run.iter().filter(|call| of(call.command));
            let (last, due) = (of_lane().map(|call| call.came).max(), of_lane().map(|call| call.due).max());
            last.unwrap().saturating_duration_since(due.unwrap()).as_secs_f64() * 1e3
        });
        let ratio = against(&high, &reference);
        table.row(case.as_str(), vec![each(runs, of, p50), high, ratio, behind.collect()]);
    }
    table
}

fn of_commands(without: &[Run], whole: &[Run]) -> Table {
    let mut table = Table::new(
        "By command, in the whole blend: milliseconds to the reply, and p99 against that without hashing",
        &["% of commands", "p50", "p99", "p99 ratio"],
    );
    for (n, (command, share)) in BLEND.into_iter().enumerate() {
        let of = |command| command == n;
        let high = each(whole, of, p99);
        let ratio = against(&high, &each(without, of, p99));
        table.row(command, vec![vec![f64::from(share)], each(whole, of, p50), high, ratio]);
    }
    table
}

fn panel(lane: Lane, found: &[Vec<Run>; 3]) -> Panel {
    let all = |runs: &Vec<Run>| -> Vec<f64> {
        runs.iter().flat_map(|run| times(run, |command| blend::lane(command) == lane)).collect()
    };
    let rows = Case::ALL.into_iter().zip(found).map(|(case, runs)| (case.as_str().to_owned(), all(runs)));
    let rows = rows.filter(|(_, times)| !times.is_empty()).collect();
    Panel { title: format!("the lane {}: to the reply", lane.as_str()), unit: "ms", rows }
}

/// What all runs share.
struct Stage<'a> {
    scene: &'a Scene,
    upstream: Upstream,
    client: Client,
    asker: Asker,
    /// Sign-ins that fill the lane for a run.
    flood: usize,
}

impl<'a> Stage<'a> {
    async fn set(scene: &'a Scene, calls: &[Call], seconds: f64) -> Self {
        let upstream = Upstream::make(&scene.place, calls).await;
        scene.settled(Kind::Daemon).await;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
        let flood = (seconds * number(cores * MORE_THAN_A_CORE)) as usize;
        let (client, asker) = (scene.place.client().await, Asker::connect(&scene.place.prefix).await);
        Self { scene, upstream, client, asker, flood }
    }

    /// Makes the calls when they are due, and waits until all is over.
    async fn play(&self, callers: Callers, case: Case, calls: &[Call]) -> (Callers, Run) {
        let calls: Vec<Call> = calls.iter().filter(|call| case.has(call)).copied().collect();
        if case == Case::Full {
            self.client.publish_all((0..self.flood).map(sign_in)).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let moments: Vec<Duration> = calls.iter().map(|call| call.at).collect();
        let bodies: Vec<_> = calls.iter().map(|call| (BLEND[call.command].0, self.upstream.body(*call))).collect();
        let runtime = tokio::runtime::Handle::current();
        let publishing = tokio::task::spawn_blocking(move || {
            let due = arrivals::at_each(&moments, |n| {
                let (command, body) = &bodies[n];
                runtime.block_on(callers.ask(n, command, body.as_bytes()));
            });
            (callers, due)
        });
        let (callers, due) = publishing.await.unwrap();
        let answers = callers.answers(due.len()).await;
        if case == Case::Full {
            self.empty_the_lane().await;
        }
        self.scene.settled(Kind::Daemon).await;
        let answered = calls.iter().zip(due).zip(answers);
        (callers, answered.map(|((call, due), came)| Answered { command: call.command, due, came }).collect())
    }

    /// Throws away the sign-ins that still wait, and waits for those that do not any more.
    async fn empty_the_lane(&self) {
        let left = self.asker.throw_away(Lane::Credentials.as_str()).await;
        assert!(left > 0, "the lane of credentials was not full to the end");
        let body = json!({ "user": { "id": "p0" }, "password": PASSWORD });
        let (answer, _) = self.asker.ask("session.login", &body).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

fn sign_in(n: usize) -> Command {
    let user = json!({ "email": load::address(n % WAITING) });
    Command::new("session.login", json!({ "user": user, "password": PASSWORD }))
}
