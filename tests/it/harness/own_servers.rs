//! A RabbitMQ and a PostgreSQL that tests may stop, starve and start again: one pair for all tests, one test at a time.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::Servers;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/script/services");
const HOME: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/own-servers");

/// The servers, this test's alone until it is dropped.
pub struct OwnServers {
    urls: Servers,
    #[expect(dead_code, reason = "held, not read")]
    turn: File,
}

impl OwnServers {
    /// Waits for its turn, and starts what does not run.
    pub async fn take() -> Self {
        // Locks and scripts block.
        tokio::task::spawn_blocking(|| {
            keep_while_needed();
            let turn = lock_file("turn");
            turn.lock().unwrap();
            let up = script(&["up"]);
            assert!(up.status.success(), "script/services up: {}", String::from_utf8_lossy(&up.stderr));
            Self { urls: urls(), turn }
        })
        .await
        .unwrap()
    }

    /// Where they are.
    pub fn urls(&self) -> &Servers {
        &self.urls
    }

    /// Stops `rabbitmq` or `postgresql` with this signal, and waits until it is gone.
    pub async fn stop(&self, server: &'static str, signal: &'static str) {
        run(vec!["stop", server, signal]).await;
    }

    /// Starts what was stopped, and waits until it answers; both are where they were.
    pub async fn start(&self) {
        run(vec!["up"]).await;
    }

    /// What `rabbitmqctl` prints.
    pub async fn rabbitmqctl(&self, arguments: &[&'static str]) -> String {
        run([&["rabbitmqctl", "--quiet"], arguments].concat()).await
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        // Nobody knows what a test that failed has left behind: an alarm, a limit.
        if std::thread::panicking() {
            script(&["down"]);
        }
    }
}

async fn run(arguments: Vec<&'static str>) -> String {
    let output = tokio::task::spawn_blocking({
        let arguments = arguments.clone();
        move || script(&arguments)
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn script(arguments: &[&str]) -> std::process::Output {
    Command::new(SCRIPT).args(arguments).env("REGRANT_SERVICES_DIR", HOME).stdin(Stdio::null()).output().unwrap()
}

/// From `export NAME='value'`, a line each.
fn urls() -> Servers {
    let output = script(&["env"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let found = lines.lines().find_map(|line| line.strip_prefix(&format!("export {name}='"))?.strip_suffix('\''));
        found.unwrap_or_else(|| panic!("no {name} in:\n{lines}")).to_owned()
    };
    Servers { broker: value("AMQP_URL"), database: value("DATABASE_URL") }
}

fn lock_file(name: &str) -> File {
    let path = PathBuf::from(format!("{HOME}.{name}"));
    File::options().create(true).append(true).open(path).unwrap()
}

/// Once nobody has used the servers for some seconds they are stopped. A process that ends, however it does, gives its lock
/// back; each test may be a process of its own, and the next one would have to start them again.
const STOP: &str = r#"
while flock "$1" true; do
  sleep 5
  flock -n -E 200 "$1" "$2" down
  if [ $? != 200 ]; then break; fi
done
"#;

/// Has the servers stopped when no process uses them any more.
fn keep_while_needed() {
    static USED: OnceLock<(File, Child)> = OnceLock::new();
    USED.get_or_init(|| {
        let used = lock_file("used");
        used.lock_shared().unwrap();
        let mut last = Command::new("sh");
        last.args(["-c", STOP, "sh", &format!("{HOME}.used"), SCRIPT]).env("REGRANT_SERVICES_DIR", HOME);
        // It must outlive the tests, and the script that runs them.
        last.env_remove("REGRANT_SCRIPT_RUN").process_group(0);
        let last = last.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        (used, last)
    });
}
