//! A Prometheus of Debian's package that scrapes daemons, with the rules of `monitoring/`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::daemon::free_address;
use super::{Daemon, until, until_true};

/// A child process; killed when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Prometheus {
    /// Starts one that looks at these daemons every second, and waits until it has seen all of them.
    pub async fn start(daemons: &[&Daemon]) -> Self {
        let home = tempfile::Builder::new().prefix("regrant-prometheus-").tempdir().unwrap();
        let mut config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: regrant\n    static_configs:\n      - targets:\n",
            concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/alerts.yml"),
        );
        for daemon in daemons {
            writeln!(config, "          - '{}'", daemon.http()).unwrap();
        }
        let (file, address) = (home.path().join("prometheus.yml"), free_address());
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run `prometheus` ({error}): script/install prometheus"));
        let mut prometheus = Self { child, address, home };
        until_true("Prometheus to reach the daemons", async || {
            if let Some(status) = prometheus.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(prometheus.home.path().join("log")).unwrap_or_default();
                panic!("Prometheus ended with {status}:\n{log}");
            }
            let seen = prometheus.try_get("/api/v1/query?query=up%20%3D%3D%201").await;
            seen.is_some_and(|seen| seen["data"]["result"].as_array().is_some_and(|all| all.len() == daemons.len()))
        })
        .await;
        prometheus
    }

    /// What an expression comes to at this moment; panics with Prometheus' words if it is none.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{expression}\n{answer}");
        let found = &answer["data"];
        assert_eq!(found["resultType"], "vector", "{expression}\n{answer}");
        found["result"].as_array().unwrap().clone()
    }

    /// A page of its API.
    pub async fn get(&self, path: &str) -> Value {
        until(path, async || self.try_get(path).await).await
    }

    async fn try_get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        // The older version of HTTP has no chunks.
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
