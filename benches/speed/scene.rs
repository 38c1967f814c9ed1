//! What benchmarks play on: servers, a sink, people, and one of the two workers.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ceiling;
use crate::harness::{Daemon, Place, Plan, server, until_true};
use crate::support::load;
use crate::support::processes::{self, Servers};
use crate::support::sink::Sink;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ceiling,
    /// The ceiling with mails as large as the daemon's.
    FullCeiling,
    Daemon,
}

impl Kind {
    /// In the order in which they take turns.
    pub const BOTH: [Self; 2] = [Self::Ceiling, Self::Daemon];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::FullCeiling => "ceiling, full mails",
            Self::Daemon => "daemon",
        }
    }
}

/// A place with people, whose mails go to a sink.
pub struct Scene {
    pub place: Place,
    pub sink: Sink,
    pub servers: Servers,
}

impl Scene {
    /// With the default settings, and so many people.
    pub async fn set(people: usize) -> Self {
        let sink = Sink::start(people);
        let plan = Plan::default()
            .smtp_address(sink.address.to_string())
            .set("database.max_connections", 16)
            // The tests' configuration lets people ask as often as they like.
            .set("password_reset.min_interval", "60s")
            .set("password_reset.max_per_day", 10);
        let place = plan.prepare().await;
        // Makes the tables, and the queues.
        assert_eq!(place.start().await.stop().await, 0);
        load::people(&place, people).await;
        let servers = Servers::find(&place).await;
        Self { place, sink, servers }
    }

    /// Starts a worker. It may not be ready yet.
    pub fn launch(&self, kind: Kind) -> Worker {
        match kind {
            Kind::Daemon => Worker::Daemon(self.place.launch()),
            Kind::Ceiling | Kind::FullCeiling => {
                let size = if kind == Kind::Ceiling { ceiling::SMALL } else { ceiling::FULL };
                let child = Command::new(std::env::current_exe().unwrap())
                    .args([ceiling::NAME, &server("AMQP_URL"), &format!("{}.commands.state", self.place.prefix)])
                    .args([&self.place.database_url(), &self.sink.address.to_string(), &size.to_string()])
                    .stdin(Stdio::null())
                    .spawn();
                Worker::Ceiling(child.unwrap())
            }
        }
    }

    /// Starts a worker, and waits until it has done its first work: a request for each of `people`.
    pub async fn warm_up(&self, kind: Kind, requests: &load::Requests, people: usize) -> Worker {
        let worker = self.launch(kind);
        requests.publish_all(0..people).await;
        self.everybody(people).await;
        self.settled(kind).await;
        worker
    }

    /// Waits until so many people have mail. Panics if nothing moves for half a minute.
    pub async fn everybody(&self, people: usize) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let now = self.sink.people();
            if now >= people {
                return;
            }
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(30), "{now} of {people} mails, and no more come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until what follows the last mail is over too: results written back, events published.
    pub async fn settled(&self, kind: Kind) {
        if kind == Kind::Daemon {
            let nothing_waits = "select not exists (select from emails where state = 'queued') and not exists (select from event_outbox)";
            until_true("the daemon to be done", async || self.place.value(nothing_waits).await).await;
        }
    }

    /// Seconds of a core that each has used: PostgreSQL, RabbitMQ, the sink.
    pub fn cpu(&self) -> [f64; 3] {
        [self.servers.postgres(), self.servers.broker(), self.sink.cpu()]
    }
}

/// A running worker; killed when dropped.
pub enum Worker {
    Ceiling(Child),
    Daemon(Daemon),
}

impl Worker {
    pub fn pid(&self) -> u32 {
        match self {
            Self::Ceiling(child) => child.id(),
            Self::Daemon(daemon) => daemon.pid(),
        }
    }

    /// Seconds of a core that it has used.
    pub fn cpu(&self) -> f64 {
        processes::cpu(self.pid())
    }

    /// Ends it; the daemon in good order.
    pub async fn stop(self) {
        match self {
            Self::Ceiling(mut child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Self::Daemon(daemon) => assert_eq!(daemon.stop().await, 0),
        }
    }
}
