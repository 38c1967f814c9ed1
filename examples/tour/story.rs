//! What the tour prints. Colours on a terminal only.

use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::time::Duration;

use serde_json::Value;

use crate::client::Event;
use crate::mail::Mail;

/// JSON up to this many characters stays on one line.
const LINE: usize = 96;

/// The narrator.
pub struct Story {
    out: Stdout,
    style: Style,
    exchange: String,
    steps: u32,
}

/// Escape sequences of ANSI terminals, or nothing.
struct Style {
    bold: &'static str,
    dim: &'static str,
    green: &'static str,
    yellow: &'static str,
    cyan: &'static str,
    plain: &'static str,
}

const COLOURS: Style = Style {
    bold: "\x1b[1m",
    dim: "\x1b[2m",
    green: "\x1b[32m",
    yellow: "\x1b[33m",
    cyan: "\x1b[36m",
    plain: "\x1b[0m",
};
const NO_COLOURS: Style = Style { bold: "", dim: "", green: "", yellow: "", cyan: "", plain: "" };

impl Story {
    /// Tells on standard output.
    pub fn new(prefix: &str) -> Self {
        let out = io::stdout();
        // https://no-color.org
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if colours { COLOURS } else { NO_COLOURS };
        Self { out, style, exchange: format!("{prefix}.commands"), steps: 0 }
    }

    /// The next chapter.
    pub fn step(&mut self, title: &str, text: &str) -> io::Result<()> {
        self.steps += 1;
        let Style { bold, plain, .. } = self.style;
        writeln!(self.out, "\n{bold}{:2}. {title}{plain}\n    {text}", self.steps)
    }

    /// A command that was published.
    pub fn sent(&mut self, command: &str, message_id: &str, body: &Value) -> io::Result<()> {
        let Style { bold, dim, cyan, plain, .. } = self.style;
        let exchange = &self.exchange;
        writeln!(self.out, "\n    {cyan}→ {bold}{command}{plain}  {dim}to {exchange}, message_id {message_id}{plain}")?;
        self.json(body)
    }

    /// Its reply, and how long it took.
    pub fn reply(&mut self, reply: &Value, took: Duration) -> io::Result<()> {
        let Style { bold, dim, green, yellow, plain, .. } = self.style;
        let (colour, word, content) = match (&reply["ok"], reply["error"]["code"].as_str()) {
            (Value::Bool(true), _) => (green, "ok", &reply["result"]),
            (_, code) => (yellow, code.unwrap_or("refused"), &reply["error"]),
        };
        let milliseconds = took.as_secs_f64() * 1000.0;
        writeln!(self.out, "    {colour}← {bold}{word}{plain}  {dim}after {milliseconds:.0} ms{plain}")?;
        self.json(content)
    }

    /// Something that happened.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        let Style { dim, plain, .. } = self.style;
        let fact = |(name, value): (&String, &Value)| match value {
            // Who asked is the same for a whole step, and where the mail went is shown with the mail.
            Value::Null => None,
            _ if matches!(name.as_str(), "publisher" | "command_id" | "smtp_reply") => None,
            Value::String(text) => Some(format!("  {name}={text}")),
            other => Some(format!("  {name}={other}")),
        };
        let facts: String = event.data.as_object().into_iter().flatten().filter_map(fact).collect();
        writeln!(self.out, "    ◆ {}{dim}{facts}{plain}", event.name)
    }

    /// A mail in the outbox.
    pub fn mail(&mut self, mail: &Mail) -> io::Result<()> {
        let Style { bold, dim, plain, .. } = self.style;
        writeln!(self.out, "    ✉ {bold}{}{plain}  {dim}to {}{plain}", mail.subject, mail.to)?;
        if let Ok(link) = mail.link() {
            writeln!(self.out, "      {}", link.url)?;
        }
        writeln!(self.out, "      {dim}{}{plain}", relative(mail).display())
    }

    /// Lines of `/metrics`.
    pub fn metrics(&mut self, address: &str, lines: &[String]) -> io::Result<()> {
        self.step("What the daemon counted", &format!("A few lines of http://{address}/metrics:"))?;
        writeln!(self.out)?;
        lines.iter().try_for_each(|line| writeln!(self.out, "    {line}"))
    }

    /// On one line if it fits, otherwise a line for each field.
    fn json(&mut self, value: &Value) -> io::Result<()> {
        let Style { dim, plain, .. } = self.style;
        let text = match value {
            Value::Object(fields) if value.to_string().chars().count() > LINE => {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
                format!("{{\n{}\n}}", fields.join(",\n"))
            }
            _ => value.to_string(),
        };
        text.lines().try_for_each(|line| writeln!(self.out, "      {dim}{line}{plain}"))
    }
}

/// The path as seen from where the tour was called.
fn relative(mail: &Mail) -> &std::path::Path {
    let here = std::env::current_dir().unwrap_or_default();
    mail.path.strip_prefix(here).unwrap_or(&mail.path)
}
