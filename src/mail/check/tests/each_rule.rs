//! Each rule has been seen to catch a fault.

use super::*;

/// A file, and text for it that breaks a rule.
fn breach(rule: Rule) -> (&'static str, Vec<u8>) {
    let body = |text: &str| format!("{{{{invite_link}}}} {{{{user.username}}}} {{{{web_url}}}} {text}\n").into_bytes();
    let html = |text: &str| {
        format!("{{{{#> layout lang=\"en\" title=\"x\" preheader=\"y\"}}}}\n{LINKED}\n{text}\n{{{{/layout}}}}\n")
            .into_bytes()
    };
    let (text_file, html_file, subject) = ("invite/body.txt.hbs", "invite/body.html.hbs", "invite/subject.hbs");
    match rule {
        Rule::Syntax => (text_file, body("{{#if reason}}")),
        Rule::Unsupported => (text_file, body("{{#*inline \"x\"}}a{{/inline}}")),
        Rule::UnknownPlaceholder => (text_file, body("{{user.displayname}}")),
        Rule::MissingPlaceholder => (text_file, b"{{user.username}} {{web_url}}".to_vec()),
        Rule::NotATag => (text_file, body("Hello {user.display_name}")),
        Rule::Unguarded => (text_file, body("From {{invited_by}}")),
        Rule::PlaceholderMisuse => (text_file, body("{{user}}")),
        Rule::UnknownHelper => (text_file, body("{{upper user.username}}")),
        Rule::HelperMisuse => (text_file, body("{{date expires_at expires_at}}")),
        Rule::UnknownPartial => (text_file, body("{{> goodbye}}")),
        Rule::PartialCycle => ("partials/layout.html.hbs", b"{{> layout}}".to_vec()),
        Rule::Unescaped => (html_file, html("{{{user.display_name}}}")),
        Rule::UnsafePlace => (html_file, html("<p style=\"color: {{app_name}}\">x</p>")),
        Rule::Link => (html_file, html("<a href=\"https://{{user.username}}\">x</a>")),
        Rule::InsecureLink => (html_file, html("<a href=\"http://example.com\">x</a>")),
        Rule::RemoteContent => (html_file, html("<img src=\"https://example.com/x.png\" alt=\"\">")),
        Rule::Html => (html_file, html("<p><b>x</p>")),
        Rule::Clipped => (html_file, html(&"<p>words and words and words</p>\n".repeat(4000))),
        Rule::SecretInSubject => (subject, b"{{invite_link}}".to_vec()),
        Rule::SubjectLineBreak => (subject, b"Hello\nBcc: x".to_vec()),
        Rule::SubjectTooLong => (subject, "very ".repeat(60).into_bytes()),
        Rule::Markup => (subject, b"<b>Hello</b>".to_vec()),
        Rule::Empty => (subject, b"{{#if invited_by}}{{invited_by}}{{/if}}".to_vec()),
        Rule::TooLarge => (text_file, b"x".repeat(300 * 1024)),
        // Removed, not written.
        Rule::MissingFile => (text_file, Vec::new()),
        Rule::UnknownFile => ("invite/body.htm.hbs", b"x".to_vec()),
        Rule::UnknownTemplate => ("invites/subject.hbs", b"x".to_vec()),
        Rule::UnknownSite => ("sites/nort/invite/subject.hbs", b"x".to_vec()),
        Rule::UnknownLocale => ("invite/english/subject.hbs", b"x".to_vec()),
        Rule::Unreadable => (subject, b"\xff\xfe".to_vec()),
        Rule::Settings => ("invite/template.toml", b"enabeld = true".to_vec()),
    }
}

const LINKED: &str = "<p><a href=\"{{invite_link}}\">{{user.username}}</a> <a href=\"{{web_url}}\">{{web_url}}</a></p>";

#[test]
fn each_rule_catches_its_fault() {
    let mut missed = Vec::new();
    for rule in Rule::ALL {
        let directory = Directory::shipped();
        let (file, text) = breach(rule);
        if rule == Rule::MissingFile {
            directory.remove(file);
        } else {
            directory.write(file, text);
        }
        let loaded = directory.read();
        let problems = [loaded.problems, loaded.warnings].concat();
        assert!(problems.iter().all(|problem| rule.is_warning() || !problem.rule.is_warning()));
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        // What breaks one rule does not drown in what it breaks of others.
        let others = problems.iter().filter(|problem| problem.rule != rule).count();
        if others > 1 || others == problems.len() {
            missed.push(format!("{rule}: {shown:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
