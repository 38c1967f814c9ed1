//! What a service manager hears through its socket, and what `/healthz` says, while loops work, wait or hang.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::broker::proxy::Proxy;
use crate::harness::{Command, Daemon, Plan, a_moment, address, server, until_true};

/// The other end of `NOTIFY_SOCKET`.
struct Manager {
    home: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hearing = Arc::clone(&heard);
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]);
                hearing.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { home, heard }
    }

    fn plan(&self, watchdog: Duration) -> Plan {
        Plan::default()
            .env("NOTIFY_SOCKET", self.home.path().join("notify").to_str().unwrap())
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn count(&self, word: &str) -> usize {
        self.heard().iter().filter(|line| line.as_str() == word).count()
    }

    async fn until(&self, start: &str) {
        until_true(start, async || self.heard().iter().any(|line| line.starts_with(start))).await;
    }

    /// Everything but what is told again and again.
    fn turns(&self) -> Vec<String> {
        let steady = ["STATUS=", "WATCHDOG=", "EXTEND_", "MONOTONIC_"];
        self.heard().into_iter().filter(|line| !steady.iter().any(|start| line.starts_with(start))).collect()
    }
}

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user }))
}

/// Loops that `/healthz` names.
async fn stuck(daemon: &Daemon) -> Vec<String> {
    let (status, body) = daemon.get("/healthz").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let named = body["problems"].as_array().unwrap().iter();
    let named: Vec<String> = named.map(|problem| problem["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(named.is_empty(), status == 200, "{status} {body}");
    assert_eq!(body["healthy"], status == 200, "{status} {body}");
    named
}

#[tokio::test]
async fn the_manager_hears_of_start_reload_and_stop() {
    let database = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    database.refuse(true);
    let manager = Manager::new();
    let place = manager.plan(Duration::from_secs(4)).database_address(&database.address).prepare().await;
    let mut daemon = place.launch();
    // Whoever waits for a server has not failed to start.
    manager.until("EXTEND_TIMEOUT_USEC=").await;
    manager.until("STATUS=waiting for database").await;
    a_moment().await;
    assert_eq!(manager.turns(), [""; 0]);
    database.refuse(false);
    daemon.wait_until_ready().await;
    manager.until("READY=1").await;
    manager.until("STATUS=0 commands/s").await;
    daemon.signal("HUP");
    manager.until("RELOADING=1").await;
    until_true("READY=1 again", async || manager.count("READY=1") == 2).await;
    assert!(manager.heard().iter().any(|line| line.starts_with("MONOTONIC_USEC=")));
    // A server that goes away later is no new start.
    database.refuse(true);
    database.cut();
    until_true("the outage's status", async || {
        manager.heard().iter().filter(|line| line.starts_with("STATUS=waiting for database")).count() > 1
    })
    .await;
    database.refuse(false);
    daemon.wait_until_ready().await;
    assert!(manager.count("WATCHDOG=1") > 1);
    assert_eq!(daemon.stop().await, 0);
    manager.until("STOPPING=1").await;
    assert_eq!(manager.turns(), ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
}

#[tokio::test]
async fn a_daemon_that_cannot_start_leaves_the_reason() {
    let manager = Manager::new();
    let plan = manager.plan(Duration::from_secs(4)).set("templates.directory", "nowhere");
    let mut daemon = plan.prepare().await.launch();
    assert_eq!(daemon.ended().await.code(), Some(1));
    manager.until("STATUS=").await;
    let heard = manager.heard();
    assert!(heard[0].contains("nowhere"), "{heard:?}");
    assert_eq!(manager.count("READY=1"), 0);
}

#[tokio::test]
async fn a_lane_that_hangs_is_named_and_the_watchdog_hears_no_more() {
    let manager = Manager::new();
    let plan = manager.plan(Duration::from_millis(400)).set("health.patience", "2s");
    let (place, daemon) = plan.start().await;
    place
        .run(
            "create table hang ();
             create function hang() returns trigger language plpgsql as $$ begin
                 if (select count(*) from hang) > 0 then perform pg_sleep(600); end if;
                 return new;
             end $$;
             insert into hang default values;
             create trigger hang before insert on users for each row execute function hang();",
        )
        .await;
    let client = place.client().await;
    let correlation = client.begin(&put("ada")).await;
    until_true("the lane to be named", async || stuck(&daemon).await.iter().any(|name| name.starts_with("state lane")))
        .await;
    manager.until("STATUS=stuck: state lane, worker ").await;
    let fed = manager.count("WATCHDOG=1");
    a_moment().await;
    assert_eq!(manager.count("WATCHDOG=1"), fed);
    assert!(daemon.log().contains("a part of the daemon is stuck"));

    place.run("delete from hang").await;
    place
        .run("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
        .await;
    assert_eq!(client.reply(&correlation).await["ok"], true);
    until_true("all to be well", async || stuck(&daemon).await.is_empty()).await;
    until_true("the watchdog to hear again", async || manager.count("WATCHDOG=1") > fed).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_frozen_database_is_no_hanging_loop() {
    const PATIENCE: Duration = Duration::from_secs(16);
    let database = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    let plan = Plan::default().database_address(&database.address);
    let (place, daemon) = plan.set("health.patience", format!("{}s", PATIENCE.as_secs())).start().await;
    let client = place.client().await;
    database.freeze(true);
    let correlation = client.begin(&put("ada")).await;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE + Duration::from_secs(4) {
        assert_eq!(stuck(&daemon).await, [""; 0]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(daemon.troubles().await, ["database"]);
    database.freeze(false);
    assert_eq!(client.reply(&correlation).await["ok"], true);
    assert_eq!(daemon.stop().await, 0);
}
