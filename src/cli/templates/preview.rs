//! `regrant templates preview`: the page that shows every email.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{Outcome, print};
use crate::config::{Config, Variables};
use crate::lifecycle::Signals;
use crate::mail::report;
use crate::preview;
use crate::preview::studio::{Snapshot, Studio};

/// Serve a local web page that shows every email and its problems, and updates when a file is saved.
#[derive(Debug, Args)]
pub struct Preview {
    /// Loopback address and port to listen on; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099", value_parser = loopback)]
    listen: SocketAddr,
    /// Open the page in a browser.
    #[arg(long)]
    open: bool,
}

/// Secrets of the configuration that the page does not need: whoever edits emails may not even be able to read them.
const SECRETS: [(&str, &str); 3] = [
    ("REGRANT__BROKER__URL", "amqp://127.0.0.1"),
    ("REGRANT__DATABASE__URL", "postgres://localhost/regrant"),
    ("REGRANT__MAIL__SMTP__URL", "smtp://127.0.0.1"),
];

/// The configuration without its secrets, whose files are not opened.
///
/// # Errors
/// When it cannot be read, or is wrong.
pub fn config(path: Option<&Path>) -> Result<Config, String> {
    config_with(path, std::env::vars_os().collect())
}

fn config_with(path: Option<&Path>, mut variables: Variables) -> Result<Config, String> {
    for (name, harmless) in SECRETS {
        variables.remove(Path::new(&format!("{name}_FILE")).as_os_str());
        variables.insert(name.into(), harmless.into());
    }
    Config::load_with(path, &variables).map_err(|e| e.to_string())
}

/// Serves until a signal.
///
/// # Errors
/// When the templates cannot be read, or the address cannot be listened on.
pub async fn run(preview: &Preview, config: Config) -> Outcome {
    let studio = Arc::new(Studio::open(config)?);
    let listener = TcpListener::bind(preview.listen).await.map_err(|reason| {
        format!("--listen {}: {reason}; choose another port, or 0 for any free one", preview.listen)
    })?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let page = format!("http://{address}/");
    print(&format!("{page} shows the emails of {}\n", studio.config.templates.directory.display()))?;
    print("Save a template, and the page follows. Ctrl-C ends it.\n")?;
    tell(&studio.snapshot());
    if preview.open {
        open(&page);
    }

    let mut signals = Signals::new().map_err(|e| format!("signals: {e}"))?;
    let stop = CancellationToken::new();
    let process = crate::clock::now().timestamp().unsigned_abs();
    let serving = tokio::spawn(preview::serve(listener, Arc::clone(&studio), process, stop.clone()));
    let follow = studio.follow(tell);
    tokio::select! {
        () = signals.stop() => {}
        () = follow => {}
    }
    stop.cancel();
    // A browser that keeps a connection open must not keep the program from ending.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), serving).await;
    Ok(ExitCode::SUCCESS)
}

/// Prints what the page shows, for editors with a terminal beside the files. A failure is ignored, since the page shows it too.
fn tell(snapshot: &Snapshot) {
    let _ = print(&said(snapshot));
}

fn said(snapshot: &Snapshot) -> String {
    let warnings = report::warnings(&snapshot.warnings);
    match &snapshot.unreadable {
        Some(reason) => format!("\nnot read: {reason}\n"),
        None if snapshot.problems.is_empty() => format!("All templates are good.\n{warnings}"),
        None => format!("\n{}\n{warnings}", report::problems(&snapshot.problems)),
    }
}

fn loopback(given: &str) -> Result<SocketAddr, String> {
    let named = given.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = named
        .as_deref()
        .unwrap_or(given)
        .parse()
        .map_err(|_| "write an address and a port, such as 127.0.0.1:8099".to_owned())?;
    let ip: IpAddr = address.ip().to_canonical();
    if ip.is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "the page is for this machine only: listen on 127.0.0.1 or [::1]; to look from elsewhere, \
         tunnel: ssh -L {port}:127.0.0.1:{port} HOST",
        port = address.port()
    ))
}

/// Opens the page as the desktop would; if there is none, the address is on the screen already.
fn open(page: &str) {
    let programs: &[&str] = if cfg!(target_os = "macos") { &["open"] } else { &["xdg-open", "sensible-browser"] };
    let opened = programs.iter().any(|program| {
        let mut command = Command::new(program);
        command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    });
    if !opened {
        let _ = print("There is no program to open a browser with (xdg-open): open the address by hand.\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_listened_on() {
        for good in ["127.0.0.1:8099", "127.9.9.9:1", "[::1]:0", "localhost:80", "[::ffff:127.0.0.1]:80"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:8099", "[::]:8099", "192.0.2.1:80", "example.com:80", "127.0.0.1", "8099"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
        assert!(loopback("0.0.0.0:81").unwrap_err().contains("ssh -L 81:127.0.0.1:81"));
    }

    #[test]
    fn files_that_nothing_uses_are_mentioned() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("notes.txt"), "x").unwrap();
        let mut config = Config::default();
        config.templates.directory = home.path().to_owned();
        let said = said(&Studio::open(config).unwrap().snapshot());
        assert!(said.contains("has no subject") && said.contains("\nwarning: notes.txt: "), "{said}");
    }

    #[test]
    fn secrets_that_cannot_be_read_are_not_needed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("regrant.toml");
        let text = "[broker]\nurl_file = \"/nonexistent/broker\"\n[mail.smtp]\nurl_file = \"/nonexistent/smtp\"\n\
                    [sites.north]\nname = \"North\"\n";
        std::fs::write(&file, text).unwrap();
        let variables = Variables::from([("REGRANT__DATABASE__URL_FILE".into(), "/nonexistent/database".into())]);
        let config = config_with(Some(&file), variables).unwrap();
        assert_eq!(config.sites["north"].name, "North");
    }
}
