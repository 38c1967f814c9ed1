//! Links lead where they were given to lead, and end where they end.

use super::Directory;
use crate::mail::problem::{Problem, Rule};

const HTML: &str = "password_reset_link/body.html.hbs";
const TEXT: &str = "password_reset_link/body.txt.hbs";

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_name_of_a_placeholder_in_quotes_is_no_link() {
    let directory = Directory::shipped();
    let problem = directory.replace(HTML, "link=reset_link", "link=\"reset_link\"").problem();
    // Where it was written, not in the partial that it was given to.
    assert_eq!((problem.rule, problem.file.to_str(), problem.line, problem.column), (Rule::Link, Some(HTML), 9, 18));
    assert!(problem.to_string().contains("write `link=reset_link`, without quotes"), "{problem}");

    let directory = Directory::shipped();
    let problem = directory.replace(HTML, "Hello", "<a href=\"web_url\">Hello</a>").problem();
    assert_eq!((problem.rule, problem.column), (Rule::Link, 26));
    assert!(problem.to_string().contains("write `{{web_url}}`"), "{problem}");
}

#[test]
fn the_target_of_a_link_is_a_whole_address() {
    for (target, said) in [
        ("", "a link has no target"),
        (" ", "a link has no target"),
        ("/help", "write `{{web_url}}/help`"),
        ("//example.com/help", "write `https://example.com/help`"),
        ("www.example.com/help", "write `https://www.example.com/help`"),
        ("www.example.com:8080/help", "write `https://www.example.com:8080/help`"),
        ("support@example.com", "write `mailto:support@example.com`"),
        ("help", "links begin with"),
    ] {
        let directory = Directory::shipped();
        let problem = directory.replace(HTML, "Hello", &format!("<a href=\"{target}\">Hello</a>")).problem();
        assert_eq!((problem.rule, problem.line), (Rule::Link, 3), "{target}: {problem}");
        assert!(problem.to_string().contains(said), "{target}: {problem}");
    }
    for target in ["#top", "https://example.com", "mailto:a@example.com", "tel:+123", "{{web_url}}", "{{web_url}}/help"]
    {
        let directory = Directory::shipped();
        directory.replace(HTML, "Hello", &format!("<a href=\"{target}\">Hello</a>"));
        let loaded = directory.read();
        assert_eq!((shown(&loaded.problems), shown(&loaded.warnings)), (Vec::new(), Vec::new()), "{target}");
    }
}

#[test]
fn a_link_without_encryption_is_mentioned_and_no_fault() {
    let directory = Directory::shipped();
    directory.replace(HTML, "Hello", "<a href=\"http://example.com\">Hello</a>");
    let loaded = directory.read();
    assert_eq!(shown(&loaded.problems), Vec::<String>::new());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", shown(&loaded.warnings));
    assert_eq!((loaded.warnings[0].rule, loaded.warnings[0].line), (Rule::InsecureLink, 3));
    assert!(loaded.set.variants().iter().all(|(_, good)| *good));
}

#[test]
fn nothing_stands_right_beside_a_one_time_link() {
    for text in [
        "https://evil.example/?u={{reset_link}}",
        "{{reset_link}}&utm_source=mail",
        "{{reset_link}}here",
        "Link:{{reset_link}}",
        "こちら{{reset_link}}から",
        "{{reset_link}}{{reset_link}}",
        "{{reset_link}}{{#if request_ip}}x{{/if}}",
        "{{#if request_ip}}{{else}}x{{/if}}{{reset_link}}",
    ] {
        let directory = Directory::shipped();
        let problem = directory.replace(TEXT, "{{reset_link}}", text).problems().remove(0);
        assert_eq!(
            (problem.rule, problem.file.to_str(), problem.line),
            (Rule::Link, Some(TEXT), 9),
            "{text}: {problem}"
        );
        assert!(problem.message.contains("runs into what stands beside it"), "{text}: {problem}");
    }
    for text in [
        "<{{reset_link}}>",
        "({{reset_link}})",
        "Here: {{reset_link}}.",
        "リンク　{{reset_link}}　から",
        "{{reset_link}}{{#if request_ip}} from {{request_ip}}{{/if}}",
        "{{web_url}}/help {{reset_link}}",
    ] {
        let directory = Directory::shipped();
        directory.replace(TEXT, "{{reset_link}}", text);
        assert_eq!(shown(&directory.problems()), Vec::<String>::new(), "{text}");
    }
    // The address to copy, in HTML.
    let directory = Directory::shipped();
    let problem = directory.replace(HTML, "{{reset_link}}</a>", "{{reset_link}}abc</a>").problem();
    assert_eq!((problem.rule, problem.line), (Rule::Link, 10), "{problem}");
    let directory = Directory::shipped();
    directory.replace(HTML, "{{reset_link}}</a>", "({{reset_link}})</a>.");
    assert_eq!(shown(&directory.problems()), Vec::<String>::new());
}
