//! Mistakes of people who type a template, or paste one from a word processor: one message, at the mistake, that says what to write.

use super::Directory;
use crate::mail::problem::{Problem, Rule};

const HTML: &str = "password_reset_link/body.html.hbs";
const TEXT: &str = "password_reset_link/body.txt.hbs";
const SUBJECT: &str = "password_reset_link/subject.hbs";

/// The only problem after `from` was replaced by `to`.
#[track_caller]
fn only(file: &str, from: &str, to: &str) -> Problem {
    let problem = Directory::shipped().replace(file, from, to).problem();
    assert_eq!(problem.file.to_str(), Some(file), "{to}: {problem}");
    problem
}

#[test]
fn braces_that_are_missing_are_named_where_they_are_missing() {
    for (written, line) in
        [("{reset_link}", 9), ("{ {reset_link} }", 9), ("｛｛reset_link｝｝", 9), ("reset_link}}", 9)]
    {
        let problem = only(TEXT, "{{reset_link}}", written);
        assert_eq!((problem.rule, problem.line), (Rule::NotATag, line), "{problem}");
    }
    assert_eq!(only(TEXT, "{{user.display_name}}", "{user.display_name}").rule, Rule::NotATag);
    assert_eq!(only(HTML, "{{user.display_name}}", "{user.display_name}}").rule, Rule::NotATag);
    let directory = Directory::shipped();
    assert_eq!(directory.write(SUBJECT, "New password for {site.name}").problem().rule, Rule::NotATag);
    let directory = Directory::shipped();
    let found = directory.append(TEXT, "{% if request_ip %}From{% endif %}\n").problems();
    assert!(found.iter().all(|problem| problem.rule == Rule::NotATag && problem.line == 18), "{found:#?}");
}

#[test]
fn what_is_hardly_meant_is_mentioned_and_no_fault() {
    for (file, text, rule) in [
        (TEXT, "{{reset_link}} From {{request_ip}}", Rule::Unguarded),
        (TEXT, "{{reset_link}} <b>now</b>", Rule::Markup),
        (SUBJECT, "Terms &amp; conditions", Rule::Markup),
        (SUBJECT, "Hello {{request_ip}}", Rule::Unguarded),
    ] {
        let loaded = Directory::shipped().write(file, text).read();
        assert!(loaded.problems.is_empty(), "{text}: {:#?}", loaded.problems);
        let found: Vec<_> = loaded.warnings.iter().map(|warning| (warning.rule, warning.file.to_str())).collect();
        assert_eq!(found, [(rule, Some(file))], "{text}");
    }
    for (file, text) in [
        (HTML, "<p><a href=\"{{reset_link}}\">Go &amp; see</a></p>"),
        (TEXT, "{{#if requested_at}}{{request_ip}}{{/if}} {{reset_link}}"),
        (TEXT, "<{{reset_link}}>"),
    ] {
        let loaded = Directory::shipped().write(file, text).read();
        assert!(loaded.problems.is_empty() && loaded.warnings.is_empty(), "{text}: {:#?}", loaded.warnings);
    }
}

#[test]
fn the_shipped_templates_have_nothing_to_mention() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
    let warnings = crate::mail::render::Loaded::read(&directory, &["default"]).unwrap().warnings;
    assert!(warnings.is_empty(), "{}", crate::mail::report::warnings(&warnings));
}

#[test]
fn what_has_no_end_is_the_only_problem() {
    for (to, column, said) in [
        ("Hello <!-- ", 23, "this comment is never closed"),
        ("Hello <a href=\"https://x.example ", 26, "quote after this attribute is missing"),
        ("Hello <style>p{color:red}", 23, "`<style>` is opened here and never closed"),
    ] {
        let problem = only(HTML, "Hello ", to);
        assert_eq!((problem.rule, problem.line, problem.column), (Rule::Html, 3, column), "{problem}");
        assert!(problem.message.contains(said), "{problem}");
    }
    // Nothing after them ends them.
    for (body, column, said) in [
        ("<p>{{reset_link}}</p><!-- x", 22, "this comment is never closed"),
        ("<p>{{reset_link}}</p><b title=\"x", 22, "this tag is never closed"),
        ("<p>{{reset_link}}</p><style>x</p>", 22, "`<style>` is opened here"),
    ] {
        let problem = Directory::shipped().write(HTML, body).problem();
        assert_eq!((problem.rule, problem.column), (Rule::Html, column), "{problem}");
        assert!(problem.message.contains(said), "{problem}");
    }
    // What has an end.
    let directory = Directory::shipped();
    directory.replace(
        HTML,
        "Hello",
        "<!-- {{user.email}} --><style><!-- p > b {} --></style><b title=\"1 < 2\">Hello</b>",
    );
    assert_eq!(directory.problems(), []);
}

#[test]
fn problems_of_the_email_come_before_those_of_partials() {
    let directory = Directory::shipped();
    directory.replace("partials/small.html.hbs", "</p>", "").append("signed_out/body.txt.hbs", "{{nme}}");
    let files: Vec<_> = directory.problems().into_iter().map(|problem| problem.file).collect();
    assert_eq!(files[0].to_str(), Some("signed_out/body.txt.hbs"), "{files:?}");
    assert_eq!(files[files.len() - 1].to_str(), Some("partials/small.html.hbs"), "{files:?}");
}

#[test]
fn quotes_of_word_processors_are_named() {
    for (from, to) in [
        ("href=\"{{reset_link}}\"", "href=”{{reset_link}}”"),
        ("Hello", "<b style=”color:red”>Hello</b>"),
        ("Hello", "<a href=“https://example.com”>Hello</a>"),
        ("title=\"Choose a new password\"", "title=„Choose a new password“"),
    ] {
        let problem = only(HTML, from, to);
        assert!(problem.message.contains("typographic quotes"), "{to}: {problem}");
        let line = problem.excerpt.as_deref().unwrap();
        assert!("”“„".contains(line.chars().nth(problem.column - 1).unwrap()), "{to}: {problem:#}");
    }
    // In words they are right.
    let directory = Directory::shipped();
    directory.replace(HTML, "Hello", "<b title=\"“x”\">“Hello”</b>").replace(
        HTML,
        "label=\"Choose",
        "label=\"Don’t choose",
    );
    assert_eq!(directory.problems(), []);
}

#[test]
fn what_nobody_sees_in_a_tag_is_named() {
    for written in ["{{\u{a0}reset_link\u{a0}}}", "{{reset_\u{200b}link}}"] {
        let problem = only(TEXT, "{{reset_link}}", written);
        assert_eq!((problem.rule, problem.line), (Rule::Syntax, 9), "{problem}");
        assert!(
            problem.to_string().contains("nobody sees") && problem.to_string().contains("`{{reset_link}}`"),
            "{problem}"
        );
    }
}

#[test]
fn words_without_quotes_are_to_be_put_between_some() {
    let problem = only(HTML, "label=\"Choose a new password\"", "label=Choose a new password");
    assert!(problem.to_string().contains("words stand between quotes: `label=\"Choose …\"`"), "{problem}");
    // A name that is only misspelt.
    let problem = only(HTML, "link=reset_link", "link=reset_lnk");
    assert!(problem.to_string().contains("did you mean `reset_link`"), "{problem}");
}

#[test]
fn what_other_languages_write_is_put_right() {
    for (line, said) in [
        ("{{#if request_ip}}A{{Else}}B{{/if}}", "write `{{else}}`"),
        ("{{#if request_ip}}A{{elsif reset_link}}B{{/if}}", "write `{{else if …}}`"),
        ("{{#if request_ip == \"x\"}}A{{/if}}", "write `{{#if (eq request_ip \"x\")}}`"),
        ("{{signature}}", "`{{> signature}}`"),
    ] {
        let problem = Directory::shipped().append(TEXT, line).problem();
        assert!(problem.to_string().contains(said), "{line}: {problem}");
    }
}
