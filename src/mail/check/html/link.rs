//! Targets of links.

use html5gum::Span;

use super::Reader;
use crate::mail::check::expand::offset;
use crate::mail::piece::At;
use crate::mail::placeholder::{Kind, Placeholder};
use crate::mail::problem::Rule;

impl Reader<'_> {
    /// The target of a link: what was given for that, whole, and nothing made of other values. Returns which value it is.
    /// `attribute` is the place of its attribute.
    pub(super) fn link(
        &mut self,
        element: &str,
        target: &str,
        span: Span<usize>,
        attribute: Span<usize>,
    ) -> Option<&'static str> {
        let page = self.page;
        let trimmed = target.trim();
        let values = page.values(trimmed);
        let scheme = trimmed.split(['/', '?', '#']).next().unwrap_or_default().split_once(':').map(|(s, _)| s);
        // `www.example.com:8080` is a host, not a scheme.
        let scheme = scheme.filter(|scheme| !scheme.contains('.'));
        match values.as_slice() {
            [] => match scheme.map(str::to_ascii_lowercase).as_deref() {
                Some("http" | "https") if element == "link" => self.remote(trimmed, span),
                Some("https" | "mailto" | "tel") => {}
                Some("http") => {
                    let help = "write `https:`: whoever is in between reads and changes what is fetched by `http:`";
                    self.report(Rule::InsecureLink, span, "this link is not encrypted", help);
                }
                None if trimmed.starts_with('#') || !self.whole => {}
                None => self.without_scheme(trimmed, attribute),
                Some(other) => {
                    let help = "links begin with `https:`, `mailto:` or `tel:`";
                    self.report(Rule::Link, span, format!("`{other}:` cannot be the target of a link"), help);
                }
            },
            [(at, spot)] => {
                let value = spot.value?;
                let (before, after) = (&trimmed[..*at], &trimmed[at + '\u{F0000}'.len_utf8()..]);
                let good = match value.kind {
                    Kind::Link => before.is_empty() && after.is_empty(),
                    Kind::WebAddress => before.is_empty() && (after.is_empty() || after.starts_with(['/', '?', '#'])),
                    Kind::EmailAddress => before == "mailto:" && (after.is_empty() || after.starts_with('?')),
                    _ => false,
                };
                if good {
                    return Some(value.name);
                }
                self.bad_link(value, spot.at);
            }
            [(_, first), ..] => {
                let worst = values.iter().find(|(_, s)| s.value.is_some_and(|v| v.kind != Kind::WebAddress));
                let spot = worst.map_or(*first, |(_, spot)| *spot);
                if let Some(value) = spot.value {
                    self.bad_link(value, spot.at);
                }
            }
        }
        None
    }

    fn bad_link(&mut self, value: &'static Placeholder, at: At) {
        let name = value.name;
        let (message, help) = match value.kind {
            Kind::Link => (
                format!("`{name}` must be the whole target of its link"),
                format!("write `href=\"{{{{{name}}}}}\"`: with anything before or after it, it leads elsewhere"),
            ),
            Kind::WebAddress => (
                format!("`{name}` must begin the target of its link"),
                format!("write `href=\"{{{{{name}}}}}\"`, or with a path after it: `href=\"{{{{{name}}}}}/help\"`"),
            ),
            Kind::EmailAddress => {
                (format!("`{name}` is an email address"), format!("write `href=\"mailto:{{{{{name}}}}}\"`"))
            }
            _ => (
                format!("a link cannot be made of `{name}`"),
                "use the link that the email is given, or a fixed address".to_owned(),
            ),
        };
        self.report_at(Rule::Link, at, message, &help);
    }

    /// A target that is no whole address: a mail has no page from which the rest could be taken.
    fn without_scheme(&mut self, target: &str, attribute: Span<usize>) {
        let name = target.trim_matches(['{', '}', ' ']);
        let value = self.place(attribute, target);
        let (message, help) = if self.template.placeholder(name).is_some() {
            let message = format!("`{name}` is here a word, not the placeholder: the link leads nowhere");
            let parameter = value.and_then(|at| self.parameter(at));
            let help = match parameter {
                Some(parameter) => format!("write `{parameter}={name}`, without quotes"),
                None => format!("write `{{{{{name}}}}}`"),
            };
            (message, help)
        } else if target.is_empty() {
            let help = "write an address that begins with `https:`, or a placeholder, as in `href=\"{{web_url}}\"`";
            ("a link has no target".to_owned(), help.to_owned())
        } else {
            let help = match target {
                _ if target.starts_with("//") => format!("write `https:{target}`"),
                _ if target.starts_with('/') => format!("write `{{{{web_url}}}}{target}`"),
                _ if target.contains('@') && !target.contains('/') => format!("write `mailto:{target}`"),
                _ if target.contains('.') && !target.contains(' ') => format!("write `https://{target}`"),
                _ => "links begin with `https:`, `mailto:` or `tel:`".to_owned(),
            };
            (format!("`{target}` is not a whole address"), help)
        };
        match value {
            Some(at) => self.report_at(Rule::Link, at, message, &help),
            None => self.report(Rule::Link, attribute, message, &help),
        }
    }

    /// Where the value of an attribute stands: in a parameter of a partial, if it comes from there.
    fn place(&self, attribute: Span<usize>, value: &str) -> Option<At> {
        let written = self.page.text.get(attribute.start..attribute.end)?;
        let at = written.find(value).filter(|_| !value.is_empty())?;
        self.page.place(self.sources, attribute.start + at, value.chars().count())
    }

    /// The parameter of a partial whose words begin there.
    fn parameter(&self, at: At) -> Option<&str> {
        let source = &self.sources.file(at.file).text;
        let before = source.get(..offset(source, at.line, at.column))?;
        let tag = &before[before.rfind("{{")?..];
        let name = tag.trim_end_matches(['"', '\'', '{', ' ']).strip_suffix('=')?;
        let inside = !tag.contains("}}");
        name.rsplit(char::is_whitespace).next().filter(|name| inside && !name.is_empty())
    }
}
