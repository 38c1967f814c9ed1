//! Each rule against a template that breaks it, in a copy of the shipped templates.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mail::catalogue::Template;
use crate::mail::locate::ReadError;
use crate::mail::problem::{Problem, Rule};
use crate::mail::render::{Loaded, TemplateSet};

/// A copy of the shipped templates, to be broken.
pub(in crate::mail) struct Directory(tempfile::TempDir);

impl Directory {
    pub fn shipped() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates"), copy.path());
        copy
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Adds lines to the end of a file.
    pub fn append(&self, file: &str, text: &str) -> &Self {
        let before = fs::read_to_string(self.path().join(file)).unwrap();
        self.write(file, before + text)
    }

    pub fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let before = fs::read_to_string(self.path().join(file)).unwrap();
        assert!(before.contains(from), "{file} has no {from}");
        self.write(file, before.replace(from, to))
    }

    pub fn remove(&self, file: &str) -> &Self {
        fs::remove_file(self.path().join(file)).unwrap();
        self
    }

    pub fn read(&self) -> Loaded {
        Loaded::read(self.path(), &["default", "north", "south"]).unwrap()
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.read().problems
    }

    /// The only problem that there is.
    #[track_caller]
    fn problem(&self) -> Problem {
        let mut problems = self.problems();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{shown:#?}");
        problems.remove(0)
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() { copy_all(&path, &to) } else { drop(fs::copy(&path, &to).unwrap()) }
    }
}

/// What is wrong with a text body of `invite` that ends in `line`: on which line and column, and what.
#[track_caller]
fn fault(line: &str) -> (Rule, usize, usize, String) {
    let directory = Directory::shipped();
    let good = fs::read_to_string(directory.path().join("invite/body.txt.hbs")).unwrap();
    directory.append("invite/body.txt.hbs", line);
    let problem = directory.problem();
    assert_eq!(problem.file, PathBuf::from("invite/body.txt.hbs"));
    let lines = good.lines().count();
    (problem.rule, problem.line.saturating_sub(lines), problem.column, problem.to_string())
}

#[test]
fn the_shipped_templates_are_good() {
    let problems = Directory::shipped().problems();
    assert!(problems.is_empty(), "{}", crate::mail::report::problems(&problems));
}

#[test]
fn an_unknown_placeholder_is_named_with_its_place_and_the_right_name() {
    let directory = Directory::shipped();
    let lines = fs::read_to_string(directory.path().join("invite/body.txt.hbs")).unwrap();
    let line = lines.lines().count() + 3;
    directory.append("invite/body.txt.hbs", "\n\n  Hello {{user.displayname}}\n");
    let problem = directory.problem();
    assert_eq!(
        problem.to_string(),
        format!(
            "invite/body.txt.hbs:{line}:11: unknown placeholder `user.displayname`; did you mean \
             `user.display_name` (the person's full name; the username where none is known, \
             e.g. \"Ada Lovelace\")? [unknown-placeholder]"
        )
    );
    assert!(format!("{problem:#}").contains("  Hello {{user.displayname}}\n"));
    let affects: Vec<_> = problem.affects.iter().map(ToString::to_string).collect();
    assert_eq!(affects, ["invite"]);
}

#[test]
fn names_are_checked_wherever_they_stand() {
    for (line, column, name) in [
        ("{{#if frobnicate}}x{{/if}}", 7, "frobnicate"),
        ("{{#if invited_by}}x{{else if frob}}y{{/if}}", 30, "frob"),
        ("{{#unless (and invited_by frob)}}x{{/unless}}", 27, "frob"),
        ("{{#with user}}{{frob}}{{/with}}", 17, "user.frob"),
        ("{{> signature frob=user.frob}}", 20, "user.frob"),
        ("{{#if invited_by}}{{#unless frob}}{{/unless}}{{/if}}", 29, "frob"),
        ("é {{user.username.x}}", 5, "user.username.x"),
        ("{{@index}}", 3, "@index"),
        ("{{../web_url}}", 3, "../web_url"),
        ("{{#if (eq frob \"x\")}}{{/if}}", 11, "frob"),
        ("{{~ frob ~}}", 5, "frob"),
    ] {
        let (rule, at, found, message) = fault(line);
        assert_eq!((rule, at, found), (Rule::UnknownPlaceholder, 1, column), "{line}: {message}");
        assert!(message.contains(&format!("`{name}`")), "{line}: {message}");
    }
}

#[test]
fn a_placeholder_of_another_email_is_said_to_be_that() {
    let (_, _, _, message) = fault("{{reset_link}}");
    assert!(message.contains("placeholder of password_reset_link, not of invite"), "{message}");
    let (_, _, _, message) = fault("{{#with user}}{{web_url}}{{/with}}");
    assert!(message.contains("write `@root.web_url`"), "{message}");
}

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
    let affects: Vec<_> =
        directory.problems()[0].affects.iter().map(ToString::to_string).collect();
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
        "{{#with user}}{{@root.reset_link}}{{../reset_link}}{{/with}}",
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
fn what_partials_show_counts_and_is_checked_with_their_parameters() {
    let directory = Directory::shipped();
    directory
        .write("partials/go.html.hbs", "<a href=\"{{target}}\">{{words}}</a>{{user.nme}}")
        .write("password_reset_link/body.html.hbs", "{{> go target=reset_link words=\"Go\"}}");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::UnknownPlaceholder);
    let said = problem.to_string();
    assert!(said.starts_with("partials/go.html.hbs:1:41: unknown placeholder `user.nme`"), "{said}");
    assert!(said.contains("included from password_reset_link/body.html.hbs"), "{said}");

    directory
        .write("partials/go.html.hbs", "<a href=\"{{target}}\">{{words}}</a>")
        .write("password_reset_link/body.html.hbs", "{{> go target=reset_link}}");
    let said = directory.problem().to_string();
    assert!(said.contains("unknown placeholder `words`"), "{said}");
    assert!(said.contains("words=…"), "{said}");
}

#[test]
fn a_partial_that_is_used_twice_is_complained_of_once() {
    let directory = Directory::shipped();
    directory.replace("partials/signature.txt.hbs", "{{web_url}}", "{{web_ulr}}");
    let problem = directory.problems().remove(0);
    assert_eq!(problem.file, PathBuf::from("partials/signature.txt.hbs"));
    assert_eq!(problem.affects.len(), Template::ALL.len());
}

#[test]
fn helpers_and_partials_must_exist() {
    for (line, rule, said) in [
        ("{{shout user.username}}", Rule::UnknownHelper, "no helper `shout`"),
        ("{{#iff invited_by}}{{/iff}}", Rule::UnknownHelper, "did you mean `if`?"),
        ("{{lookup user \"username\"}}", Rule::UnknownHelper, "`lookup` cannot be used"),
        ("{{log user.username}}", Rule::UnknownHelper, "`log` cannot be used"),
        ("{{#invited_by}}x{{/invited_by}}", Rule::UnknownHelper, "{{#if invited_by}}"),
        ("{{#if (gt 1 2)}}x{{/if}}", Rule::UnknownHelper, "`gt`"),
        ("{{if invited_by}}", Rule::HelperMisuse, "needs a block"),
        ("{{eq invited_by \"x\"}}", Rule::HelperMisuse, "asks a question"),
        ("{{#if}}x{{/if}}", Rule::HelperMisuse, "exactly one"),
        ("{{#if web_url app_name}}x{{/if}}", Rule::HelperMisuse, "exactly one"),
        ("{{#if (eq web_url)}}x{{/if}}", Rule::HelperMisuse, "two things"),
        ("{{#each user}}{{@key}}{{this}}{{/each}}", Rule::PlaceholderMisuse, "not a list"),
        ("{{> signatur}}", Rule::UnknownPartial, "did you mean `signature`?"),
        ("{{> heading}}", Rule::UnknownPartial, "no partial `heading`"),
        ("{{> @partial-block}}", Rule::UnknownPartial, "partials only"),
        ("{{> (frob)}}", Rule::Unsupported, "written out"),
        ("{{#*inline \"x\"}}y{{/inline}}", Rule::Unsupported, "decorators"),
        ("{{user}}", Rule::PlaceholderMisuse, "`user.username`, `user.display_name`"),
        ("{{this}}", Rule::PlaceholderMisuse, "group"),
        ("{{#if user}}x{{/if}}", Rule::PlaceholderMisuse, "always there"),
    ] {
        let (found, at, _, message) = fault(line);
        assert_eq!((found, at), (rule, 1), "{line}: {message}");
        assert!(message.contains(said), "{line}: {message}");
    }
}

#[test]
fn a_flag_cannot_be_shown() {
    let directory = Directory::shipped();
    directory.append("password_reset_link/body.txt.hbs", "{{requested_by_support}}");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::PlaceholderMisuse);
    assert!(problem.to_string().contains("{{#if requested_by_support}}"), "{problem}");
}

#[test]
fn syntax_errors_are_put_in_plain_words() {
    for (line, said) in [
        ("{{#if invited_by}}", "`if` is opened here and never closed"),
        ("{{/if}}", "closes a block that is not open"),
        ("{{web_url", "this tag is never closed"),
        ("{{web_url}", "this tag is never closed"),
        ("{{}}", "Handlebars cannot read this"),
        ("{{user.display name}}", "Handlebars cannot read this"),
        ("{{{{raw}}}} {{{{/raw}}}}", ""),
    ] {
        let (rule, at, _, message) = fault(line);
        assert!(message.contains(said), "{line}: {message}");
        if !said.is_empty() {
            assert_eq!((rule, at), (Rule::Syntax, 1), "{line}: {message}");
        }
    }
}

#[test]
fn partials_that_include_each_other_are_found_and_not_followed() {
    let directory = Directory::shipped();
    directory
        .write("partials/a.txt.hbs", "{{> b}}")
        .write("partials/b.txt.hbs", "x\n {{> a}}")
        .append("invite/body.txt.hbs", "{{> a}}");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::PartialCycle);
    assert_eq!((problem.file.to_str(), problem.line, problem.column), (Some("partials/b.txt.hbs"), 2, 6));
    assert!(problem.message.contains("partials/a.txt.hbs → partials/b.txt.hbs → partials/a.txt.hbs"));

    // The same where no email includes them, and one that includes itself in its own block.
    let directory = Directory::shipped();
    directory.write("partials/c.hbs", "{{#> c}}{{> c}}{{/c}}");
    let problems = directory.problems();
    assert!(problems.iter().all(|p| p.rule == Rule::PartialCycle), "{problems:#?}");
    assert!(!problems.is_empty());
}

#[test]
fn partials_cannot_make_an_email_huge() {
    let directory = Directory::shipped();
    for i in 0..14 {
        let next = format!("{{{{> p{}}}}}", i + 1).repeat(10);
        directory.write(&format!("partials/p{i}.txt.hbs"), next);
    }
    directory.write("partials/p14.txt.hbs", "x".repeat(1000));
    directory.append("invite/body.txt.hbs", "{{> p0}}");
    let problems = directory.problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0].rule, Rule::TooLarge);

    let directory = Directory::shipped();
    for i in 0..20 {
        directory.write(&format!("partials/p{i}.txt.hbs"), format!("{{{{> p{}}}}}", i + 1));
    }
    directory.write("partials/p20.txt.hbs", "x").append("invite/body.txt.hbs", "{{> p0}}");
    let problem = directory.problems().remove(0);
    assert!(problem.message.contains("16 deep"), "{problem}");
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

#[test]
fn every_email_has_all_three_parts() {
    for (file, said) in [
        ("invite/body.html.hbs", "invite has no HTML body"),
        ("invite/body.txt.hbs", "invite has no plain text body"),
        ("invite/subject.hbs", "invite has no subject"),
    ] {
        let problem = Directory::shipped().remove(file).problem();
        assert_eq!((problem.rule, problem.file.to_str()), (Rule::MissingFile, Some(file)));
        assert!(problem.message.contains(said), "{problem}");
    }
    // Without settings it is sent.
    assert!(Directory::shipped().remove("invite/template.toml").problems().is_empty());
}

#[test]
fn settings_are_checked() {
    for (text, line, said) in [
        ("enabled = false\ndescripton = \"x\"\n", 2, "did you mean `description`?"),
        ("enabled = \"no\"\n", 1, "the keys are"),
        ("\nenabled false\n", 2, "[settings]"),
    ] {
        let directory = Directory::shipped();
        let problem = directory.write("invite/template.toml", text).problem();
        assert_eq!((problem.rule, problem.line), (Rule::Settings, line), "{problem}");
        assert!(problem.to_string().contains(said), "{problem}");
    }
}

#[test]
fn files_and_directories_that_nothing_uses_are_named() {
    for (file, rule, said) in [
        ("invite/body.htm.hbs", Rule::UnknownFile, "did you mean `body.html.hbs`?"),
        ("invite/fr/Subject.hbs", Rule::UnknownFile, "did you mean `subject.hbs`?"),
        ("invite/fr/sub/subject.hbs", Rule::UnknownFile, "no meaning"),
        ("invitation/subject.hbs", Rule::UnknownTemplate, "`invitation`"),
        ("invites/subject.hbs", Rule::UnknownTemplate, "did you mean `invite`?"),
        ("invite/fr_CA/subject.hbs", Rule::UnknownLocale, "did you mean `fr-CA`?"),
        ("invite/english/subject.hbs", Rule::UnknownLocale, "not a language tag"),
        ("sites/nort/invite/subject.hbs", Rule::UnknownSite, "did you mean `north`?"),
        ("sites/north/invites/subject.hbs", Rule::UnknownTemplate, "did you mean `invite`?"),
        ("sites/north/subject.hbs", Rule::UnknownFile, "nothing uses"),
        ("sites/subject.hbs", Rule::UnknownFile, "nothing uses"),
        ("notes.txt", Rule::UnknownFile, "nothing uses"),
        ("partials/layout.html", Rule::UnknownFile, "NAME.html.hbs"),
        ("partials/lay out.hbs", Rule::UnknownFile, "name of a partial"),
    ] {
        let directory = Directory::shipped();
        let problem = directory.write(file, "x").problem();
        assert_eq!(problem.rule, rule, "{problem}");
        assert!(problem.to_string().contains(said), "{problem}");
        assert!(problem.affects.is_empty());
        assert!(directory.read().set.variants().iter().all(|(_, valid)| *valid));
    }
    let directory = Directory::shipped();
    directory.write("invite/fr-CA/subject.hbs", "a").write("invite/fr-ca/subject.hbs", "b");
    assert_eq!(directory.problem().rule, Rule::UnknownLocale);
}

#[test]
fn what_editors_and_systems_leave_is_passed_over() {
    let directory = Directory::shipped();
    for file in [
        ".DS_Store",
        "invite/.body.txt.hbs.swp",
        "invite/body.txt.hbs~",
        "invite/#body.txt.hbs#",
        "invite/body.txt.hbs.bak",
        "invite/4913",
        "partials/README.md",
        "..data/invite/subject.hbs",
    ] {
        directory.write(file, "{{");
    }
    assert!(directory.problems().is_empty(), "{:#?}", directory.problems());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = Directory::shipped();
    directory.write("invite/subject.hbs", b"ok\n\xff\xfe");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::Unreadable);
    assert!(problem.message.contains("not UTF-8 (line 2)"), "{problem}");
    assert_eq!(problem.affects.len(), 1);

    let directory = Directory::shipped();
    directory.write("invite/body.txt.hbs", "x".repeat(300 * 1024));
    assert_eq!(directory.problem().rule, Rule::TooLarge);

    // As Windows writes it.
    let directory = Directory::shipped();
    directory.write("invite/subject.hbs", "\u{feff}Welcome\r\n");
    assert!(directory.problems().is_empty());

    let missing = Loaded::read(Path::new("/nowhere/at/all"), &[]).unwrap_err();
    assert!(matches!(missing, ReadError::Io { .. }));
    let said = TemplateSet::load(Path::new("/nowhere/at/all"), &[]).unwrap_err().to_string();
    assert!(said.contains("/nowhere/at/all") && said.contains("templates.directory"), "{said}");
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let directory = Directory::shipped();
    let deep = format!("{}x{}", "{{#if web_url}}".repeat(8000), "{{/if}}".repeat(8000));
    directory.append("invite/body.txt.hbs", &deep);
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::Syntax);
    // The deepest that is allowed is read.
    let directory = Directory::shipped();
    let deep = format!("{}x{}", "{{#if web_url}}".repeat(24), "{{/if}}".repeat(24));
    directory.append("invite/body.txt.hbs", &deep);
    assert!(directory.problems().is_empty());
}

#[test]
fn all_problems_are_found_at_once_in_order() {
    let directory = Directory::shipped();
    directory
        .append("invite/body.txt.hbs", "{{a}}\n{{bb}} {{ccc}}\n")
        .append("account_locked/body.html.hbs", "{{{web_url}}}{{shout}}")
        .write("signed_out/template.toml", "on = true");
    let problems = directory.problems();
    let rules: Vec<_> = problems.iter().map(|p| p.rule.as_str()).collect();
    let unknown = "unknown-placeholder";
    assert_eq!(rules, ["unescaped", unknown, unknown, unknown, unknown, "settings"]);
    let said = TemplateSet::load(directory.path(), &[]).unwrap_err().to_string();
    assert!(said.contains("6 problems in 3 files"), "{said}");
}
