//! `regrant status`: one screen on what the daemons are doing now.

mod fetch;
mod frame;
mod numbers;
mod scrape;
mod servers;

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::config::Config;
use crate::domain::ticket::timestamp;

use super::{Outcome, print};

use frame::Look;
use numbers::{Answers, Looks, Status as Numbers};
use servers::Servers;

/// The time that percentiles cover on a live screen.
const WINDOW: Duration = Duration::from_secs(60);
/// The time between the two looks that rates need, where only one screen is printed.
const BLINK: Duration = Duration::from_secs(1);

/// Show what the daemons are doing now.
#[derive(Debug, Args)]
pub struct Status {
    /// A daemon's HTTP address, for example `http://127.0.0.1:9464`; repeat it for several daemons. Default: http.listen.
    #[arg(long, value_parser = fetch::address)]
    url: Vec<Url>,
    /// Print one screen and exit. The default when the output is not a terminal.
    #[arg(long)]
    once: bool,
    /// Print the numbers once as JSON and exit.
    #[arg(long)]
    json: bool,
    /// Seconds between two updates, 1 to 3600.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

/// Shows the numbers; on a terminal, again at each interval.
///
/// # Errors
/// When there is nobody to ask, or no terminal to write to. A daemon that does not answer is shown as such, with exit code 1.
pub async fn run(status: &Status, config: Result<Config, String>) -> Outcome {
    let urls = match (status.url.is_empty(), &config) {
        (false, _) => status.url.clone(),
        (true, Ok(config)) => vec![own(config.http.listen)?],
        (true, Err(reason)) => {
            return Err(format!("{reason}\nName a daemon by --url, or put the configuration right."));
        }
    };
    let config = config.ok();
    let mut watch = Watch { urls, servers: config.as_ref().map(Servers::new), past: VecDeque::new() };
    let code = if status.json || status.once || !std::io::stdout().is_terminal() {
        watch.look().await;
        tokio::time::sleep(BLINK).await;
        let now = watch.look().await;
        let numbers = watch.numbers(now, None).await;
        if status.json {
            let json = serde_json::to_string_pretty(&numbers).map_err(|e| e.to_string())?;
            print(&format!("{json}\n"))?;
        } else {
            let look = Look { width: width().map_or(80, |(width, _)| width), height: None, colours: false };
            print(&format!("{}\n", frame::frame(&numbers, look).join("\n")))?;
        }
        let ready = numbers.daemons.iter().all(|daemon| daemon.ready);
        if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    } else {
        live(&mut watch, Duration::from_secs(status.interval)).await?;
        ExitCode::SUCCESS
    };
    if let Some(servers) = watch.servers {
        servers.close().await;
    }
    Ok(code)
}

/// Where the daemon of this configuration is asked: one that listens on all addresses listens on loopback too.
fn own(listen: SocketAddr) -> Result<Url, String> {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    fetch::address(&SocketAddr::new(host, listen.port()).to_string())
}

struct Watch<'a> {
    urls: Vec<Url>,
    servers: Option<Servers<'a>>,
    /// Looks of the last minute, oldest first.
    past: VecDeque<(Instant, Answers)>,
}

impl Watch<'_> {
    /// Asks all daemons, and remembers what they said.
    async fn look(&mut self) -> Answers {
        let asked = join_all(self.urls.iter().map(fetch::ask)).await;
        let answers: Answers = self.urls.iter().map(Url::to_string).zip(asked).collect();
        self.past.push_back((Instant::now(), answers.clone()));
        while self.past.len() > 2 && self.past.get(1).is_some_and(|(at, _)| at.elapsed() >= WINDOW) {
            self.past.pop_front();
        }
        answers
    }

    /// The numbers of the last look. With a window, percentiles are of what happened in it.
    async fn numbers(&mut self, now: Answers, window: Option<Duration>) -> Numbers {
        let before = self.past.len().checked_sub(2).and_then(|index| self.past.get(index));
        let (lately, since) = match before {
            Some((at, answers)) => (numbers::between(answers, &now), at.elapsed()),
            None => (scrape::Scrape::default(), Duration::ZERO),
        };
        let first = self.past.front().filter(|_| window.is_some());
        let longer = match first {
            Some((_, answers)) => numbers::between(answers, &now),
            None => numbers::together(&now),
        };
        let at = crate::clock::now();
        let clock = Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0)).as_secs_f64();
        let looks = Looks { now: &now, lately: (&lately, since), longer: &longer, clock };
        let mut numbers = numbers::numbers(&looks);
        numbers.at = timestamp(at);
        numbers.percentiles_over = first.map(|(at, _)| at.elapsed().as_secs());
        if let Some(servers) = &mut self.servers {
            let queues = servers.queues().await;
            numbers.with_queues(queues);
            let mails = servers.failed_mails().await;
            numbers.with_failed_mails(mails);
        }
        numbers
    }
}

/// Shows a screen again and again, until somebody has seen enough.
async fn live(watch: &mut Watch<'_>, interval: Duration) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("the terminal: {error}");
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).map_err(wrong)?, signal(SignalKind::terminate()).map_err(wrong)?);
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let screen = Screen::open().map_err(wrong)?;
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let showing = async {
        loop {
            pace.tick().await;
            let now = watch.look().await;
            let numbers = watch.numbers(now, Some(WINDOW)).await;
            let (width, height) = width().unwrap_or((80, 24));
            let look = Look { width, height: Some(height), colours };
            screen.show(&frame::frame(&numbers, look)).map_err(wrong)?;
        }
    };
    tokio::select! {
        ended = showing => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Columns and lines of the terminal, if there is one.
fn width() -> Option<(usize, usize)> {
    let (terminal_size::Width(width), terminal_size::Height(height)) = terminal_size::terminal_size()?;
    Some((width.into(), height.into()))
}

/// The terminal's other screen; the one that was there comes back when this is dropped.
struct Screen;

impl Screen {
    fn open() -> std::io::Result<Self> {
        // The other screen, without a cursor, and without lines that wrap.
        put("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J")?;
        Ok(Self)
    }

    /// Writes over what is there, in one go: nothing flickers.
    #[expect(clippy::unused_self, reason = "only what is open can be written on")]
    fn show(&self, lines: &[String]) -> std::io::Result<()> {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        put(&format!("\x1b[H{}\x1b[J", lines.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever took the terminal away has it back as it was anyway.
        let _ = put("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

fn put(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_here() {
        for (listen, expected) in [
            ("127.0.0.1:9464", "http://127.0.0.1:9464/"),
            ("0.0.0.0:9464", "http://127.0.0.1:9464/"),
            ("[::]:9464", "http://[::1]:9464/"),
            ("10.0.0.7:80", "http://10.0.0.7/"),
        ] {
            assert_eq!(own(listen.parse().unwrap()).unwrap().as_str(), expected);
        }
    }
}
