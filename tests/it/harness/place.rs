//! Everything around a daemon.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tempfile::TempDir;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{NoTls, Row};

use super::{Client, Daemon, failure, fresh_name, server, until_true};
use crate::smtp_server::SmtpServer;

/// What is special about a place.
#[derive(Default)]
pub struct Plan {
    settings: Vec<(String, String)>,
    extra: String,
    broker_url: Option<String>,
    database_address: Option<String>,
    smtp_address: Option<String>,
    servers: Option<Servers>,
    own_role: bool,
}

/// Where RabbitMQ and PostgreSQL are.
#[derive(Clone)]
pub struct Servers {
    pub broker: String,
    pub database: String,
}

impl Servers {
    /// The servers that all tests share.
    fn shared() -> Self {
        Self { broker: server("AMQP_URL"), database: server("DATABASE_URL") }
    }
}

impl Plan {
    /// Uses these servers instead of those that all tests share.
    pub fn servers(mut self, servers: &Servers) -> Self {
        self.servers = Some(servers.clone());
        self
    }

    /// Gives the daemon a role of its own, with the database's name: the administrator's has no limits.
    pub fn own_role(mut self) -> Self {
        self.own_role = true;
        self
    }

    /// Sets one key of the configuration, such as `password_reset.min_interval`.
    #[expect(clippy::needless_pass_by_value, reason = "settings are texts, numbers, paths and yes or no")]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        let name = format!("REGRANT__{}", key.to_uppercase().replace('.', "__"));
        self.settings.push((name, value.to_string()));
        self
    }

    /// A variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// More lines for the configuration file.
    pub fn toml(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// The daemon's own broker URL: another user, or through a proxy.
    pub fn broker_url(mut self, url: impl Into<String>) -> Self {
        self.broker_url = Some(url.into());
        self
    }

    /// Where the daemon finds the database: a proxy.
    pub fn database_address(mut self, address: impl Into<String>) -> Self {
        self.database_address = Some(address.into());
        self
    }

    /// Where the daemon finds the mail server: a proxy.
    pub fn smtp_address(mut self, address: impl Into<String>) -> Self {
        self.smtp_address = Some(address.into());
        self
    }

    /// Prepares the place with a mail server of its own.
    pub async fn prepare(self) -> Place {
        let mail = SmtpServer::start().await;
        self.prepare_with(mail).await
    }

    /// Prepares the place with this mail server.
    pub async fn prepare_with(self, mail: SmtpServer) -> Place {
        failure::remember();
        let home = tempfile::Builder::new().prefix("regrant-it-").tempdir().unwrap();
        let prefix = fresh_name();
        let database = format!("regrant_{prefix}");
        let servers = self.servers.unwrap_or_else(Servers::shared);
        let admin = connect(&servers.database).await;
        admin.batch_execute(&format!("create database {database}")).await.unwrap();
        let mut url = url::Url::parse(&servers.database).unwrap();
        url.set_path(&database);
        let sql = connect(url.as_str()).await;
        if self.own_role {
            let role = format!("create role {database} login; alter database {database} owner to {database}");
            admin.batch_execute(&role).await.unwrap();
            sql.batch_execute(&format!("grant all on schema public to {database}")).await.unwrap();
            url.set_username(&database).unwrap();
        }
        let for_daemon =
            self.database_address.as_deref().map_or_else(|| url.to_string(), |a| super::by_way_of(url.as_str(), a));
        let place = Place {
            config: home.path().join("regrant.toml"),
            home,
            prefix,
            database,
            mail,
            sql,
            servers,
            settings: self.settings,
            daemons: AtomicUsize::new(0),
        };
        let text = CONFIG
            .replace("{amqp}", &self.broker_url.unwrap_or_else(|| place.servers.broker.clone()))
            .replace("{prefix}", &place.prefix)
            .replace("{database}", &for_daemon)
            .replace("{smtp}", &self.smtp_address.unwrap_or_else(|| place.mail.address().to_string()))
            .replace("{templates}", concat!(env!("CARGO_MANIFEST_DIR"), "/email_templates"));
        std::fs::write(&place.config, format!("{text}\n{}", self.extra)).unwrap();
        place.shell(&["keys", "init"]).success();
        place
    }

    /// Prepares the place and starts a daemon on it.
    pub async fn start(self) -> (Place, Daemon) {
        let place = self.prepare().await;
        let daemon = place.start().await;
        (place, daemon)
    }
}

const CONFIG: &str = r#"
[broker]
url = "{amqp}"
prefix = "{prefix}"
[database]
url = "{database}"
max_connections = 8
[mail]
from = "Example Accounts <no-reply@example.com>"
[mail.smtp]
url = "smtp://{smtp}?tls=none"
[keys]
file = "regrant.keys"
[templates]
directory = "{templates}"
[password_reset]
min_interval = "0s"
max_per_day = 1000
[manual_entry]
allowed = true
[publishers.guest]
commands = ["*"]
assert_actor = true
system = true
[sites.default]
name = "Example"
web_url = "https://app.example.com"
reset_url = "https://app.example.com/reset?token={token}"
invite_url = "https://app.example.com/invite?token={token}"
verify_url = "https://app.example.com/verify?token={token}"
support_email = "support@example.com"
"#;

/// A database, a broker prefix, keys, a configuration and a mail server.
pub struct Place {
    /// The mail server.
    pub mail: SmtpServer,
    /// A connection to the database, past the daemon and its proxies.
    pub sql: tokio_postgres::Client,
    /// The start of every name at the broker.
    pub prefix: String,
    config: PathBuf,
    home: TempDir,
    database: String,
    servers: Servers,
    settings: Vec<(String, String)>,
    daemons: AtomicUsize,
}

/// The result of a command of the shell.
#[derive(Debug)]
pub struct Shell {
    /// The exit code.
    pub code: i32,
    /// What it printed on standard output.
    pub out: String,
    /// What it printed on standard error.
    pub err: String,
}

impl Shell {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// Fails with this code.
    #[track_caller]
    pub fn code_is(self, code: i32) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
    }

    /// What it complained of, if it failed with 1.
    #[track_caller]
    pub fn failure(self) -> String {
        assert_eq!(self.code, 1, "{}\n{}", self.out, self.err);
        self.err
    }
}

impl Place {
    /// A place where nothing is special.
    pub async fn new() -> Self {
        Plan::default().prepare().await
    }

    /// Starts a daemon and waits until it is ready.
    pub async fn start(&self) -> Daemon {
        let mut daemon = self.launch();
        daemon.wait_until_ready().await;
        daemon
    }

    /// Starts a daemon.
    pub fn launch(&self) -> Daemon {
        let number = self.daemons.fetch_add(1, Ordering::SeqCst);
        let log = self.home().join(format!("daemon{number}.log"));
        let mut command = self.command(&["run"]);
        Daemon::spawn(&mut command, log)
    }

    /// Starts a daemon that crashes at a point; see `src/crash_point.rs`.
    #[cfg(feature = "crash-points")]
    pub fn launch_to_crash(&self, at: &str) -> Daemon {
        let number = self.daemons.fetch_add(1, Ordering::SeqCst);
        let log = self.home().join(format!("daemon{number}.log"));
        Daemon::spawn(self.command(&["run"]).env("REGRANT_CRASH_AT", at), log)
    }

    /// Starts a daemon in which messages run into bugs; see `src/crash_point.rs`.
    #[cfg(feature = "crash-points")]
    pub async fn start_to_panic(&self) -> Daemon {
        let number = self.daemons.fetch_add(1, Ordering::SeqCst);
        let log = self.home().join(format!("daemon{number}.log"));
        let mut daemon = Daemon::spawn(self.command(&["run"]).env("REGRANT_PANICS", "yes"), log);
        daemon.wait_until_ready().await;
        daemon
    }

    /// A connection to the broker as `guest`.
    pub async fn client(&self) -> Client {
        Client::connect(&self.servers.broker, &self.prefix).await
    }

    /// A connection to the broker as `shop`, a user without tags.
    pub async fn shop(&self) -> Client {
        Client::connect(&server("AMQP_SHOP_URL"), &self.prefix).await
    }

    /// `regrant …`
    pub fn shell(&self, arguments: &[&str]) -> Shell {
        let output = self.command(arguments).output().unwrap();
        Shell {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `regrant …`, for those who do more with it than wait.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrant"));
        // What a developer's shell may have set.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REGRANT_")) {
            command.env_remove(name);
        }
        let settings = self.settings.iter().map(|(name, value)| (name, value));
        command.arg("--config").arg(&self.config).args(arguments).envs(settings).current_dir(self.home());
        command.stdin(Stdio::null());
        command
    }

    /// `regrant …` in a terminal of its own; what is piped into it is typed.
    pub fn terminal(&self, arguments: &[&str]) -> Command {
        let command = self.command(arguments);
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        // `exec`: so that a signal reaches the program, and not a shell.
        let line = format!("stty cols 90 rows 30; exec {}", words.join(" "));
        script.args(["-qec", &line, "/dev/null"]).current_dir(self.home()).stdin(Stdio::piped()).stdout(Stdio::piped());
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script
    }

    /// What a terminal shows of `regrant …` when this is typed and nothing more, and the exit code.
    pub fn typed(&self, arguments: &[&str], typed: &str) -> (i32, String) {
        let mut script = self.terminal(arguments).spawn().unwrap();
        script.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let mut shown = String::new();
        script.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        (script.wait().unwrap().code().unwrap_or(-1), shown)
    }

    /// The daemon's working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The database's address, past all proxies.
    pub fn database_url(&self) -> String {
        let mut url = url::Url::parse(&self.servers.database).unwrap();
        url.set_path(&self.database);
        url.into()
    }

    /// The same for the daemon's role.
    pub fn daemons_database_url(&self) -> String {
        let config = std::fs::read_to_string(&self.config).unwrap();
        let (_, after) = config.split_once("[database]\nurl = \"").unwrap();
        after.split_once('"').unwrap().0.to_owned()
    }

    /// The same place, after the server with the tests' own connection was stopped.
    pub async fn reconnected(mut self) -> Self {
        self.sql = connect(&self.database_url()).await;
        self
    }

    /// The logs of all daemons that ran here.
    pub fn logs(&self) -> String {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.home())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        files.iter().map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()).collect()
    }

    /// Rows of the database.
    pub async fn rows(&self, query: &str) -> Vec<Row> {
        self.sql.query(query, &[]).await.unwrap_or_else(|error| panic!("{}: {query}", reason(&error)))
    }

    /// The one value of the one row.
    pub async fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.sql.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{}: {query}", reason(&error))).get(0)
    }

    /// How many rows.
    pub async fn count(&self, of: &str) -> i64 {
        self.value(&format!("select count(*) from {of}")).await
    }

    /// How many statements wait for somebody's lock. Asked on a connection of its own: inside a transaction PostgreSQL repeats what
    /// it answered first.
    pub async fn waiting_for_locks(&self) -> i64 {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        connect(&self.database_url()).await.query_one(waiting, &[]).await.unwrap().get(0)
    }

    /// Waits until no event is to be told any more. Whoever listens before may hear of what was done earlier.
    pub async fn until_all_is_told(&self) {
        until_true("all events to be told", async || self.count("event_outbox").await == 0).await;
    }

    /// Changes the database.
    pub async fn run(&self, statements: &str) {
        self.sql.batch_execute(statements).await.unwrap_or_else(|error| panic!("{}: {statements}", reason(&error)));
    }

    /// All text of all tables, to look for what must not be there.
    pub async fn everything_stored(&self) -> String {
        let tables = self
            .rows("select quote_ident(tablename)::text from pg_tables where schemaname = 'public' order by 1")
            .await;
        let mut all = String::new();
        for table in tables {
            let table: String = table.get(0);
            for row in self.rows(&format!("select t::text from {table} t")).await {
                let _ = writeln!(all, "{table} {}", row.get::<_, String>(0));
            }
        }
        all
    }
}

fn reason(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{} {:?}", db.message(), db.where_()))
}

/// A connection to PostgreSQL.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL cannot be reached ({error:?}): is DATABASE_URL right?"));
    tokio::spawn(connection);
    client
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            failure::tell(&self.logs());
        }
        let (servers, prefix, database) = (self.servers.clone(), self.prefix.clone(), self.database.clone());
        // A destructor cannot wait for a future of the runtime that it may be blocking.
        let tidied = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(tidy(&servers, &prefix, &database));
        })
        .join();
        if tidied.is_err() {
            eprintln!("the database {} or queues of {} are left behind", self.database, self.prefix);
        }
    }
}

async fn tidy(servers: &Servers, prefix: &str, database: &str) {
    let admin = connect(&servers.database).await;
    let url = &servers.broker;
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let retries = ["retry.1s", "retry.5s", "retry.30s", "retry.2m", "retry.10m"];
    let lanes = ["commands.state", "commands.credentials", "commands.queries", "commands.unknown", "dead", "told"];
    for queue in lanes.iter().chain(&retries) {
        channel.queue_delete(format!("{prefix}.{queue}").into(), QueueDeleteOptions::default()).await.unwrap();
    }
    for exchange in ["commands", "unrouted", "dead", "events"].iter().chain(&retries) {
        channel.exchange_delete(format!("{prefix}.{exchange}").into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    connection.close(200, "OK".into()).await.unwrap();
    // Not together: a database is not dropped in a transaction.
    admin.batch_execute(&format!("drop database {database} with (force)")).await.unwrap();
    admin.batch_execute(&format!("drop role if exists {database}")).await.unwrap();
}
