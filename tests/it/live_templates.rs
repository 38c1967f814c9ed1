//! Templates that change while daemons run: what is good is used by the next mail, what is not never is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Client, Daemon, Place, Plan, a_moment, copy, mail_to, shipped_templates, until_true};

const SUBJECT: &str = "password_reset_link/subject.hbs";
const TEXT: &str = "password_reset_link/body.txt.hbs";

struct Live {
    place: Place,
    client: Client,
    asked: AtomicUsize,
}

impl Live {
    async fn start(directory: &Path) -> (Self, Daemon) {
        Self::with(Plan::default().set("templates.directory", directory.display())).await
    }

    async fn with(plan: Plan) -> (Self, Daemon) {
        let (place, daemon) = plan.start().await;
        let client = place.client().await;
        (Self { place, client, asked: AtomicUsize::new(0) }, daemon)
    }

    /// The subject of a mail that is written now.
    async fn subject(&self) -> String {
        let id = format!("u{}", self.asked.fetch_add(1, Ordering::Relaxed));
        self.client.user(&id).await;
        self.client.ok("password.reset.request", json!({ "user": { "id": id } })).await;
        mail_to(&self.place.mail, &format!("{id}@example.com"), 1).await.header("subject")
    }

    async fn until_subject(&self, expected: &str) {
        until_true(&format!("a mail with the subject `{expected}`"), async || self.subject().await == expected).await;
    }
}

/// Whether the email that everybody gets is good, by the daemon's metric.
async fn valid(daemon: &Daemon) -> bool {
    daemon.metric("regrant_template_valid", &["password_reset_link", "site=\"default\"", "locale=\"default\""]).await
        == 1
}

/// As most editors save: a file beside it, renamed over it.
fn save(directory: &Path, file: &str, text: &str) {
    let beside = directory.join(file).with_file_name(".being-saved");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, directory.join(file)).unwrap();
}

/// Points a link to another directory in one step, as deployments do.
fn swap(link: &Path, to: &Path) {
    let beside: PathBuf = link.with_file_name("..being-linked");
    symlink(to, &beside).unwrap();
    std::fs::rename(beside, link).unwrap();
}

#[tokio::test]
async fn a_template_that_breaks_is_told_and_the_last_good_version_stays_until_it_is_mended() {
    let directory = shipped_templates();
    save(directory.path(), SUBJECT, "good");
    let (live, daemon) = Live::start(directory.path()).await;
    let events = live.client.events("template.invalid").await;
    let good = std::fs::read_to_string(directory.path().join(TEXT)).unwrap();
    save(directory.path(), SUBJECT, "half of a change");
    std::fs::write(directory.path().join(TEXT), good.replace("reset_link", "reset_lnk")).unwrap();

    let told = events.up_to("template.invalid").await;
    let data = &told[0].body["data"];
    assert_eq!(data["template"], "password_reset_link");
    let errors = data["errors"].as_array().unwrap();
    assert!(errors[0].as_str().unwrap().contains("password_reset_link/body.txt.hbs"), "{errors:?}");
    assert!(!valid(&daemon).await);
    let log = daemon.log();
    assert!(log.contains("unknown placeholder `reset_lnk`") && log.contains("did you mean `reset_link`"), "{log}");
    assert_eq!(live.subject().await, "good", "the email as a whole stays what it was");
    assert_eq!(daemon.troubles().await, ["templates"]);

    save(directory.path(), TEXT, &good);
    live.until_subject("half of a change").await;
    assert!(valid(&daemon).await && daemon.troubles().await.is_empty());
}

#[tokio::test]
async fn a_fault_that_no_email_has_is_told_and_a_note_for_people_is_only_mentioned() {
    let directory = shipped_templates();
    std::fs::write(directory.path().join("before.txt"), "x").unwrap();
    let (live, daemon) = Live::start(directory.path()).await;
    let events = live.client.events("template.invalid").await;
    let sound = async || daemon.metric("regrant_template_valid", &["template=\"unknown\""]).await == 1;
    assert!(sound().await && daemon.troubles().await.is_empty());
    std::fs::write(directory.path().join("notes.txt"), "x").unwrap();
    until_true("the note to be mentioned", async || daemon.log().contains("notes.txt: nothing uses this file")).await;
    save(directory.path(), SUBJECT, "beside notes");
    live.until_subject("beside notes").await;
    assert!(sound().await && daemon.troubles().await.is_empty());
    let log = daemon.log();
    assert_eq!((log.matches(" before.txt").count(), log.matches(" notes.txt").count()), (1, 1), "{log}");

    let misspelt = directory.path().join("invites");
    std::fs::create_dir(&misspelt).unwrap();
    let told = events.next().await.body;
    assert_eq!((&told["subject"], &told["data"]["template"]), (&json!("unknown"), &json!("unknown")));
    assert!(told["data"]["errors"][0].as_str().unwrap().contains("did you mean `invite`"), "{told}");
    assert!(!sound().await && valid(&daemon).await);
    let (_, page) = daemon.get("/readyz").await;
    assert!(page.contains("did you mean `invite`"), "{page}");
    let log = daemon.log();
    assert!(log.contains("no email has") && !log.contains("stays in use: invites"), "{log}");
    std::fs::remove_dir(&misspelt).unwrap();
    until_true("all to be good", async || daemon.troubles().await.is_empty()).await;
    assert!(sound().await);
}

#[tokio::test]
async fn what_is_saved_while_a_daemon_waits_for_its_database_is_used_when_it_runs() {
    let directory = shipped_templates();
    save(directory.path(), SUBJECT, "before");
    let (live, daemon) = Live::start(directory.path()).await;
    assert_eq!(daemon.stop().await, 0);
    let name: String = live.place.value("select current_database()::text").await;
    live.place.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    let mut daemon = live.place.launch();
    // Templates are read before anybody can ask.
    daemon.wait_until_not_ready("database").await;
    save(directory.path(), SUBJECT, "meanwhile");
    live.place.run(&format!("alter database {name} set default_transaction_read_only = off")).await;
    daemon.wait_until_ready().await;
    live.until_subject("meanwhile").await;
}

#[tokio::test]
async fn a_configuration_is_taken_over_while_a_daemon_waits_for_its_database() {
    let place = Place::new().await;
    let name: String = place.value("select current_database()::text").await;
    place.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    let daemon = place.launch();
    daemon.wait_until_not_ready("database").await;
    let logged = async |line: &str| until_true(line, async || daemon.log().contains(line)).await;
    let sound = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), sound.replace("min_interval", "min_intervall")).unwrap();
    daemon.signal("HUP");
    logged("the configuration was not reloaded").await;
    std::fs::write(place.config(), sound).unwrap();
    daemon.signal("HUP");
    logged("the configuration was reloaded").await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn however_it_is_saved_every_daemon_uses_it() {
    let directory = shipped_templates();
    let (live, first) = Live::start(directory.path()).await;
    let second = live.place.start().await;
    for number in 0..3 {
        let text = format!("saved {number}");
        match number {
            0 => std::fs::write(directory.path().join(SUBJECT), &text).unwrap(),
            1 => save(directory.path(), SUBJECT, &text),
            // vim with `backupcopy=no` moves the old file away before it writes the new one.
            _ => {
                let file = directory.path().join(SUBJECT);
                std::fs::rename(&file, file.with_extension("hbs~")).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
        }
        live.until_subject(&text).await;
    }
    // Which daemon takes a mail is chance: each says in its log that it has read all three.
    for daemon in [&first, &second] {
        until_true("all changes", async || daemon.log().matches("read again").count() >= 3).await;
        assert!(valid(daemon).await);
    }
    for _ in 0..6 {
        assert_eq!(live.subject().await, "saved 2");
    }
}

#[tokio::test]
async fn what_editors_leave_beside_a_template_is_nobodys_business() {
    let directory = shipped_templates();
    let (live, daemon) = Live::start(directory.path()).await;
    let home = directory.path().join("password_reset_link");
    for name in [".subject.hbs.swp", "subject.hbs~", "#subject.hbs#", "4913", ".goutputstream-X", "subject.hbs.orig"] {
        std::fs::write(home.join(name), "{{#if").unwrap();
    }
    // The lock of Emacs: a link to nowhere.
    symlink("somebody@host.1234", home.join(".#subject.hbs")).unwrap();
    save(directory.path(), SUBJECT, "beside it");
    live.until_subject("beside it").await;
    assert!(valid(&daemon).await);
    let log = daemon.log();
    assert!(!log.contains("templates with faults"), "{log}");
}

#[tokio::test]
async fn a_deleted_override_falls_back_and_a_deleted_template_keeps_its_last_good_version() {
    let directory = shipped_templates();
    save(directory.path(), SUBJECT, "for everybody");
    std::fs::create_dir_all(directory.path().join("sites/default/password_reset_link")).unwrap();
    let own = directory.path().join("sites/default").join(SUBJECT);
    std::fs::write(&own, "for the site").unwrap();
    let (live, daemon) = Live::start(directory.path()).await;
    assert_eq!(live.subject().await, "for the site");
    std::fs::remove_file(own).unwrap();
    live.until_subject("for everybody").await;
    assert!(valid(&daemon).await);

    std::fs::remove_file(directory.path().join(SUBJECT)).unwrap();
    until_true("the missing file", async || !valid(&daemon).await).await;
    assert_eq!(live.subject().await, "for everybody");
    save(directory.path(), SUBJECT, "back again");
    live.until_subject("back again").await;
    assert!(valid(&daemon).await);
}

#[tokio::test]
async fn a_directory_may_be_swapped_by_a_link_and_come_back_after_it_was_gone() {
    let home = tempfile::tempdir().unwrap();
    let version = |name: &str| {
        let path = home.path().join(name);
        copy(shipped_templates().path(), &path);
        save(&path, SUBJECT, name);
        path
    };
    let (first, second) = (version("one"), version("two"));
    let link = home.path().join("current");
    symlink(&first, &link).unwrap();
    let (live, daemon) = Live::start(&link).await;
    let events = live.client.events("template.invalid").await;
    assert_eq!(live.subject().await, "one");
    swap(&link, &second);
    live.until_subject("two").await;

    std::fs::remove_file(&link).unwrap();
    until_true("the loss", async || !valid(&daemon).await).await;
    assert_eq!(live.subject().await, "two");
    let told = events.next().await.body;
    assert!(told["data"]["errors"][0].as_str().unwrap().contains("current"), "{told}");
    symlink(&first, &link).unwrap();
    live.until_subject("one").await;
    assert!(valid(&daemon).await);
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    // As Kubernetes does it: what is seen are links through `..data`, which is swapped.
    let home: TempDir = tempfile::tempdir().unwrap();
    let version = |name: &str| {
        let path = home.path().join(name);
        copy(shipped_templates().path(), &path);
        save(&path, SUBJECT, name);
    };
    version("..2026_01");
    symlink("..2026_01", home.path().join("..data")).unwrap();
    for entry in std::fs::read_dir(home.path().join("..2026_01")).unwrap() {
        let name = entry.unwrap().file_name();
        symlink(Path::new("..data").join(&name), home.path().join(&name)).unwrap();
    }
    let (live, _daemon) = Live::start(home.path()).await;
    assert_eq!(live.subject().await, "..2026_01");
    version("..2026_02");
    swap(&home.path().join("..data"), Path::new("..2026_02"));
    std::fs::remove_dir_all(home.path().join("..2026_01")).unwrap();
    live.until_subject("..2026_02").await;
}

#[tokio::test]
async fn without_the_watch_a_signal_does_it() {
    let directory = shipped_templates();
    save(directory.path(), SUBJECT, "before");
    let plan = Plan::default().set("templates.directory", directory.path().display()).set("templates.watch", false);
    let (live, daemon) = Live::with(plan).await;
    save(directory.path(), SUBJECT, "after");
    a_moment().await;
    assert_eq!(live.subject().await, "before");
    daemon.signal("HUP");
    live.until_subject("after").await;
    let says = async |templates: &str| {
        let wanted = format!("the configuration was reloaded templates=\"{templates}");
        until_true(&wanted, async || daemon.log().contains(&wanted)).await;
    };
    says("all\"").await;

    save(directory.path(), SUBJECT, "{{nobody}}");
    daemon.signal("HUP");
    until_true("the fault", async || !valid(&daemon).await).await;
    assert_eq!(live.subject().await, "after");
    says("those without faults").await;
    let away = directory.path().with_extension("away");
    std::fs::rename(directory.path(), &away).unwrap();
    daemon.signal("HUP");
    says("none, the last good ones stay").await;
    std::fs::rename(&away, directory.path()).unwrap();
    save(directory.path(), SUBJECT, "mended");
    daemon.signal("HUP");
    live.until_subject("mended").await;
    assert!(valid(&daemon).await);
}
