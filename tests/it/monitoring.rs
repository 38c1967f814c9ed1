//! The dashboard, the alerts and the runbook, against a real Prometheus that scraped daemons at real work.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{
    Client, Command, Daemon, NEW_PASSWORD, PASSWORD, Place, Plan, Prometheus, mail_to, until_true, within,
};
use crate::smtp_server::Step;

const DASHBOARD: &str = include_str!("../../monitoring/dashboard.json");
const ALERTS: &str = include_str!("../../monitoring/alerts.yml");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().unwrap().clone()
}

/// Every query, under the title of its panel.
fn queries() -> Vec<(String, String)> {
    let of = |panel: &Value| -> Vec<(String, String)> {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|t| (text(&panel["title"]), text(&t["expr"]))).collect()
    };
    panels().iter().flat_map(of).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The places within the runbook that one can link to, as GitHub and GitLab make them from headings.
fn anchors() -> BTreeSet<String> {
    let headings = RUNBOOK.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#'));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// Words of `text` that begin with `start`.
fn words(text: &str, start: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    text.split(|c: char| !is_word(c)).filter(|word| word.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn every_panel_says_what_it_shows_and_has_a_place_of_its_own() {
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "{title}: its id is taken");
        let at = |key: &str| panel["gridPos"][key].as_i64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!((0..24).contains(&x) && taken.insert((x, y)), "{title}: there is something else at {x},{y}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(text(&panel["description"]).len() > 20, "{title}: no description");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(defaults["unit"].is_string(), "{title}: no unit");
        assert!(defaults["thresholds"]["steps"].is_array(), "{title}: no thresholds");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && targets.iter().all(|t| t["datasource"]["uid"] == "${datasource}"), "{title}");
    }
    let rows: Vec<String> = panels().iter().filter(|p| p["type"] == "row").map(|p| text(&p["title"])).collect();
    for row in ["Traffic", "Latency", "Mail", "Backlog", "Failures", "Saturation", "Dependencies"] {
        assert!(rows.iter().any(|r| r == row), "no row {row}");
    }
}

#[test]
fn what_a_panel_names_in_the_runbook_is_there() {
    let sections = anchors();
    for panel in panels() {
        for name in words(panel["description"].as_str().unwrap_or_default(), "Regrant") {
            assert!(sections.contains(&name.to_lowercase()), "{}: no section {name} in the runbook", panel["title"]);
        }
    }
    let alerts: BTreeSet<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    for heading in RUNBOOK.lines().filter_map(|line| line.strip_prefix("### Regrant")) {
        assert!(
            alerts.contains(format!("Regrant{heading}").as_str()),
            "the runbook tells of no alert: Regrant{heading}"
        );
    }
}

/// Every statement of the runbook runs on the schema as it is; and those that change something do what it says.
#[tokio::test]
async fn what_the_runbook_asks_the_database_can_be_asked() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD, "actor": "system" })).await;
    let login = |password| json!({ "user": { "id": "ada" }, "password": password });
    let session = client.ok("session.login", login(PASSWORD)).await["session_id"].take();
    let mut statements = 0;
    for part in RUNBOOK.split("```sql\n").skip(1) {
        place.run(part.split_once("```").unwrap().0).await;
        statements += 1;
    }
    assert!(statements > 10, "{statements}");

    // After a restored backup no session is good; after a mass reset no old password is, and a link still helps.
    assert_eq!(client.ok("session.check", json!({ "session_id": session })).await["active"], false);
    assert_eq!(client.error("session.login", login(PASSWORD)).await, "invalid_credentials");
    let before = place.mail.messages_to("ada@example.com").len();
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let token = mail_to(&place.mail, "ada@example.com", before + 1).await.token();
    client.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    assert!(client.ok("session.login", login(NEW_PASSWORD)).await["session_epoch"].as_i64() >= Some(1000));
    assert_eq!(daemon.stop().await, 0);
}

/// Every line of the runbook that asks the daemon is understood. (Two threads: the mail server goes on while a program is
/// waited for.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_runbook_asks_the_daemon_can_be_asked() {
    let (place, _daemon) = Plan::default().start().await;
    place.client().await.user("ada").await;
    let mut asked = 0;
    for line in RUNBOOK.split(['`', '\n']).map(|line| line.split_once(" #").map_or(line, |(command, _)| command).trim())
    {
        // Those with a `$` are parts of loops, those in capitals stand for something.
        let tries = ["regrant send ", "regrant users ", "regrant history ", "regrant check", "regrant templates "];
        if !tries.iter().any(|start| line.starts_with(start)) || line.contains(['$', '…']) || line.ends_with("PERSON")
        {
            continue;
        }
        let wait = if line.starts_with("regrant send") && !line.contains("--wait") { " --wait" } else { "" };
        let script = format!("regrant() {{ \"$BIN\" --config \"$CONFIG\" \"$@\"; }}; {line}{wait}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("BIN", env!("CARGO_BIN_EXE_regrant"))
            .env("CONFIG", place.config())
            .current_dir(place.home())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // A rule may say no here: the person of the example was never invited.
        let refused = ["no_invite", "no_request"].iter().any(|code| said.contains(code));
        assert!(output.status.success() || refused, "{line}\n{said}");
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
}

/// Makes every write of the user `poison` fail.
const TRIGGER: &str = "create function fail() returns trigger as $$ begin raise exception 'poisoned'; end $$ language plpgsql; \
    create trigger poison before insert or update on users for each row when (new.id = 'poison') execute function fail()";

/// A little of everything that the daemon counts.
async fn work(place: &Place, client: &Client, n: usize) {
    let people = ["ada", "bob", "cy"].map(|name| format!("{name}{n}"));
    client.users(people.clone()).await;
    for person in &people {
        let address = format!("{person}@example.com");
        client.ok("password.reset.request", json!({ "user": { "id": person } })).await;
        let token = mail_to(&place.mail, &address, 1).await.token();
        let complete = json!({ "token": token, "new_password": PASSWORD });
        client.ok("password.reset.complete", complete).await;
    }
    let [ada, bob, cy] = &people;
    let login = |id: &String, password| json!({ "user": { "id": id }, "password": password });
    client.ok("session.login", login(ada, PASSWORD)).await;
    for _ in 0..3 {
        assert_eq!(client.error("session.login", login(bob, NEW_PASSWORD)).await, "invalid_credentials");
    }
    assert_eq!(client.error("session.login", login(bob, PASSWORD)).await, "account_locked");
    client.ok("user.get", json!({ "user": { "id": ada } })).await;

    let sent = format!("select id::text from emails where state = 'sent' and user_id = '{cy}' order by id limit 1");
    let is_sent = format!("emails where state = 'sent' and user_id = '{cy}'");
    until_true("a mail on record", async || place.count(&is_sent).await > 0).await;
    let email: String = place.value(&sent).await;
    for kind in ["delivered", "bounced", "complained"] {
        client.ok("email.report", json!({ "email_id": email, "kind": kind, "detail": "5.1.1" })).await;
    }
    place.mail.refuse_rcpt("550 5.1.1 no such user", Some(&format!("gone{n}@example.com")));
    place.mail.reply_once_at(Step::Data, "451 4.3.0 later");
    client.users([format!("gone{n}"), format!("late{n}")]).await;
    for person in ["gone", "late"] {
        client.ok("password.reset.request", json!({ "user": { "id": format!("{person}{n}") } })).await;
    }
    client.publish(Command::raw("user.get", "{")).await;
    client.publish(Command::new("no.such.command", json!({}))).await;
    client.ask(Command::new("daemon.info", json!({})).asked(60)).await;
    let user = json!({ "id": "poison", "username": format!("poison{n}"), "email": "poison@example.com" });
    client.publish(Command::new("user.put", json!({ "user": user }))).await;
}

/// Every query: the run makes even that happen which is mostly absent, so that no panel may come to nothing.
#[tokio::test]
async fn every_query_and_rule_finds_what_real_daemons_tell() {
    let templates = crate::harness::shipped_templates();
    let plan = Plan::default().set("templates.directory", templates.path().display()).set("login.max_failures", 3);
    let (place, first) = plan.start().await;
    let second = place.start().await;
    let client = place.client().await;
    place.run(TRIGGER).await;
    let prometheus = Prometheus::start(&[&first, &second]).await;
    for n in 0..3 {
        work(&place, &client, n).await;
    }
    std::fs::write(templates.path().join("invite/subject.hbs"), "{{nobody.knows}}").unwrap();
    what_was_done_is_counted(&[&first, &second]).await;

    let mut waiting: BTreeMap<String, String> = BTreeMap::new();
    for (title, expression) in queries() {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace("\"$job\"", "\"regrant\"")
            .replace("\"$instance\"", "\".*\"");
        assert!(!expression.contains('$'), "{title}: an unknown variable in {expression}");
        waiting.insert(expression, title);
    }
    // Also all that alerts are made of: one that asks for a metric which is not there never fires.
    for start in ["regrant", "process_"] {
        let names = words(ALERTS, start).into_iter();
        waiting.extend(names.filter(|name| name.contains('_')).map(|name| (name, "an alert".to_owned())));
    }
    let all = waiting.len();
    assert!(all > 60, "{all} queries only");
    let answered = async {
        while !waiting.is_empty() {
            for expression in waiting.keys().cloned().collect::<Vec<_>>() {
                let found = prometheus.query(&expression).await;
                let number = |sample: &Value| text(&sample["value"][1]).parse::<f64>().unwrap();
                if found.iter().any(|sample| number(sample).is_finite()) {
                    waiting.remove(&expression);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    let in_vain = tokio::time::timeout(std::time::Duration::from_secs(60), answered).await.is_err();
    assert!(!in_vain, "found nothing for:\n{waiting:#?}");

    rules_are_sound(&prometheus).await;
    nothing_is_forgotten(&[&first, &second]).await;
    assert_eq!([first.stop().await, second.stop().await], [0, 0]);
}

/// Once each, whichever daemon did it; and each daemon tells what waits at the broker.
async fn what_was_done_is_counted(daemons: &[&Daemon]) {
    for (name, label, count) in [
        ("regrant_lockouts_total", "", 3),
        ("regrant_email_reports_total", "kind=\"delivered\"", 3),
        ("regrant_email_reports_total", "kind=\"bounced\"", 3),
        ("regrant_email_reports_total", "kind=\"complained\"", 3),
        ("regrant_commands_ahead_total", "", 3),
        ("regrant_dead_letters_waiting", "", 2 * 6),
        ("regrant_database_connections_max", "", 2 * 8),
        ("regrant_smtp_connections_max", "", 2 * 8),
        ("regrant_template_valid", "locale=\"\",site=\"\",template=\"invite\"", 0),
    ] {
        until_true(&format!("{name} {label} of {count}"), async || {
            let mut sum = 0;
            for daemon in daemons {
                sum += daemon.metric(name, &[label]).await;
            }
            sum == count
        })
        .await;
    }
}

/// Each rule was evaluated; each alert says how bad it is, what happened, in numbers, and what to do; and those fire that
/// should by now, in words without gaps.
async fn rules_are_sound(prometheus: &Prometheus) {
    let anchors = anchors();
    let mut firing = BTreeSet::new();
    within("the alerts", async {
        while !["RegrantDeadLetters", "RegrantCommandsFailing"].iter().all(|name| firing.contains(*name)) {
            let active = prometheus.get("/api/v1/alerts").await;
            for alert in active["data"]["alerts"].as_array().unwrap().iter().filter(|a| a["state"] == "firing") {
                let said = format!("{} {}", alert["annotations"]["summary"], alert["annotations"]["description"]);
                assert!(!said.contains("error") && !said.contains("<no value>") && !said.contains("{{"), "{said}");
                firing.insert(text(&alert["labels"]["alertname"]));
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    let groups = prometheus.get("/api/v1/rules").await;
    let groups = groups["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let alerts: Vec<&&Value> = rules.iter().filter(|rule| rule["type"] == "alerting").collect();
    assert!(alerts.len() > 20);
    for rule in &rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{rule}");
    }
    for alert in alerts {
        let name = text(&alert["name"]);
        let notes = &alert["annotations"];
        assert!(["critical", "warning"].contains(&text(&alert["labels"]["severity"]).as_str()), "{name}");
        assert!(text(&notes["summary"]).len() > 10 && text(&notes["description"]).len() > 40, "{name}");
        let link = text(&notes["runbook_url"]);
        let section = link.strip_prefix("docs/runbook.md#").unwrap_or_else(|| panic!("{name}: {link}"));
        assert!(anchors.contains(section), "{name}: the runbook has no section {section}");
    }
}

/// Each metric is shown or watched.
async fn nothing_is_forgotten(daemons: &[&Daemon]) {
    let shown = words(&format!("{DASHBOARD}{ALERTS}"), "regrant_");
    for daemon in daemons {
        for series in daemon.metrics().await.keys().filter(|series| series.starts_with("regrant_")) {
            let name = series.split('{').next().unwrap();
            let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_shown = |name: &str| shown.contains(name) || shown.contains(&format!("{name}_bucket"));
            assert!(
                is_shown(name) || suffix.is_some_and(is_shown),
                "{name} is neither on monitoring/dashboard.json nor in monitoring/alerts.yml"
            );
        }
    }
}
