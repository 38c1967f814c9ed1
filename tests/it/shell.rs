//! `regrant …` as operators use it.

use serde_json::{Value, json};

use crate::broker::proxy::Proxy;
use crate::harness::{Place, Plan, server};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn checks(report: &Value) -> Vec<(&str, bool)> {
    let lines = report["checks"].as_array().unwrap();
    lines.iter().map(|line| (line["what"].as_str().unwrap(), line["ok"].as_bool().unwrap())).collect()
}

const ALL: [&str; 6] = ["configuration", "keys", "database", "broker", "mail", "templates"];

#[tokio::test(flavor = "multi_thread")]
async fn check_passes_where_all_is_well() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let report = json(&place.shell(&["check", "--json"]).success());
    assert_eq!(report["ok"], true);
    assert_eq!(checks(&report), ALL.map(|what| (what, true)));
    let said = place.shell(&["check"]).success();
    assert_eq!(said.lines().count(), ALL.len(), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong_and_fails() {
    let proxy = Proxy::start("127.0.0.1:1".to_owned()).await;
    proxy.refuse(true);
    let templates = tempfile::tempdir().unwrap();
    let plan = Plan::default()
        .database_address(&proxy.address)
        .smtp_address(&proxy.address)
        .broker_url(crate::harness::by_way_of(&server("AMQP_URL"), &proxy.address))
        .set("templates.directory", templates.path().display());
    let place = plan.prepare().await;
    let checked = place.shell(&["check", "--json"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    let report = json(&checked.out);
    assert_eq!(report["ok"], false);
    let good = |what| matches!(what, "configuration" | "keys");
    assert_eq!(checks(&report), ALL.map(|what| (what, good(what))));
    let checked = place.shell(&["check"]);
    assert_eq!(checked.code, 1);
    assert_eq!(checked.out.lines().filter(|line| line.starts_with("FAIL")).count(), 4, "{}", checked.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_show_hides_secrets_and_says_where_values_come_from() {
    let place = Plan::default().set("mail.smtp.url", "smtp://user:Sup3r-S3cret@127.0.0.1:25").prepare().await;
    let shown = place.shell(&["config", "show"]).success();
    for secret in ["Sup3r-S3cret", "guest:guest"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains(&place.prefix) && shown.contains("REGRANT__MAIL__SMTP__URL"), "{shown}");
    toml::from_str::<toml::Value>(&shown).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_once_and_shown_without_their_secrets() {
    let place = Place::new().await;
    let file = place.home().join("regrant.keys");
    let before = std::fs::read_to_string(&file).unwrap();
    let refused = place.shell(&["keys", "init"]).failure();
    assert!(refused.contains("regrant.keys"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    let shown = place.shell(&["keys", "show"]).success();
    let report = json(&place.shell(&["keys", "show", "--json"]).success());
    let public = report["sealing_key"]["public_key"].as_str().unwrap();
    assert!(shown.contains(public), "{shown}");
    let secrets = before.lines().filter_map(|line| line.strip_prefix("secret = ")).map(|line| line.trim_matches('"'));
    assert!(secrets.clone().count() > 0);
    for secret in secrets {
        assert!(!shown.contains(secret) && !report.to_string().contains(secret));
    }
    let _daemon = place.start().await;
    let info = place.client().await.ok("daemon.info", json!({})).await;
    assert_eq!(info["sealing_key"]["public_key"], public);
}

#[tokio::test(flavor = "multi_thread")]
async fn send_prints_the_reply() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let put = ["send", "user.put", "user.id=ada", "user.username=ada", "user.email=ada@example.com", "--wait"];
    let reply = json(&place.shell(&put).success());
    assert_eq!((&reply["ok"], &reply["result"]["user"]["id"]), (&json!(true), &json!("ada")));

    let get = place.shell(&["send", "user.get", r#"{"user": {"id": "ghost"}}"#, "--wait"]);
    assert_eq!((get.code, &json(&get.out)["error"]["code"]), (1, &json!("user_not_found")));

    // `guest` may speak for `shop`, which may do nothing here.
    let get = place.shell(&["send", "user.get", "user.id=ada", "--wait", "--as", "shop"]);
    assert_eq!((get.code, &json(&get.out)["error"]["code"]), (1, &json!("publisher_not_allowed")));

    let published = place.shell(&["send", "user.block", "user.id=ada", "--message-id", "block-1"]).success();
    assert!(published.contains("block-1"), "{published}");
    let client = place.client().await;
    crate::harness::until_true("the block", async || {
        client.ok("user.get", json!({ "user": { "id": "ada" } })).await["user"]["blocked"] == true
    })
    .await;

    // A password of digits is one.
    let login = place.shell(&["send", "session.login", "user.id=ada", "password=12345678", "--wait"]);
    assert_eq!(json(&login.out)["error"]["code"], "invalid_credentials", "{login:?}");

    // What could not be understood is not sent: it would be a dead letter.
    for (arguments, expected) in [
        (&["users", "search", "--status", "lockd"][..], "locked"),
        (&["users", "search", "--cursor", "x"], "`cursor`"),
        (&["users", "show", ""], "`user.id`"),
        (&["users", "show", "ada", "--actor", ""], "`actor.id`"),
        (&["history", "ada", "--cursor", "x"], "`cursor`"),
        (&["history", "ada", "explain", "--limit", "5"], "--limit"),
    ] {
        let wrong = place.shell(arguments);
        assert!(wrong.code != 0 && wrong.err.contains(expected), "{arguments:?}: {wrong:?}");
    }
    let letters = place.shell(&["dead-letters", "list"]).success();
    assert_eq!(letters, "there are no dead letters\n");

    let wrong = place.shell(&["send", "user.blok", "user.id=ada"]).failure();
    assert!(wrong.contains("did you mean `user.block`"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_an_error_and_a_reader_that_went_away_is_none() {
    let (place, _daemon) = Plan::default().start().await;
    place.client().await.user("ada").await;
    let issue = ["send", "password.temporary.issue", "user.id=ada", "--wait"];
    let publish = ["send", "user.unblock", "user.id=ada"];
    let mut all: Vec<&[&str]> =
        vec![&issue, &publish, &["check"], &["check", "--json"], &["config", "show"], &["keys", "show"]];
    all.extend([
        &["migrate"][..],
        &["templates", "list"],
        &["templates", "check"],
        &["asyncapi"],
        &["completions", "bash"],
    ]);
    all.extend([&["users", "show", "ada"][..], &["emails", "list"], &["dead-letters", "list"], &["status", "--once"]]);
    for arguments in all {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = place.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("cannot write the output: No space left"), "{arguments:?}: {said}");
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = place.command(&["asyncapi"]).stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed_and_checked() {
    let place = Place::new().await;
    let list = place.shell(&["templates", "list"]).success();
    for word in ["password_reset_link", "reset_link", "invite", "verification_code", "user.username"] {
        assert!(list.contains(word), "{list}");
    }
    let french = ["templates", "list", "--template", "invite", "--locale", "fr-CA", "--json"];
    let list = json(&place.shell(&french).success());
    let variants = list["templates"][0]["variants"].as_array().unwrap();
    assert_eq!((variants.len(), &variants[0]["locale"]), (1, &json!("fr")));
    assert_eq!(variants[0]["files"][0]["file"], "invite/fr/subject.hbs");
    let unknown = place.shell(&["templates", "list", "--site", "nowhere"]).failure();
    assert!(unknown.contains("no site `nowhere`; there are: default"), "{unknown}");
    place.shell(&["templates", "check"]).success();
    let report = json(&place.shell(&["templates", "check", "--json"]).success());
    assert_eq!((&report["ok"], &report["problems"]), (&json!(true), &json!([])));

    let place = Plan::default().set("templates.directory", "/nowhere/at/all").prepare().await;
    let unread = place.shell(&["templates", "check", "--json"]);
    assert_eq!((unread.code, &json(&unread.out)["ok"]), (1, &json!(false)));
    assert!(json(&unread.out)["error"].as_str().unwrap().contains("/nowhere/at/all"), "{unread:?}");
    std::fs::write(place.config(), "[templates]\ndirectry = \"x\"\n").unwrap();
    let unread = place.shell(&["templates", "check", "--sarif"]);
    let said = &json(&unread.out)["runs"][0]["invocations"][0];
    assert_eq!((unread.code, &said["executionSuccessful"]), (1, &json!(false)));
    assert!(said.to_string().contains("directry") && unread.err.contains("directry"), "{unread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_on_the_line_is_told_with_where_it_is_found() {
    let place = Place::new().await;
    for (arguments, said) in [
        (&["dead-letters", "drop"][..], "--all"),
        (&["dead-letters", "replay"], "--all"),
        (&["emails", "list", "--cursor", "x"], "the page before"),
        (&["emails", "retry", "nosuch"], "regrant emails list"),
        (&["emails", "retry", "--limit", "0"], "'0' for '--limit"),
        (&["dead-letters", "list", "--limit", "0"], "'0' for '--limit"),
        (&["dead-letters", "drop", "--all", "--limit", "0"], "'0' for '--limit"),
        (&["templates", "list", "--template", "invit"], "did you mean `invite`?"),
    ] {
        let refused = place.shell(arguments);
        assert_eq!(refused.code, 2, "{refused:?}");
        let complaint = refused.err.split("Usage:").next().unwrap();
        assert!(complaint.contains(said), "{complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_template_is_named_with_its_place_and_keeps_the_daemon_from_starting() {
    let directory = crate::harness::shipped_templates();
    let body = directory.path().join("invite/body.txt.hbs");
    let text = std::fs::read_to_string(&body).unwrap();
    std::fs::write(&body, format!("Hello {{{{user.usernme}}}}\n{text}")).unwrap();
    let place = Plan::default().set("templates.directory", directory.path().display()).prepare().await;

    let checked = place.shell(&["templates", "check"]);
    assert_eq!(checked.code, 1);
    let refused = place.shell(&["run"]);
    assert_eq!(refused.code, 1);
    let report = place.shell(&["check"]);
    assert_eq!(report.code, 1);
    for said in [checked.out, format!("{}{}", refused.out, refused.err), report.out] {
        assert!(said.contains("invite/body.txt.hbs:1:"), "{said}");
        assert!(said.contains("user.usernme") && said.contains("user.username"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_changes_nothing() {
    let place = Place::new().await;
    let first = place.shell(&["migrate"]).success();
    assert!(first.contains("applied"), "{first}");
    let second = place.shell(&["migrate"]).success();
    assert!(second.contains("up to date") && !second.contains("applied"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_may_not_migrate_needs_the_schema() {
    let place = Plan::default().set("database.migrate_on_start", false).prepare().await;
    let checked = place.shell(&["check"]);
    assert_eq!(checked.code, 1);
    assert!(checked.out.contains("regrant migrate"), "{}", checked.out);
    for arguments in [["emails", "list"], ["emails", "retry"]] {
        let refused = place.shell(&arguments).failure();
        assert!(refused.contains("regrant migrate"), "{refused}");
    }
    place.shell(&["migrate"]).success();
    place.shell(&["check"]).success();
    place.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_work_is_refused_with_the_way_out() {
    let place = Place::new().await;
    let sound = std::fs::read_to_string(place.config()).unwrap();
    for (change, said) in [
        (
            sound.replace("[publishers.guest]", "[publishers.guest]\nassert_acter = true"),
            vec!["assert_acter", "assert_actor"],
        ),
        (sound.replace("min_interval", "min_intervall"), vec!["min_intervall", "min_interval", "password_reset"]),
        (sound.replace("\"0s\"", "\"soon\""), vec!["min_interval", "soon", "90s"]),
        (sound.split("[publishers.guest]").next().unwrap().to_owned(), vec!["publishers"]),
        (sound.replace("{token}", "token"), vec!["reset_url", "{token}"]),
        (sound.replace("regrant.keys", "missing.keys"), vec!["missing.keys", "keys init"]),
    ] {
        std::fs::write(place.config(), change).unwrap();
        let refused = place.shell(&["run"]).failure();
        for word in said {
            assert!(refused.contains(word), "{word} is not in: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_a_wrong_password_waits_and_says_so() {
    // Somebody may be about to put it right at the server: a daemon that ended would have to be started again by hand.
    let place = Plan::default().broker_url(server("AMQP_URL").replace("guest:guest", "guest:wrong")).prepare().await;
    let daemon = place.launch();
    daemon.wait_until_not_ready("broker").await;
    crate::harness::until_true("a line that names the setting", async || daemon.log().contains("broker.url")).await;
    assert!(!daemon.log().contains("wrong@"));
    assert_eq!(daemon.stop().await, 0);
}
