//! One screen: the numbers as text, at most as wide as the terminal. Pure.

use std::fmt::Write;

use super::numbers::{Daemon, Status};

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines; none: as many as it takes.
    pub height: Option<usize>,
    /// Whether to stress with colours.
    pub colours: bool,
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// A line, and how to stress it.
struct Line {
    text: String,
    stress: Option<&'static str>,
}

/// The screen, line by line, without anything that moves the cursor.
pub fn frame(status: &Status, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |text: String, stress| lines.push(Line { text, stress });
    let ready = status.daemons.iter().filter(|daemon| daemon.ready).count();
    add(
        format!("regrant status  {}  {ready} of {} daemons ready", status.at, status.daemons.len()),
        Some(if ready == status.daemons.len() { BOLD } else { RED }),
    );
    add(String::new(), None);
    add(
        format!("{:<30}{:<10}{:>10}{:>10}  {:<8}{}", "DAEMON", "VERSION", "UP FOR", "MEMORY", "BROKER", "DATABASE"),
        Some(BOLD),
    );
    for daemon in &status.daemons {
        let stress = if daemon.ready { None } else { Some(RED) };
        add(about(daemon), stress);
    }
    add(String::new(), None);
    add(
        format!(
            "{:<13}{:>9}{:>11}{:>9}{:>11}{:>10}{:>8}{:>8}",
            "LANE", "WAITING", "IN FLIGHT", "DONE/S", "REFUSED/S", "FAILED/S", "P50", "P99"
        ),
        Some(BOLD),
    );
    for lane in &status.lanes {
        let waiting = or_dash(lane.waiting);
        add(
            format!(
                "{:<13}{waiting:>9}{:>11}{:>9}{:>11}{:>10}{:>8}{:>8}",
                lane.lane,
                or_dash(lane.in_flight),
                rate(lane.done),
                rate(lane.refused),
                rate(lane.failed),
                time(lane.p50),
                time(lane.p99)
            ),
            lane.failed.filter(|failed| *failed > 0.0).map(|_| RED),
        );
    }
    add(String::new(), None);
    for (title, text) in summary(status) {
        add(format!("{title:<13}{text}"), None);
    }
    if !status.troubles.is_empty() {
        add(String::new(), None);
        add("TROUBLES".to_owned(), Some(BOLD));
        for trouble in &status.troubles {
            for line in wrapped(trouble, look.width.saturating_sub(2)) {
                add(format!("  {line}"), Some(RED));
            }
        }
    }
    if !status.failed_mails.is_empty() {
        add(String::new(), None);
        add("LAST FAILED MAILS (regrant emails list --state failed)".to_owned(), Some(BOLD));
        for mail in &status.failed_mails {
            let reply = mail.reply.as_deref().unwrap_or_default();
            add(format!("  {}  {}  {reply}", &mail.queued_at[..mail.queued_at.len().min(19)], mail.template), None);
        }
    }
    let height = look.height.unwrap_or(usize::MAX);
    lines.into_iter().take(height).map(|line| shown(&line, look)).collect()
}

fn about(daemon: &Daemon) -> String {
    let url = daemon.url.trim_start_matches("http://").trim_end_matches('/');
    let url = cut(url, 29);
    if daemon.error.is_some() {
        return format!("{url:<30}does not answer");
    }
    let up = |is_up| match is_up {
        Some(true) => "ok",
        Some(false) => "AWAY",
        None => "-",
    };
    format!(
        "{url:<30}{:<10}{:>10}{:>10}  {:<8}{}",
        daemon.version.as_deref().unwrap_or("-"),
        daemon.uptime_seconds.map_or_else(|| "-".to_owned(), span),
        daemon.memory_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.0} MB", bytes / 1e6)),
        up(daemon.broker),
        up(daemon.database),
    )
}

/// What is not known is a dash.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A number per second.
fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// [`rate`] with its unit.
fn per_second(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}/s"))
}

fn summary(status: &Status) -> Vec<(&'static str, String)> {
    let mail = &status.mail;
    let mut rates = String::new();
    for (outcome, rate) in &mail.rates {
        if *rate > 0.0 || matches!(outcome.as_str(), "sent" | "failed") {
            let _ = write!(rates, ", {outcome} {rate:.1}/s");
        }
    }
    let mut buried = String::new();
    for (reason, number) in &status.buried {
        let _ = write!(buried, ", {number} {reason} since the start");
    }
    let reconnects: Vec<String> =
        status.reconnects.iter().map(|(target, number)| format!("{target} {number}")).collect();
    let over = status
        .percentiles_over
        .map_or_else(|| "since the daemons' start".to_owned(), |seconds| format!("of the last {seconds} s"));
    vec![
        ("mail", format!("{} pending, the oldest for {}{rates}", or_dash(mail.pending), time(mail.oldest_seconds))),
        ("", format!("from commit to acceptance: p50 {}, p99 {}", time(mail.p50), time(mail.p99))),
        ("events", format!("{} pending", or_dash(status.events_pending))),
        ("sign-ins", format!("{}, refused {}", per_second(status.logins.ok), per_second(status.logins.refused))),
        (
            "hashing",
            format!(
                "{}, p50 {}, p99 {}",
                per_second(status.hashing.rate),
                time(status.hashing.p50),
                time(status.hashing.p99)
            ),
        ),
        (
            "dead letters",
            format!("{} waiting, {} retrying{buried}", or_dash(status.dead_letters), or_dash(status.retrying)),
        ),
        ("reconnects", reconnects.join(", ")),
        ("p50, p99", over),
    ]
}

/// `850 µs`, `4.2 ms`, `1.5 s`, `3 m`.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(0.0) => "0 s".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) if seconds < 100.0 => format!("{seconds:.1} s"),
        Some(seconds) => format!("{:.0} m", seconds / 60.0),
    }
}

/// `12 s`, `5 m`, `2 h 13 m`, `9 d 4 h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} m", seconds / 60),
        3600..=86_399 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Words in lines of at most `width`.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// What servers said must not move the cursor.
fn shown(line: &Line, look: Look) -> String {
    let harmless: String = line.text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let text = cut(harmless.trim_end(), look.width);
    match line.stress {
        Some(stress) if look.colours => format!("{stress}{text}{PLAIN}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::numbers::LaneNumbers;
    use crate::cli::status::servers::FailedMail;

    const PAPER: Look = Look { width: 80, height: None, colours: false };

    fn status() -> Status {
        let daemon = |url: &str, ready| Daemon {
            url: url.to_owned(),
            ready,
            version: Some("0.1.0".into()),
            uptime_seconds: Some(8000),
            memory_bytes: Some(48_100_000.0),
            broker: Some(ready),
            database: Some(true),
            ..Daemon::default()
        };
        let lane = |lane: &str| LaneNumbers {
            lane: lane.to_owned(),
            waiting: Some(12_345),
            in_flight: Some(128.0),
            done: Some(1234.56),
            p50: Some(0.0042),
            p99: Some(0.75),
            ..LaneNumbers::default()
        };
        Status {
            at: "2026-11-22T09:30:00.000Z".into(),
            daemons: vec![daemon("http://127.0.0.1:9464/", true), daemon("http://10.0.0.2:9464/", false)],
            lanes: ["state", "credentials", "queries", "unknown"].map(lane).into(),
            troubles: vec![format!("10.0.0.2:9464 broker: {}", "RabbitMQ cannot be reached ".repeat(5))],
            failed_mails: vec![FailedMail {
                queued_at: "2026-11-22T09:29:00.000Z".into(),
                email_id: uuid::Uuid::nil(),
                template: "invite".into(),
                reply: Some("550 5.1.1\u{1b}[2J no such user".into()),
            }],
            ..Status::default()
        }
    }

    #[test]
    fn a_screen_fits_into_eighty_columns_and_says_everything() {
        let lines = frame(&status(), PAPER);
        let text = lines.join("\n");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        for part in [
            "1 of 2 daemons ready",
            "2 h 13 m",
            "48 MB",
            "AWAY",
            "12345",
            "1234.6",
            "4.2 ms",
            "750 ms",
            "550 5.1.1",
            "TROUBLES",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "no colours, and nothing from outside:\n{text}");
        assert_eq!(text.matches("RabbitMQ").count(), 5, "a trouble is told whole");
    }

    #[test]
    fn what_nobody_told_is_a_dash() {
        let lane = LaneNumbers { lane: "state".into(), ..LaneNumbers::default() };
        let lines = frame(&Status { lanes: vec![lane], ..Status::default() }, PAPER);
        let numbers = lines.iter().find(|line| line.starts_with("state")).unwrap();
        assert_eq!(numbers.split_whitespace().skip(1).collect::<Vec<_>>(), ["-"; 7], "{numbers}");
        let text = lines.join("\n");
        assert!(text.contains("sign-ins     -, refused -") && text.contains("hashing      -, p50 -"), "{text}");
    }

    #[test]
    fn a_small_terminal_gets_what_fits() {
        let lines = frame(&status(), Look { width: 40, height: Some(10), colours: false });
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn colours_stress_what_is_wrong_and_end_with_their_line() {
        let lines = frame(&status(), Look { colours: true, ..PAPER });
        assert!(lines.iter().filter(|line| line.contains("AWAY")).all(|line| line.starts_with(RED)));
        assert!(lines.iter().filter(|line| line.starts_with('\u{1b}')).all(|line| line.ends_with(PLAIN)));
    }

    #[test]
    fn times_and_spans_are_short() {
        for (seconds, expected) in
            [(0.0, "0 s"), (0.0005, "500 µs"), (0.0042, "4.2 ms"), (0.042, "42 ms"), (4.2, "4.2 s"), (420.0, "7 m")]
        {
            assert_eq!(time(Some(seconds)), expected);
        }
        for (seconds, expected) in [(5, "5 s"), (300, "5 m"), (7980, "2 h 13 m"), (100_000, "1 d 3 h")] {
            assert_eq!(span(seconds), expected);
        }
    }
}
