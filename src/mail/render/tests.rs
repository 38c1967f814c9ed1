//! Every email with its sample, overrides, and hostile values.

use chrono::TimeDelta;
use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::mail::check::tests::{Directory, compile};
use crate::mail::context::{self, Facts, Person, SAMPLE_SITE, Secrets};
use crate::mail::listing::Listing;

fn shipped_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates")
}

fn shipped() -> TemplateSet {
    TemplateSet::load(&shipped_directory(), &["default"]).unwrap()
}

/// The values of an email to a person, with what is optional or without.
fn values(template: Template, person: &Person<'_>, everything: bool) -> Context {
    let now = crate::clock::now();
    let soon = everything.then(|| now + TimeDelta::hours(24));
    let facts = Facts {
        requested_at: everything.then_some(now),
        expires_at: soon,
        request_ip: everything.then(|| [203, 0, 113, 24].into()),
        changed_at: everything.then_some(now),
        locked_until: soon,
        ..Facts::default()
    };
    let own = template.secret().and_then(|name| template.placeholder(name));
    let own = own.map(|p| SecretString::from(p.sample));
    let cancel = everything.then(|| SecretString::from("https://app.example.com/no?token=cancel"));
    let secrets = Secrets { link: own.clone(), code: own, cancel_link: cancel };
    context::context(template, &SAMPLE_SITE, person, &facts, &secrets, "KXVD-TRMQ", now)
}

const LEA: Person<'static> = Person { username: "lea", display_name: Some("Léa Ørsted"), email: "lea@example.com" };

#[test]
fn every_email_says_who_it_is_for_and_shows_what_it_must() {
    let set = shipped();
    for template in Template::ALL {
        for context in [context::sample(template), values(template, &LEA, true), values(template, &LEA, false)] {
            let mail = set.render(template, "default", None, &context).unwrap();
            let get = |name: &str| context.get(name).unwrap();
            for body in [&mail.text, &mail.html] {
                for name in template.required().iter().chain(&["user.username", "support_email", "email_reference"]) {
                    assert!(body.contains(&get(name)), "{template}: {name}");
                }
                assert!(!body.contains("{{") && !body.contains("}}<"), "{template}: {body}");
            }
            assert!(mail.html.starts_with("<!doctype html>\n<html lang=\"en\""), "{}", mail.html);
            assert!(mail.html.len() < 60_000, "{template} would be clipped");
            assert!(!mail.html.contains("<img") && !mail.html.contains("url("), "{template}");
            assert!(!mail.text.contains("()") && !mail.text.contains(" ."), "{}", mail.text);
            assert!(!mail.text.contains("\n\n\n") && mail.text.ends_with('\n'));
            assert!(mail.subject.contains("Example") && !mail.subject.contains('\n'));
        }
    }
}

#[test]
fn the_link_stands_alone_and_before_the_one_to_cancel() {
    let set = shipped();
    for template in Template::ALL {
        let Some(name) = template.secret() else { continue };
        let context = values(template, &LEA, true);
        let mail = set.render(template, "default", None, &context).unwrap();
        let secret = context.get(name).unwrap();
        let line = mail.text.lines().position(|line| line == secret);
        let cancel = mail.text.lines().position(|line| line.ends_with("token=cancel"));
        assert!(line.is_some(), "{template}: {}", mail.text);
        assert!(cancel.is_none_or(|cancel| Some(cancel) > line), "{template}: {}", mail.text);
    }
}

#[test]
fn a_code_is_the_only_long_number() {
    let set = shipped();
    for template in [Template::PasswordResetCode, Template::EmailVerificationCode] {
        let mail = set.render(template, "default", None, &values(template, &LEA, true)).unwrap();
        let numbers = mail.text.split(|c: char| !c.is_ascii_digit()).filter(|n| n.len() >= 6);
        assert_eq!(numbers.collect::<Vec<_>>(), ["48201736"], "{}", mail.text);
    }
}

#[test]
fn a_missing_link_fails_and_names_the_place() {
    let (template, facts, none) = (Template::PasswordResetLink, Facts::default(), Secrets::default());
    let context = context::context(template, &SAMPLE_SITE, &LEA, &facts, &none, "KXVD-TRMQ", crate::clock::now());
    let error = shipped().render(template, "default", None, &context).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("`reset_link` has no value (password_reset_link/body."), "{said}");
    assert!(!said.contains("lea"), "{said}");
}

#[test]
fn debug_shows_no_text() {
    let set = shipped();
    let context = context::sample(Template::PasswordResetLink);
    let mail = set.render(Template::PasswordResetLink, "default", None, &context).unwrap();
    let shown = format!("{mail:?}");
    assert!(!shown.contains("token") && shown.contains("html_length"), "{shown}");
}

#[test]
fn the_most_specific_file_is_used_file_by_file() {
    let directory = Directory::shipped();
    let subject = |path: &str, text: &str| {
        directory.write(&format!("{path}/subject.hbs"), text);
    };
    subject("invite/fr", "fr");
    subject("invite/fr-CA", "fr-CA");
    subject("sites/north/invite", "north");
    subject("sites/north/invite/de", "north de");
    subject("sites/north/invite/fr-CA", "north fr-CA");
    directory.write("sites/north/invite/template.toml", "enabled = false");
    let text = "{{invite_link}} {{user.username}} {{web_url}}";
    directory.write("invite/fr/body.txt.hbs", format!("bonjour {text}"));
    directory.write("sites/south/invite/body.txt.hbs", format!("south {text}"));
    let loaded = directory.read();
    let set = &loaded.set;
    let context = context::sample(Template::Invite);
    for (site, locale, subject, text) in [
        ("default", None, "You are invited to Example", "Hello"),
        ("default", Some("es"), "You are invited to Example", "Hello"),
        ("default", Some("no tag"), "You are invited to Example", "Hello"),
        ("default", Some("FR"), "fr", "bonjour"),
        ("default", Some("fr-be"), "fr", "bonjour"),
        ("default", Some("fr-ca"), "fr-CA", "bonjour"),
        ("north", None, "north", "Hello"),
        ("north", Some("fr"), "north", "bonjour"),
        ("north", Some("fr-CA"), "north fr-CA", "bonjour"),
        ("north", Some("de-AT"), "north de", "Hello"),
        ("south", Some("fr-CA"), "fr-CA", "south"),
        ("unheard-of", Some("fr"), "fr", "bonjour"),
    ] {
        let mail = set.render(Template::Invite, site, locale, &context).unwrap();
        assert_eq!(mail.subject, subject, "{site} {locale:?}");
        assert!(mail.text.starts_with(text), "{site} {locale:?}: {}", mail.text);
        assert_eq!(set.enabled(Template::Invite, site, locale), site != "north");
    }
    assert!(!set.enabled(Template::SignedOut, "default", None));
    let list = Listing::new(Path::new("t"), &loaded, Some(Template::Invite), None).to_string();
    let north = "  files for site north, fr-CA (switched off)\n    \
                 subject   sites/north/invite/fr-CA/subject.hbs\n    \
                 text      invite/fr/body.txt.hbs\n";
    assert!(list.contains(north), "{list}");
    assert!(list.contains("    settings  sites/north/invite/template.toml\n"), "{list}");
}

#[test]
fn the_last_good_version_stays_until_the_fault_is_mended() {
    let directory = Directory::shipped();
    directory.write("invite/fr/subject.hbs", "fr");
    let good = directory.read().set;
    directory.replace("password_reset_link/body.html.hbs", "{{reset_link}}", "{{reset_lnk}}");
    directory.write("invite/subject.hbs", "new");
    let Loaded { mut set, problems, .. } = directory.read();
    assert_eq!(problems.len(), 2, "the name twice, in one line: {problems:#?}");
    let broken = Variant { template: Template::PasswordResetLink, site: None, locale: None };
    let invalid: Vec<_> = set.variants().into_iter().filter(|(_, valid)| !valid).collect();
    assert_eq!(invalid, [(broken.clone(), false)]);
    let context = context::sample(Template::PasswordResetLink);
    let render = |set: &TemplateSet| set.render(Template::PasswordResetLink, "default", None, &context);
    assert_eq!(render(&set), Err(RenderError::Invalid { variant: broken }));

    set.keep_last_good(&good);
    assert_eq!(render(&set), render(&good));
    let invite = context::sample(Template::Invite);
    assert_eq!(set.render(Template::Invite, "default", None, &invite).unwrap().subject, "new");
}

#[test]
fn new_files_with_faults_leave_a_site_and_a_language_what_they_had() {
    let directory = Directory::shipped();
    let good = directory.read().set;
    directory.write("invite/nl/subject.hbs", "{{nme}}");
    directory.write("sites/north/invite/body.txt.hbs", "{{nme}}");
    let Loaded { mut set, problems, .. } = directory.read();
    assert!(problems.len() >= 2, "{problems:#?}");
    let invite = context::sample(Template::Invite);
    let render = |set: &TemplateSet, site, locale| set.render(Template::Invite, site, Some(locale), &invite);
    let places = [("default", "nl"), ("north", "en"), ("north", "de"), ("north", "nl")];
    for (site, locale) in places {
        assert!(matches!(render(&set, site, locale), Err(RenderError::Invalid { .. })), "{site} {locale}");
    }
    set.keep_last_good(&good);
    for (site, locale) in places {
        assert_eq!(render(&set, site, locale), render(&good, site, locale), "{site} {locale}");
        assert!(render(&set, site, locale).is_ok());
    }
}

#[test]
fn hostile_names_do_no_harm() {
    let set = shipped();
    for name in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "x\r\nBcc: all@example.com\r\n\r\nhttp://evil.example/now",
        "{{reset_link}}",
        "\u{202e}gnol\u{2066}",
        &"A".repeat(2_000_000),
    ] {
        let person = Person { display_name: Some(name), username: "lea", email: "lea@example.com" };
        for template in Template::ALL {
            let mail = set.render(template, "default", None, &values(template, &person, true)).unwrap();
            assert!(!mail.html.contains("<script>") && !mail.html.contains("<img"), "{template}");
            let together = format!("{}{}{}", mail.subject, mail.text, mail.html);
            assert!(!together.contains("http://evil") && together.len() < 80_000, "{template}");
            assert!(!together.contains(['\r', '\u{202e}', '\u{2066}']), "{template}");
            assert!(!mail.text.contains("\nBcc:") && !mail.subject.contains('\n'));
        }
    }
}

#[test]
fn a_subject_is_cut_to_what_a_header_takes() {
    let directory = Directory::shipped();
    directory.write("invite/subject.hbs", "{{user.email}} {{user.display_name}}");
    let (name, email) = ("n".repeat(500), "e".repeat(500));
    let person = Person { username: "ada", display_name: Some(&name), email: &email };
    let context = values(Template::Invite, &person, true);
    let mail = directory.read().set.render(Template::Invite, "default", None, &context).unwrap();
    assert_eq!(mail.subject.chars().count(), 255);
    assert!(mail.subject.ends_with('…'));
}

/// The same values for Handlebars' own renderer.
fn as_json(template: Template, context: &Context) -> serde_json::Value {
    let mut json = serde_json::json!({});
    for placeholder in template.placeholders() {
        let (name, value) = (placeholder.name, context.value(placeholder).unwrap());
        let pointer = format!("/{}", name.replace('.', "/"));
        if let Some((group, _)) = name.split_once('.')
            && json.get(group).is_none()
        {
            json[group] = serde_json::json!({});
        }
        let value = match value {
            Value::Absent => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            _ => context.get(name).unwrap().into(),
        };
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[last] = value;
    }
    json
}

/// What Handlebars itself makes of a template.
fn with_handlebars(directory: &Path, source: &str, json: &serde_json::Value, ending: &str) -> String {
    let mut handlebars = handlebars::Handlebars::new();
    handlebars.set_strict_mode(true);
    handlebars.set_prevent_indent(true);
    if ending == ".html.hbs" {
        handlebars.register_escape_fn(|text| {
            let mut out = String::new();
            escape_html(text, &mut out);
            out
        });
    } else {
        handlebars.register_escape_fn(handlebars::no_escape);
    }
    for entry in std::fs::read_dir(directory.join("partials")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(name) = name.strip_suffix(ending) {
            handlebars.register_partial(name, std::fs::read_to_string(&path).unwrap()).unwrap();
        }
    }
    handlebars.render_template(source, json).unwrap()
}

#[test]
fn it_comes_out_as_handlebars_would_have_it() {
    let (directory, set) = (shipped_directory(), shipped());
    for template in Template::ALL {
        for context in [context::sample(template), values(template, &LEA, true), values(template, &LEA, false)] {
            let mail = set.render(template, "default", None, &context).unwrap();
            let json = as_json(template, &context);
            let own = |part: Part| {
                let file = directory.join(template.as_str()).join(part.file_name());
                let ending = if part == Part::Html { ".html.hbs" } else { ".txt.hbs" };
                with_handlebars(&directory, &std::fs::read_to_string(file).unwrap(), &json, ending)
            };
            assert_eq!(mail.html, own(Part::Html), "{template}");
            assert_eq!(mail.text, clean::tidy(&own(Part::Text)), "{template}");
            assert_eq!(mail.subject, own(Part::Subject).trim(), "{template}");
        }
    }
}

/// Templates in which tags close, as Handlebars and the check must agree on.
fn well_formed() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "{{user.username}}",
        "{{ web_url }}",
        "{{request_ip}}",
        "{{~reset_link~}}",
        "{{cancel_link}}",
        "{{expires_in}}",
        "{{! no }}",
        "{{!-- no --}}",
        "text",
        " ",
        "\n",
        "\n  ",
        "<b>",
        "é",
        "{",
        "}",
        "{{@root.web_url}}",
        "{{this.web_url}}",
        "{{> not_me}}",
        "{{> requested}}",
        "\\{{escaped}}",
        "{{> detail label=\"<a>\" value=web_url}}",
        "{{> detail label='&' value=request_ip}}",
    ]);
    let block = prop::sample::select(vec![
        ("{{#if request_ip}}", "{{/if}}"),
        ("{{~#if cancel_link~}}", "{{~/if~}}"),
        ("{{#if request_ip}}a{{else if cancel_link}}", "{{else}}b{{/if}}"),
        ("{{#if (not (eq web_url \"x\"))}}", "{{/if}}"),
        ("{{#if (or requested_by_support (and cancel_link request_ip))}}x{{else}}", "{{/if}}"),
        ("{{#if (ne web_url app_name)}}", "{{/if}}"),
        ("{{#unless request_ip}}", "{{else}}c{{/unless}}"),
        ("\n{{#unless reset_link}}\n", "\n{{/unless}}\n"),
        ("{{#with @root.user}}{{username}}{{/with}}", ""),
        ("{{#with @root.user as |u|}}{{u.email}}{{@root.user.email}}", "{{/with}}"),
        ("{{#> paragraph}}", "{{/paragraph}}"),
        ("{{#> aside title=user.username}}{{title}}", "{{/aside}}"),
        ("\n  {{#> details}}\n", "\n{{/details}}\n"),
    ]);
    // Inside `{{#with}}`, names would have to start elsewhere: those that do not are refused.
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 4, move |inner| {
        (block.clone(), prop::collection::vec(inner, 0..4))
            .prop_map(|((open, close), inner)| format!("{open}{}{close}", inner.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// What passes the check is rendered as Handlebars would render it.
    #[test]
    fn what_passes_comes_out_as_handlebars_would_have_it(
        parts in prop::collection::vec(well_formed(), 1..4),
        everything: bool,
    ) {
        let source = parts.concat();
        let Ok(pieces) = compile(&source) else { return Ok(()) };
        let context = values(Template::PasswordResetLink, &LEA, everything);
        let mut html = String::new();
        let json = as_json(Template::PasswordResetLink, &context);
        let own = with_handlebars(&shipped_directory(), &source, &json, ".html.hbs");
        prop_assert!(write(&pieces, Language::English, &context, escape_html, &mut html).is_ok());
        prop_assert_eq!(html, own, "{}", source);
    }
}
