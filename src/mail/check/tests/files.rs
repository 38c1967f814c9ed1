//! Files: which there must be, which mean nothing, which cannot be read.

use std::path::Path;

use super::Directory;
use crate::mail::catalogue::Template;
use crate::mail::locate::{Part, ReadError, Sources, Variant};
use crate::mail::problem::Rule;
use crate::mail::render::{Loaded, TemplateSet};

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
        ("invite/de/body.htm.hbs", Rule::UnknownFile, "did you mean `body.html.hbs`?"),
        ("invite/fr/Subject.hbs", Rule::UnknownFile, "did you mean `subject.hbs`?"),
        ("invite/fr/sub/subject.hbs", Rule::UnknownFile, "no meaning"),
        ("invitation/subject.hbs", Rule::UnknownTemplate, "`invitation`"),
        ("invites/subject.hbs", Rule::UnknownTemplate, "did you mean `invite`?"),
        ("Sites/north/invite/subject.hbs", Rule::UnknownTemplate, "did you mean `sites`?"),
        ("invite/body.html - Copy.hbs", Rule::UnknownFile, "remove it: `body.html.hbs` is there"),
        ("invite/fr/body.html - Copy.hbs", Rule::UnknownFile, "did you mean `body.html.hbs`?"),
        ("invite/fr_CA/subject.hbs", Rule::UnknownLocale, "did you mean `fr-CA`?"),
        ("invite/english/subject.hbs", Rule::UnknownLocale, "not a language tag"),
        ("sites/nort/invite/subject.hbs", Rule::UnknownSite, "did you mean `north`?"),
        ("sites/north/invites/subject.hbs", Rule::UnknownTemplate, "did you mean `invite`?"),
        ("sites/north/subject.hbs", Rule::UnknownFile, "nothing uses"),
        ("sites/subject.hbs", Rule::UnknownFile, "nothing uses"),
        ("body.html", Rule::UnknownFile, "nothing uses"),
        ("invite/Subject.txt", Rule::UnknownFile, "nothing uses"),
        ("invite/subject.hbs.txt", Rule::UnknownFile, "nothing uses"),
        ("invite/templat.tml", Rule::UnknownFile, "remove it: `template.toml` is there"),
        ("partials/layout.html", Rule::UnknownFile, "NAME.html.hbs"),
        ("partials/fr/footer.txt", Rule::UnknownFile, "NAME.txt.hbs"),
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
fn what_nobody_wrote_for_an_email_is_mentioned_and_no_fault() {
    let directory = Directory::shipped();
    let files = ["invite/notes.txt", "notes.txt", "partials/logo.png", "sites/LICENSE", "sites/north/todo.md"];
    for file in files {
        directory.write(file, "x");
    }
    let loaded = directory.read();
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let mut strays: Vec<_> = loaded.warnings.iter().map(|stray| stray.file.to_str().unwrap()).collect();
    strays.sort_unstable();
    assert_eq!(strays, files);
    assert!(TemplateSet::load(directory.path(), &["default", "north", "south"]).is_ok());
    let said = crate::mail::report::check(directory.path(), &loaded);
    assert!(said.contains("all templates are good") && said.contains("warning: notes.txt: nothing uses"), "{said}");
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
        "partials/layout.html.hbs.dpkg-old",
        "invite/subject.hbs.dpkg-dist",
        "invite/subject.hbs.dpkg-new",
        "invite/subject.hbs.dpkg-tmp",
        "invite/template.toml.ucf-dist",
        "invite/subject.hbs.rpmnew",
        "sites/north/invite/fr/subject.hbs.rpmsave",
        "invite/subject.hbs.orig",
        "invite/subject.hbs.rej",
        "invite/subject.hbs.save",
        "..data/invite/subject.hbs",
    ] {
        directory.write(file, "{{");
    }
    assert!(directory.problems().is_empty(), "{:#?}", directory.problems());
}

/// A directory that is named like a backup may be a site's: nothing in it is passed over.
#[test]
fn endings_of_backups_are_passed_over_with_files_only() {
    let directory = Directory::shipped();
    for site in ["shop.new", "shop.save", "shop.old"] {
        directory.write(&format!("sites/{site}/invite/subject.hbs"), "Welcome to {{site.nme}}");
        let read = Loaded::read(directory.path(), &["default", "north", "south", site]).unwrap();
        let [problem] = read.problems.as_slice() else { panic!("{:#?}", read.problems) };
        assert_eq!(problem.file.to_str(), Some(&*format!("sites/{site}/invite/subject.hbs")));
        std::fs::remove_dir_all(directory.path().join("sites").join(site)).unwrap();
    }
    let problem = Directory::shipped().write("invite.bak/subject.hbs", "hello").problem();
    assert_eq!((problem.rule, problem.file.to_str()), (Rule::UnknownTemplate, Some("invite.bak")));
}

/// Whoever may edit templates may not read all that the daemon may, and what stands in a template is mailed.
#[test]
fn nothing_is_read_from_outside_of_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("body.txt.hbs"), "the keys").unwrap();
    let file = outside.path().join("body.txt.hbs");
    let up = Path::new("../..").join(outside.path().file_name().unwrap()).join("body.txt.hbs");
    for (at, target, affected) in [
        ("password_changed/body.txt.hbs", file.as_path(), 1),
        ("partials/keys.txt.hbs", &file, 0),
        ("invite/nl", outside.path(), 0),
        ("sites/north", outside.path(), 0),
        ("invite/subject.hbs", &up, 1),
    ] {
        let directory = Directory::shipped();
        let problem = directory.link(at, target).problem();
        assert_eq!((problem.rule, problem.file.to_str()), (Rule::Unreadable, Some(at)));
        assert!(problem.message.contains("leads out of the templates directory"), "{problem}");
        assert!(problem.help.is_some());
        assert_eq!(problem.affects.len(), affected, "{problem}");
    }
}

/// A volume of Kubernetes: each entry leads to `..data`, which leads to the directory of the day.
#[test]
fn links_within_the_directory_are_followed() {
    let directory = Directory::shipped();
    let (root, day) = (directory.path(), directory.path().join("..2026_11_23"));
    std::fs::create_dir(&day).unwrap();
    directory.link("..data", Path::new("..2026_11_23"));
    for name in ["invite", "partials"] {
        std::fs::rename(root.join(name), day.join(name)).unwrap();
        directory.link(name, &Path::new("..data").join(name));
    }
    assert!(directory.problems().is_empty(), "{:#?}", directory.problems());
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("templates");
    std::os::unix::fs::symlink(root, &link).unwrap();
    let read = Loaded::read(&link, &["north"]).unwrap();
    assert!(read.problems.is_empty(), "{:#?}", read.problems);
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

    // As Windows writes it, and as Macs once did.
    for ends in ["\r\n", "\r"] {
        let directory = Directory::shipped();
        directory.write("invite/subject.hbs", format!("\u{feff}{{{{! two lines }}}}{ends}Welcome{ends}"));
        let body = std::fs::read_to_string(directory.path().join("invite/body.txt.hbs")).unwrap();
        directory.write("invite/body.txt.hbs", body.replace('\n', ends));
        assert!(directory.problems().is_empty(), "{:#?}", directory.problems());
        let lines = Sources::read(directory.path(), &[]).unwrap();
        let variant = Variant { template: Template::Invite, site: None, locale: None };
        let file = lines.locate(&variant, Part::Text).unwrap();
        assert_eq!(lines.file(file).text, body);
    }

    // The braces of UTF-16 are not those that are looked for: the template itself would be mailed.
    let utf16: Vec<u8> = "Your password\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, line, said) in [
        (utf16.as_slice(), 0, "UTF-16"),
        (b"ok\nHello\x07", 2, "U+0007"),
        (b"Hello\x1b[31m", 1, "U+001B"),
        ("Hello\u{85}".as_bytes(), 1, "U+0085"),
    ] {
        let directory = Directory::shipped();
        let problem = directory.write("password_changed/body.txt.hbs", text).problem();
        assert_eq!((problem.rule, problem.line), (Rule::Unreadable, line), "{problem}");
        assert!(problem.message.contains(said), "{problem}");
    }
    let directory = Directory::shipped();
    assert!(directory.write("invite/subject.hbs", "Hello\tthere").problems().is_empty());

    let missing = Loaded::read(Path::new("/nowhere/at/all"), &[]).unwrap_err();
    assert!(matches!(missing, ReadError::Io { .. }));
    let said = TemplateSet::load(Path::new("/nowhere/at/all"), &[]).unwrap_err().to_string();
    assert!(said.contains("/nowhere/at/all") && said.contains("templates.directory"), "{said}");
}
