//! Each rule against a template that breaks it, in a copy of the shipped templates.

use std::fs;
use std::path::{Path, PathBuf};

use super::expand::expand;
use super::parse::Parser;
use crate::mail::catalogue::Template;
use crate::mail::locate::{Form, Sources};
use crate::mail::piece::{Piece, join_texts};
use crate::mail::problem::{Problem, Rule};
use crate::mail::render::{Loaded, TemplateSet};

mod each_rule;
mod files;
mod html;
mod languages;
mod links;
mod rules;
mod soup;
mod typing;

/// A copy of the shipped templates in their first language, to be broken.
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

    /// Puts a link in the place of whatever is there.
    fn link(&self, at: &str, to: &Path) -> &Self {
        let at = self.path().join(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&at);
        std::os::unix::fs::symlink(to, at).unwrap();
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

thread_local! {
    static SHIPPED: Sources = {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
        Sources::read(&directory, &[]).unwrap()
    };
}

/// The pieces of an HTML body of `password_reset_link`, with the shipped partials.
pub(in crate::mail) fn compile(source: &str) -> Result<Vec<Piece>, Vec<Problem>> {
    SHIPPED.with(|sources| {
        let (sources, file) = sources.with_file("it.hbs", source);
        let template = Some(Template::PasswordResetLink);
        let mut parser = Parser::default();
        let found = expand(&sources, &mut parser, template, None, Form::Html, file);
        if found.problems.is_empty() { Ok(join_texts(found.pieces)) } else { Err(found.problems) }
    })
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            // Languages would only make each test slower.
            if path.file_name().unwrap().len() > 2 {
                copy_all(&path, &to);
            }
        } else {
            fs::copy(&path, &to).unwrap();
        }
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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
    let problems = Loaded::read(&directory, &["default"]).unwrap().problems;
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
fn what_partials_show_counts_and_is_checked_with_their_parameters() {
    let directory = Directory::shipped();
    directory
        .write("partials/go.html.hbs", "<a href=\"{{target}}\">{{words}}</a>{{user.nme}}")
        .write("password_reset_link/body.html.hbs", "{{> go target=reset_link words=\"Go\"}}");
    let problem = directory.problem();
    assert_eq!(problem.rule, Rule::UnknownPlaceholder);
    let said = problem.to_string();
    assert!(said.starts_with("partials/go.html.hbs:1:37: unknown placeholder `user.nme`"), "{said}");
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
