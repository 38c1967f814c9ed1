//! HTML as mail programs read it.

use super::Directory;
use crate::mail::problem::{Problem, Rule};

/// What is wrong with the HTML body of `password_reset_link` with `line` at the end of its frame.
fn problems(line: &str) -> Vec<Problem> {
    let directory = Directory::shipped();
    directory.replace("password_reset_link/body.html.hbs", "{{/layout}}", &format!("{line}\n{{{{/layout}}}}"));
    directory.problems()
}

#[track_caller]
fn only(line: &str) -> Problem {
    let mut found = problems(line);
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{line}: {shown:#?}");
    found.remove(0)
}

#[test]
fn what_mail_programs_take_is_good() {
    for line in [
        "<p class=\"a\">x<br>y<br/></p>",
        "<a href=\"{{web_url}}\">a</a><a href='{{web_url}}/help?a=b'>b</a><a href=\"mailto:{{support_email}}\">c</a>",
        "<a href=\" {{reset_link}} \">x</a><a href=\"https://example.com/privacy\">y</a><a href=\"tel:+123\">z</a>",
        "<td width=\"100\" title=\"{{user.display_name}}\">a &nbsp; &copy b</td>",
        "{{#if expires_at}}<b>{{expires_at}}</b>{{else}}<i>x</i>{{/if}}",
        "<div {{#if request_ip}}class=\"a\"{{else}}class=\"b\"{{/if}}>x</div>",
        "<!--[if mso]><v:rect href=\"{{reset_link}}\"><w:anchorlock/></v:rect><![endif]-->",
        "<o:p/><img src=\"cid:logo\" alt=\"\">",
        "2 &lt; 3 <style>td { color: red } a > b {}</style>",
    ] {
        let shown: Vec<_> = problems(line).iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{line}: {shown:#?}");
    }
}

#[test]
fn a_fault_is_named_at_its_place() {
    // The bar stands before the place that is meant.
    let cases = [
        (Rule::Html, "¦<p>x", "`<p>` is opened here and never closed"),
        (Rule::Html, "x¦</b>", "closes an element that is not open"),
        (Rule::Html, "ab <i>x¦<b>y</i>", "`<b>` is opened here"),
        (Rule::Html, "{{#if expires_at}}¦<div>{{/if}}x", "`<div>` is opened here"),
        (Rule::Html, "x¦<div/>", "does not close itself"),
        (Rule::Html, "¦</br>", "has no end tag"),
        (Rule::Html, "¦<script>go()</script>", "no place in an email"),
        (Rule::Html, "¦<b onclick=\"go()\">x</b>", "runs a script"),
        (Rule::Html, "a ¦< b <3", "`<` begins no tag"),
        (Rule::Html, "<b class=\"a\" ¦class=\"b\">x</b>", "given twice"),
        (Rule::UnsafePlace, "<b title={{¦user.username}}>x</b>", "without quotes"),
        (Rule::UnsafePlace, "<b style=\"color:{{¦user.username}}\">x</b>", "in a style"),
        (Rule::UnsafePlace, "<style>a{b:{{¦user.username}}}</style>", "in a style"),
        (Rule::UnsafePlace, "<b {{¦user.username}}>x</b>", "without quotes"),
        (Rule::UnsafePlace, "<img src=\"{{¦user.username}}\">", "address of an image"),
        (Rule::Link, "<a href=\"https://x.example/{{¦user.username}}\">x</a>", "cannot be made of `user.username`"),
        (Rule::Link, "<a href=\"https://x.example/?to={{¦reset_link}}\">x</a>", "must be the whole target"),
        (Rule::Link, "<a href=\"{{¦reset_link}}&amp;x=y\">x</a>", "must be the whole target"),
        (Rule::Link, "<a href=\"{{¦support_email}}\">x</a>", "is an email address"),
        (Rule::Link, "<a href=\"{{web_url}}{{¦reset_link}}\">x</a>", "must be the whole target"),
        (Rule::Link, "<a href=\"{{¦web_url}}.evil.example\">x</a>", "must begin the target"),
        (Rule::Link, "¦<a href=\" JavaScript:go()\">x</a>", "`javascript:` cannot be"),
        (Rule::RemoteContent, "¦<img src=\"https://x.example/a.png\" alt=\"\">", "fetched from another server"),
        (Rule::RemoteContent, "¦<td background=\"//x.example/a.png\">x</td>", "fetched from another server"),
        (Rule::RemoteContent, "¦<b style=\"background:URL( 'http://x.example')\">x</b>", "fetched"),
        (Rule::RemoteContent, "<style>¦@import 'x'</style>", "fetched from another server"),
        (Rule::RemoteContent, "¦<link rel=\"stylesheet\" href=\"https://x.example\">", "fetched"),
    ];
    for (rule, line, said) in cases {
        let column = line.chars().position(|c| c == '¦').unwrap() + 1;
        let line = line.replace('¦', "");
        let found = problems(&line);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        let named = found.iter().any(|p| p.rule == rule && p.message.contains(said) && p.column == column);
        assert!(named, "{line}: {rule} at {column}: {shown:#?}");
    }
}

#[test]
fn what_stands_in_a_comment_is_not_shown() {
    let directory = Directory::shipped();
    directory.write("password_reset_link/body.html.hbs", "<p>Hello<!-- {{reset_link}} --></p>");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::MissingPlaceholder);
    assert!(problem.message.contains("nobody sees it"), "{problem}");
    directory.write("password_reset_link/body.html.hbs", "<p><a href=\"{{reset_link}}\">Go</a></p>");
    assert!(directory.problems().is_empty());
}

#[test]
fn a_link_that_nobody_can_see_or_click_is_not_shown() {
    for body in [
        "<p>Hello</p><a href=\"{{reset_link}}\"></a>",
        "<p>Hello</p><a href=\"{{reset_link}}\"> &nbsp; <b></b></a>",
        "<p>Hello</p><p hidden><a href=\"{{reset_link}}\">Go</a></p>",
        "<p>Hello</p><div style=\"color: red; Display : None\"><p><a href=\"{{reset_link}}\">Go</a> {{reset_link}}</p></div>",
        "<p>Hello</p><a href=\"{{reset_link}}\"><span style=\"visibility:hidden\">Go</span></a>",
        "<p>Hello</p><a href=\"{{reset_link}}\">{{#if request_ip}}Go{{/if}}</a>",
        "<p>Hello</p><a href=\"{{reset_link}}\"><img hidden src=\"cid:go\" alt=\"\"></a>",
    ] {
        let directory = Directory::shipped();
        let problem = directory.write("password_reset_link/body.html.hbs", body).problem();
        assert_eq!(problem.rule, Rule::MissingPlaceholder, "{body}");
        assert!(problem.message.contains("nobody sees it"), "{body}: {problem}");
    }
    for body in [
        "<a href=\"{{reset_link}}\"><span>Go</span></a>",
        "<a href=\"{{reset_link}}\"><img src=\"cid:go\" alt=\"Go\"></a>",
        "<a href=\"{{reset_link}}\">{{user.username}}</a>",
        "<p hidden>{{reset_link}}</p><p>{{reset_link}}</p>",
        "<p style=\"display:block\">{{reset_link}}</p>",
    ] {
        let directory = Directory::shipped();
        directory.write("password_reset_link/body.html.hbs", body);
        let shown: Vec<_> = directory.problems().iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{body}: {shown:#?}");
    }
}

#[test]
fn a_fault_in_a_partial_is_named_there() {
    let directory = Directory::shipped();
    directory.replace("partials/small.html.hbs", "</p>", "");
    let problem = directory.problem();
    assert_eq!(problem.file.to_str(), Some("partials/small.html.hbs"));
    assert_eq!(problem.rule, Rule::Html);
}

#[test]
fn html_that_is_cut_off_is_named() {
    let long = "<p>words and words and words</p>\n".repeat(4000);
    let problem = only(&long);
    assert_eq!(problem.rule, Rule::Clipped);
}

#[test]
fn a_subject_has_an_end() {
    let directory = Directory::shipped();
    directory.write("invite/subject.hbs", format!("{{{{user.display_name}}}}: {}", "very ".repeat(30)));
    assert_eq!(directory.problem().rule, Rule::SubjectTooLong);
}
