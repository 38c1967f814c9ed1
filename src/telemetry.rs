//! Logs: on standard error, as text or JSON, without secrets.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::fs::MetadataExt,
};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Format, Full, Writer},
        time::FormatTime,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat, level_fault};

/// Goes over `log.level`.
const LEVEL_VARIABLE: &str = "REGRANT_LOG";

/// Libraries whose `info` is of no use to an operator; the configured level can say otherwise.
const QUIET: &str = "amq_protocol_tcp=warn,handlebars=warn,rustls=warn,rustls_connector=warn,tokio_postgres=warn";

/// Libraries whose `debug` and `trace` quote what passes through them: the broker's URL with its password, mails with links,
/// rows. No level lets that into the logs.
const TALKATIVE: [&str; 4] = ["amq_protocol_tcp", "handlebars", "rustls", "tokio_postgres"];

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` or `REGRANT_LOG` is wrong.
    #[error("wrong value for {key}: {reason}")]
    Level {
        /// Where it stands.
        key: &'static str,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// [`init`] was called before.
    #[error("logging was set up twice in this process")]
    Twice,
}

/// Starts logging to standard error, and logs panics too. Call it once, first thing.
///
/// # Errors
/// A wrong level, or a second call.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let level = level_of_this_process();
    let style = if stderr_is_journal() {
        Style::Journal
    } else if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        Style::Colour
    } else {
        Style::Plain
    };
    subscriber(log, level.as_deref(), style, io::stderr)?.try_init().map_err(|_| TelemetryError::Twice)?;
    log_panics();
    Ok(())
}

/// Whether [`init`] would take the level, without starting anything.
///
/// # Errors
/// A wrong level.
pub fn check(log: &Log) -> Result<(), TelemetryError> {
    filter(log, level_of_this_process().as_deref()).map(|_| ())
}

fn level_of_this_process() -> Option<String> {
    std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.trim().is_empty())
}

/// Trace and span of a W3C trace context that was found sound: by these, logs are joined with traces.
pub fn trace_ids(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.split('-').skip(1);
    Some((parts.next()?, parts.next()?))
}

/// How text looks; JSON always looks the same.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// For files and pipes.
    Plain,
    /// For terminals.
    Colour,
    /// For the journal, which adds time and level itself if the level stands before the line (sd-daemon(3)).
    Journal,
}

fn subscriber<W>(
    log: &Log,
    variable: Option<&str>,
    style: Style,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(log, variable)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<_> + Send + Sync> = match (log.format, style) {
        (LogFormat::Json, _) => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        (LogFormat::Text, Style::Journal) => {
            let format = Format::default().with_ansi(false).without_time().with_level(false);
            lines.with_ansi(false).event_format(OneLine { format, journal: true }).boxed()
        }
        (LogFormat::Text, _) => {
            let ansi = style == Style::Colour;
            let format = Format::default().with_ansi(ansi);
            lines.with_ansi(ansi).event_format(OneLine { format, journal: false }).boxed()
        }
    };
    Ok(Registry::default().with(lines).with(filter).with(filter_fn(keeps_secrets)))
}

fn filter(log: &Log, variable: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let (key, level) = variable.map_or(("`log.level`", log.level.as_str()), |level| (LEVEL_VARIABLE, level));
    if let Some(reason) = level_fault(level) {
        return Err(TelemetryError::Level { key, reason });
    }
    let talks = |part: &str| ["info", "debug", "trace"].contains(&part.trim().to_ascii_lowercase().as_str());
    // What stands later goes over what stands before. At `error` and `off` libraries must not say more than we do.
    let directives = if level.split(',').any(talks) { format!("{QUIET},{level}") } else { level.to_owned() };
    EnvFilter::builder().parse(directives).map_err(|error| TelemetryError::Level { key, reason: error.to_string() })
}

fn keeps_secrets(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    if crate::broker::SILENT_LOG_TARGETS.contains(&library) {
        return false;
    }
    *metadata.level() <= Level::INFO || !TALKATIVE.contains(&library)
}

/// Whether systemd has connected standard error to the journal (systemd.exec(5), `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Exactly one line an event: a line break within (in the answer of a mail server, say) must not pass for an event of
/// its own. For the journal, with the level before it as a number, as syslog has it.
struct OneLine<T> {
    format: Format<Full, T>,
    journal: bool,
}

impl<S, N, T> FormatEvent<S, N> for OneLine<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n').replace('\n', "\\n").replace('\r', "\\r");
        if self.journal {
            let priority = match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                _ => 7,
            };
            write!(writer, "<{priority}>")?;
        }
        writeln!(writer, "{line}")
    }
}

/// Logs where a panic happened, but not what it says: the text may hold a person's data, or a secret.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        if tracing::enabled!(Level::ERROR) {
            tracing::error!(location, thread, "panicked: this is a fault in regrant");
        } else {
            // A panic is said even when logs are off. Nobody is left to tell if that fails.
            let _ = writeln!(io::stderr(), "regrant panicked at {location} in thread {thread}");
        }
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            let _ = writeln!(io::stderr(), "{backtrace}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(level: &str, format: LogFormat) -> Log {
        Log { level: level.to_owned(), format }
    }

    /// What is written when `say` runs.
    fn said(log: &Log, variable: Option<&str>, style: Style, say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(log, variable, style, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels_hold_and_the_variable_goes_over_them() {
        let say = || {
            tracing::debug!("one");
            tracing::info!("two");
            tracing::info!(target: "lapin::channel", "three");
            tracing::warn!(target: "lapin::channel", "four");
        };
        let count = |level, variable| said(&log(level, LogFormat::Text), variable, Style::Plain, say).lines().count();
        assert_eq!(count("info", None), 1);
        assert_eq!(count("debug", None), 2);
        assert_eq!(count("warn", None), 0);
        assert_eq!(count("off", None), 0);
        assert_eq!(count("off", Some("debug")), 2);
        // It logs returned messages, body and all, at `warn`: off, whatever is asked for.
        assert_eq!(count("info,lapin=info", None), 1);
    }

    #[test]
    fn no_level_lets_libraries_quote_what_passes_through_them() {
        let say = || {
            tracing::trace!(target: "amq_protocol_tcp", "amqp://regrant:secret@broker");
            tracing::trace!(target: "lapin", "secret");
            tracing::debug!(target: "tokio_postgres::query", "secret");
            tracing::debug!(target: "handlebars::render", "secret");
            tracing::debug!(target: "regrant::mail", "ours");
        };
        let text = said(&log("trace,amq_protocol_tcp=trace,lapin=trace", LogFormat::Text), None, Style::Plain, say);
        assert!(text.contains("ours") && !text.contains("secret"), "{text}");
    }

    /// Libraries that can log, and nothing of ours: of what they say it was decided.
    #[test]
    fn the_libraries_that_log_are_those_that_are_kept_quiet() {
        // These hand on what others say, say nothing on Linux, or are in the lock file for features that are off.
        const HARMLESS: [&str; 7] = [
            "hickory_net",
            "hickory_proto",
            "hickory_resolver",
            "iana_time_zone",
            "jni",
            "tracing_log",
            "tracing_subscriber",
        ];
        #[derive(serde::Deserialize)]
        struct Lock {
            package: Vec<Package>,
        }
        #[derive(serde::Deserialize)]
        struct Package {
            name: String,
            #[serde(default)]
            dependencies: Vec<String>,
        }
        let lock: Lock = toml::from_str(include_str!("../Cargo.lock")).unwrap();
        let logs = |package: &Package| package.dependencies.iter().any(|name| name == "log" || name == "tracing");
        let mut found: Vec<String> =
            lock.package.into_iter().filter(logs).map(|package| package.name.replace('-', "_")).collect();
        found.retain(|name| name != "regrant" && !HARMLESS.contains(&name.as_str()));
        let quiet = QUIET.split(',').filter_map(|part| part.strip_suffix("=warn"));
        let mut listed: Vec<&str> = quiet.chain(crate::broker::SILENT_LOG_TARGETS).collect();
        listed.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, listed);
        assert!(TALKATIVE.iter().all(|name| listed.contains(name)));
    }

    #[test]
    fn json_is_one_object_a_line_with_its_span() {
        let text = said(&log("info", LogFormat::Json), None, Style::Colour, || {
            let span = tracing::info_span!("batch", command = "user.get");
            let _entered = span.enter();
            tracing::info!(count = 3, "two\nlines");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["count"], 3);
        assert_eq!(line["span"]["command"], "user.get");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn text_suits_its_reader() {
        let text =
            |style| said(&log("info", LogFormat::Text), None, style, || tracing::warn!(target: "regrant", n = 1, "hm"));
        let plain = text(Style::Plain);
        assert!(plain.ends_with("Z  WARN regrant: hm n=1\n"), "{plain:?}");
        assert_eq!(text(Style::Journal), "<4>regrant: hm n=1\n");
        assert!(text(Style::Colour).contains('\u{1b}'));
    }

    #[test]
    fn logs_are_joined_with_traces_by_two_ids() {
        let ids = trace_ids("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(ids, Some(("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")));
        assert_eq!(trace_ids(""), None);
    }

    #[test]
    fn an_event_is_one_line() {
        for style in [Style::Plain, Style::Colour, Style::Journal] {
            let text = said(&log("info", LogFormat::Text), None, style, || {
                let span = tracing::info_span!("mail", to = %"a\nb");
                let _entered = span.enter();
                tracing::info!(reply = %"550 no\r\n2026-01-01T00:00:00Z ERROR forged", "refused\n");
            });
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(text.contains("550 no\\r\\n2026") && text.ends_with('\n'), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_level_is_an_error() {
        let error = |log: &Log, variable| subscriber(log, variable, Style::Plain, io::sink).err().unwrap().to_string();
        assert_eq!(
            error(&log("verbose", LogFormat::Text), None),
            "wrong value for `log.level`: \"verbose\" is not a level; write one of off, error, warn, info, debug, trace, \
             or for single modules \"info,regrant::mail=debug\""
        );
        assert_eq!(
            error(&log("info", LogFormat::Text), Some("inof")),
            "wrong value for REGRANT_LOG: \"inof\" is not a level; did you mean \"info\"?"
        );
    }
}
