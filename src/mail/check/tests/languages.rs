//! Languages and sites: whose partials, whose dates.

use super::Directory;
use crate::mail::catalogue::Template;
use crate::mail::context;
use crate::mail::problem::Rule;

const TEMPLATE: Template = Template::SignedOut;

impl Directory {
    /// The text body for a site and language.
    #[track_caller]
    fn text(&self, site: &str, locale: Option<&str>) -> String {
        let loaded = self.read();
        assert!(loaded.problems.is_empty(), "{}", crate::mail::report::problems(&loaded.problems));
        loaded.set.render(TEMPLATE, site, locale, &context::sample(TEMPLATE)).unwrap().text
    }
}

#[test]
fn a_body_and_its_partials_are_of_one_language() {
    let directory = Directory::shipped();
    directory
        .write("partials/end.txt.hbs", "Bye")
        .write("partials/de/end.txt.hbs", "Tschüss")
        .write("partials/de-AT/end.txt.hbs", "Servus")
        .write("signed_out/body.txt.hbs", "Hello. {{> end}}")
        .write("signed_out/de/body.txt.hbs", "Hallo. {{> end}}");
    assert_eq!(directory.text("default", None), "Hello. Bye\n");
    assert_eq!(directory.text("default", Some("de-CH")), "Hallo. Tschüss\n");
    // No body of its own: the German one, with German words, not the Austrian ones.
    assert_eq!(directory.text("default", Some("de-AT")), "Hallo. Tschüss\n");
    // There is no French body: all of it is English.
    directory.write("partials/fr/end.txt.hbs", "Salut");
    assert_eq!(directory.text("default", Some("fr")), "Hello. Bye\n");
    directory.write("signed_out/de-AT/body.txt.hbs", "Griaß di. {{> end}}");
    assert_eq!(directory.text("default", Some("de-AT")), "Griaß di. Servus\n");
}

#[test]
fn a_site_has_partials_of_its_own() {
    let directory = Directory::shipped();
    directory
        .write("partials/end.txt.hbs", "Bye")
        .write("sites/north/partials/end.txt.hbs", "Bye from the North")
        .write("sites/north/partials/de/end.txt.hbs", "Tschüss aus dem Norden")
        .write("signed_out/body.txt.hbs", "Hello. {{> end}}")
        .write("signed_out/de/body.txt.hbs", "Hallo. {{> end}}");
    assert_eq!(directory.text("default", None), "Hello. Bye\n");
    assert_eq!(directory.text("north", None), "Hello. Bye from the North\n");
    assert_eq!(directory.text("north", Some("de")), "Hallo. Tschüss aus dem Norden\n");
    assert_eq!(directory.text("south", Some("de")), "Hallo. Bye\n");
}

#[test]
fn what_is_wrong_with_a_sites_partial_is_the_sites_problem() {
    let directory = Directory::shipped();
    directory.write("sites/north/partials/signature.txt.hbs", "{{web_ulr}}");
    let problem = directory.problem();
    assert_eq!((problem.rule, problem.line), (Rule::UnknownPlaceholder, 1));
    assert!(problem.affects.iter().all(|v| v.site.as_deref() == Some("north")), "{:?}", problem.affects);
    assert_eq!(problem.affects.len(), Template::ALL.len());
}

#[test]
fn a_time_is_of_the_language_of_its_file() {
    let directory = Directory::shipped();
    let text = "{{changed_at}} | {{date changed_at}} | {{time changed_at}}";
    directory.write("signed_out/body.txt.hbs", text).write("signed_out/de/body.txt.hbs", text);
    let english = "22 November 2026 at 14:02 (UTC) | 22 November 2026 | 14:02 (UTC)\n";
    assert_eq!(directory.text("default", None), english);
    assert_eq!(
        directory.text("default", Some("de")),
        "22. November 2026, 14:02 Uhr (UTC) | 22. November 2026 | 14:02 Uhr (UTC)\n"
    );
    // Nobody wrote a Dutch one: an English email has English dates.
    assert_eq!(directory.text("default", Some("nl")), english);
    directory.write("signed_out/template.toml", "language = \"fr\"");
    assert!(directory.text("default", None).starts_with("22 novembre 2026 à 14h02 (UTC)"));
}

#[test]
fn a_language_must_be_one() {
    let directory = Directory::shipped();
    directory.write("signed_out/template.toml", "language = \"german\"");
    assert_eq!(directory.problem().rule, Rule::Settings);
}

#[test]
fn a_part_of_a_time_is_of_a_time() {
    for (line, said) in [
        ("{{date user.username}}", "shows a part of a time"),
        ("{{time}}", "unknown placeholder"),
        ("{{date changed_at reason}}", "takes one placeholder"),
        ("{{dat changed_at}}", "did you mean `date`?"),
    ] {
        let directory = Directory::shipped();
        directory.append("signed_out/body.txt.hbs", line);
        let problem = directory.problem().to_string();
        assert!(problem.contains(said), "{line}: {problem}");
    }
}
