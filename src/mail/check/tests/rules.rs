//! What must be true of a file as a whole.

use std::path::PathBuf;

use super::Directory;
use crate::mail::problem::Rule;

#[test]
fn a_missing_link_is_found_in_each_form_and_in_every_override() {
    let directory = Directory::shipped();
    directory.write("invite/body.txt.hbs", "Welcome {{user.username}} to {{web_url}}\n");
    let problem = directory.problem();
    assert_eq!((problem.rule, problem.line), (Rule::MissingPlaceholder, 1));
    assert!(problem.to_string().starts_with("invite/body.txt.hbs:1:1: `invite_link` is missing"));

    let directory = Directory::shipped();
    directory
        .write("invite/fr/body.html.hbs", "<p>Bonjour {{user.username}}, {{web_url}}</p>")
        .write("sites/north/invite/body.txt.hbs", "Hi {{invite_link}}");
    let said: Vec<_> = directory.problems().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].starts_with("invite/fr/body.html.hbs:1:1: `invite_link`"), "{said:#?}");
    assert!(said[1].starts_with("sites/north/invite/body.txt.hbs:1:1: `user.username`"));
    assert!(said[2].starts_with("sites/north/invite/body.txt.hbs:1:1: `web_url`"), "{said:#?}");
    let affects: Vec<_> = directory.problems()[0].affects.iter().map(ToString::to_string).collect();
    assert_eq!(affects, ["invite (fr)", "invite (site north, fr)"]);
}

#[test]
fn a_link_that_a_condition_can_hide_is_missing() {
    let body = |text: &str| {
        let directory = Directory::shipped();
        directory.write("password_reset_link/body.txt.hbs", text).problems()
    };
    for good in [
        "{{reset_link}}",
        "{{#if reset_link}}{{reset_link}}{{/if}}",
        "{{#if request_ip}}{{reset_link}}{{else}}It is {{reset_link}}{{/if}}",
        "{{#if request_ip}}{{reset_link}}{{else if cancel_link}}{{reset_link}}{{else}}{{reset_link}}{{/if}}",
        "{{#with reset_link}}{{this}}{{/with}}",
        "{{#with reset_link as |link|}}{{link}}{{/with}}",
        "{{#with user}}{{@root.reset_link}} {{../reset_link}}{{/with}}",
        "{{{reset_link}}}",
    ] {
        assert!(body(good).is_empty(), "{good}: {:#?}", body(good));
    }
    for bad in [
        "{{#if request_ip}}{{reset_link}}{{/if}} x",
        "{{#unless reset_link}}{{reset_link}}{{/unless}} x",
        "{{#if request_ip}}{{reset_link}}{{else if cancel_link}}x{{else}}{{reset_link}}{{/if}}",
        "{{! {{reset_link}} }} x",
        r"\{{reset_link}}",
    ] {
        let problems = body(bad);
        assert_eq!(problems.len(), 1, "{bad}: {problems:#?}");
        assert_eq!(problems[0].rule, Rule::MissingPlaceholder, "{bad}");
    }
    let hidden = body("{{#if request_ip}}{{reset_link}}{{/if}} x").remove(0);
    assert!(hidden.message.contains("only under a condition"), "{hidden}");
}

#[test]
fn html_is_always_escaped() {
    for raw in ["{{{user.display_name}}}", "{{& user.display_name}}", "{{~{web_url}~}}"] {
        let directory = Directory::shipped();
        directory.append("invite/body.html.hbs", raw);
        let problem = directory.problem();
        assert_eq!((problem.rule, problem.column), (Rule::Unescaped, raw.find(['u', 'w']).unwrap() + 1));
    }
}

#[test]
fn a_subject_is_one_line_that_is_never_empty_and_holds_no_secret() {
    let subject = |text: &str| {
        let directory = Directory::shipped();
        directory.write("password_reset_link/subject.hbs", text).problems()
    };
    for good in [
        "Hello",
        "\n  Hello {{user.display_name}} \n\n",
        "{{! for translators:\n two lines }}\nHello\n",
        "{{#if request_ip}}A{{else}}B{{/if}}",
    ] {
        assert!(subject(good).is_empty(), "{good:?}: {:#?}", subject(good));
    }
    for (bad, rule) in [
        ("Hello\nBcc: x", Rule::SubjectLineBreak),
        ("{{site.name}}\n{{app_name}}", Rule::SubjectLineBreak),
        ("{{#if request_ip}}A\nB{{else}}B{{/if}}", Rule::SubjectLineBreak),
        ("", Rule::Empty),
        (" \n", Rule::Empty),
        ("{{#if request_ip}}A{{/if}}", Rule::Empty),
        ("{{request_ip}}", Rule::Empty),
        ("Open {{reset_link}}", Rule::SecretInSubject),
        ("Or {{#if cancel_link}}{{cancel_link}}{{/if}}", Rule::SecretInSubject),
    ] {
        let problems = subject(bad);
        assert_eq!(problems.len(), 1, "{bad:?}: {problems:#?}");
        assert_eq!(problems[0].rule, rule, "{bad:?}");
        assert_eq!(problems[0].file, PathBuf::from("password_reset_link/subject.hbs"));
    }
}
