//! What goes wrong around the people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::broker::proxy::Proxy;
use crate::harness::{Daemon, Place};
use crate::smtp_server::Step;

#[derive(Clone, Copy)]
enum Fault {
    Killed,
    Restarted,
    BrokerCut,
    BrokerAway,
    BrokerFrozen,
    DatabaseCut,
    DatabaseAway,
    DatabaseFrozen,
    SessionsEnded,
    MailHangs,
    MailDrops,
    MailClosesDown,
    MailDefers,
}

const FAULTS: [(Fault, &str); 13] = [
    (Fault::Killed, "daemons killed"),
    (Fault::Restarted, "daemons restarted"),
    (Fault::BrokerCut, "times the broker's connections were cut"),
    (Fault::BrokerAway, "times the broker was away"),
    (Fault::BrokerFrozen, "times the broker said nothing"),
    (Fault::DatabaseCut, "times the database's connections were cut"),
    (Fault::DatabaseAway, "times the database was away"),
    (Fault::DatabaseFrozen, "times the database said nothing"),
    (Fault::SessionsEnded, "times the database ended all sessions"),
    (Fault::MailHangs, "times the mail server hung"),
    (Fault::MailDrops, "times the mail server hung up"),
    (Fault::MailClosesDown, "times the mail server closed down"),
    (Fault::MailDefers, "times the mail server took no recipients"),
];

const STEPS: [Step; 7] = [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Body, Step::Content];

pub struct Chaos {
    place: Arc<Place>,
    database: Proxy,
    broker: Proxy,
    daemons: Vec<Daemon>,
    random: StdRng,
    counts: BTreeMap<&'static str, usize>,
}

impl Chaos {
    pub fn new(place: Arc<Place>, database: Proxy, broker: Proxy, seed: u64) -> Self {
        let (daemons, random, counts) = (Vec::new(), StdRng::seed_from_u64(seed), BTreeMap::new());
        Self { place, database, broker, daemons, random, counts }
    }

    pub async fn start_daemons(&mut self, count: usize) {
        for _ in 0..count {
            self.daemons.push(self.place.start().await);
        }
    }

    /// One fault after the other.
    pub async fn rage(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.pause(100..1500).await;
            let (fault, name) = *FAULTS.choose(&mut self.random).unwrap();
            *self.counts.entry(name).or_default() += 1;
            self.strike(fault).await;
        }
    }

    /// No faults any more, and all daemons there. What there was.
    pub async fn calm(&mut self) -> BTreeMap<&'static str, usize> {
        for daemon in &mut self.daemons {
            daemon.wait_until_ready().await;
        }
        self.counts.clone()
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(milliseconds))).await;
    }

    async fn strike(&mut self, fault: Fault) {
        let step = *STEPS.choose(&mut self.random).unwrap();
        match fault {
            Fault::Killed => {
                let chosen = self.random.random_range(0..self.daemons.len());
                self.daemons.swap_remove(chosen).kill();
                self.pause(0..1000).await;
                self.daemons.push(self.place.launch());
            }
            Fault::Restarted => {
                let chosen = self.random.random_range(0..self.daemons.len());
                let code = self.daemons.swap_remove(chosen).stop().await;
                assert_eq!(code, 0, "a daemon that is told to stop");
                self.daemons.push(self.place.launch());
            }
            Fault::BrokerCut => self.broker.cut(),
            Fault::DatabaseCut => self.database.cut(),
            Fault::BrokerAway => {
                self.broker.refuse(true);
                self.broker.cut();
                self.pause(200..4000).await;
                self.broker.refuse(false);
            }
            Fault::DatabaseAway => {
                self.database.refuse(true);
                self.database.cut();
                self.pause(200..4000).await;
                self.database.refuse(false);
            }
            Fault::BrokerFrozen => {
                self.broker.freeze(true);
                self.pause(200..3000).await;
                self.broker.freeze(false);
            }
            Fault::DatabaseFrozen => {
                self.database.freeze(true);
                self.pause(200..3000).await;
                self.database.freeze(false);
            }
            Fault::SessionsEnded => {
                self.place
                    .run(
                        "select pg_terminate_backend(pid) from pg_stat_activity \
                         where datname = current_database() and pid <> pg_backend_pid()",
                    )
                    .await;
            }
            Fault::MailHangs => self.mail(|mail| mail.hang_at(step)).await,
            Fault::MailDrops => self.mail(|mail| mail.drop_at(step)).await,
            Fault::MailClosesDown => self.mail(|mail| mail.reply_at(step, "421 4.3.2 closing down")).await,
            Fault::MailDefers => self.mail(|mail| mail.reply_at(Step::Rcpt, "451 4.7.1 come back later")).await,
        }
    }

    async fn mail(&mut self, fault: impl FnOnce(&crate::smtp_server::SmtpServer)) {
        fault(&self.place.mail);
        self.pause(200..3000).await;
        self.place.mail.heal();
    }
}
