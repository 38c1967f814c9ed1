//! A running daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{until, until_true};

/// A child process; killed when dropped.
pub struct Daemon {
    child: Child,
    http: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    pub(super) fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let http = free_address();
        let file = File::create(&log).unwrap();
        command.env("REGRANT__HTTP__LISTEN", http.to_string());
        command.stdout(Stdio::from(file.try_clone().unwrap())).stderr(Stdio::from(file));
        Self { child: command.spawn().unwrap(), http, log }
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Waits until `/readyz` is good.
    pub async fn wait_until_ready(&mut self) {
        until_true("the daemon to be ready", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status} instead of becoming ready");
            }
            self.try_get("/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until `/readyz` names `what` as a trouble.
    pub async fn wait_until_not_ready(&self, what: &str) {
        until_true(&format!("/readyz to name {what}"), async || self.troubles().await.iter().any(|t| t == what)).await;
    }

    /// What `/readyz` names.
    pub async fn troubles(&self) -> Vec<String> {
        let (status, body) = self.get("/readyz").await;
        let named: Vec<Value> = serde_json::from_str(&body).unwrap();
        let troubles: Vec<String> = named.iter().map(|problem| problem["what"].as_str().unwrap().to_owned()).collect();
        assert_eq!(troubles.is_empty(), status == 200, "{status} {body}");
        troubles
    }

    /// Status and body of a page.
    pub async fn get(&self, path: &str) -> (u16, String) {
        until(path, async || self.try_get(path).await).await
    }

    async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The address of its HTTP pages.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Every series and its value.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    /// The sum of all series of this name whose labels hold all of these.
    #[expect(clippy::cast_possible_truncation, reason = "counters of a test are small whole numbers")]
    pub async fn metric(&self, name: &str, labels: &[&str]) -> i64 {
        let all = self.metrics().await;
        let of_name = all.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        let matching = of_name.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        matching.map(|(_, value)| *value as i64).sum()
    }

    /// Waits until the metric is `value`: some things are counted a moment after others can see them.
    pub async fn until_metric(&self, name: &str, labels: &[&str], value: i64) {
        self.until_metric_is(name, labels, &format!("{value}"), |now| now == value).await;
    }

    /// Waits until the metric is `least` or more.
    pub async fn until_metric_at_least(&self, name: &str, labels: &[&str], least: i64) {
        self.until_metric_is(name, labels, &format!("{least} or more"), |now| now >= least).await;
    }

    async fn until_metric_is(&self, name: &str, labels: &[&str], what: &str, is: impl Fn(i64) -> bool) {
        let what = format!("{name} {labels:?} to be {what}");
        until_true(&what, async || is(self.metric(name, labels).await)).await;
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Asks it to stop, and waits until it has: its exit code.
    pub async fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.ended().await.code().unwrap_or(-1)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the daemon to end", async || self.child.try_wait().unwrap()).await
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `STOP`, `CONT`, `HUP`. After `STOP` it stands still when this returns: the kernel stops the threads
    /// one by one.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}: {status}");
        while name == "STOP" && !self.stands_still() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether every thread of it is stopped, see `proc_pid_stat(5)`.
    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.filter_map(Result::ok).all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port outside of the range from which the system gives ports to connections: nothing else takes it before the
/// daemon does.
#[expect(clippy::disallowed_methods, reason = "where it looks first means nothing")]
pub(super) fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..30_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
