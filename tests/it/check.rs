//! `regrant check` where something is wrong: what was tried, the answer, and what to do.

use std::os::unix::fs::PermissionsExt;
use std::process::Command as Process;
use std::sync::Arc;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Place, Plan, address, by_way_of, connect, fresh_name, server};
use crate::smtp_server::{Options, SmtpServer, Step};

/// What `regrant check` says about one dependency that fails: tried, said, advice. No password is in anything that it says.
#[track_caller]
fn fault(place: &Place, what: &str) -> [String; 3] {
    let checked = place.shell(&["check", "--json"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(!format!("{checked:?}").contains("hunter2"), "{checked:?}");
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    let line = report["checks"].as_array().unwrap().iter().find(|line| line["what"] == what).unwrap();
    assert_eq!(line["ok"], false, "{line}");
    ["tried", "said", "advice"].map(|field| line[field].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn says(fault: &[String; 3], parts: [&str; 3]) {
    for (said, part) in fault.iter().zip(parts) {
        assert!(said.contains(part), "`{part}` is not in: {said}\n{fault:?}");
    }
}

fn rabbitmqctl(arguments: &[&str]) {
    let output = Process::new("rabbitmqctl").args(arguments).output().expect("rabbitmqctl is not installed");
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A place whose configuration names another database.
async fn with_database(change: impl FnOnce(&str) -> String) -> Place {
    let place = Place::new().await;
    let sound = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), sound.replace(&place.database_url(), &change(&place.database_url()))).unwrap();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_would_not_start_with() {
    let place = Plan::default().env("REGRANT_LOG", "debgu").prepare().await;
    says(&fault(&place, "configuration"), ["", "wrong value for REGRANT_LOG", "Put right what is named"]);
    // Kept for documents (RFC 5737): no machine has it.
    let place = Plan::default().set("http.listen", "192.0.2.1:9464").prepare().await;
    says(&fault(&place, "configuration"), ["", "http.listen 192.0.2.1", "an address of this machine"]);
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), format!("{}\n{}\n", "B".repeat(40), "A".repeat(40))).unwrap();
    let place = Plan::default().set("password.policy.blocklist_file", list.path().display()).prepare().await;
    says(&fault(&place, "configuration"), ["", "not sorted", "Put right what is named"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached() {
    let place = with_database(|url| by_way_of(url, "127.0.0.1:1").replace("postgres@", "reg:hunter2@")).await;
    let text = place.shell(&["check"]);
    assert!(text.out.contains("what to do:") && !format!("{text:?}").contains("hunter2"), "{text:?}");
    says(&fault(&place, "database"), ["127.0.0.1:1, database `regrant_", "refused", "Nothing listens at 127.0.0.1:1"]);
    let place = with_database(|url| by_way_of(url, "no-such-host.invalid:5432")).await;
    says(&fault(&place, "database"), ["no-such-host.invalid:5432", "lookup", "cannot be resolved"]);
    let place = with_database(|url| url.replace("postgres@", "nobody-here:hunter2@")).await;
    says(&fault(&place, "database"), ["as `nobody-here`", "(28000)", "create role nobody-here"]);
    let place = with_database(|url| format!("{url}_elsewhere")).await;
    says(&fault(&place, "database"), ["_elsewhere`", "(3D000)", "create database regrant_"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_let_the_daemon_work() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let role = fresh_name();
    place
        .run(&format!(
            "create role {role} login; grant select, insert, update on all tables in schema public to {role}"
        ))
        .await;
    let sound = std::fs::read_to_string(place.config()).unwrap();
    let url = place.database_url();
    let limited = sound.replace(&url, &url.replace("postgres@", &format!("{role}@")));
    std::fs::write(place.config(), &limited).unwrap();
    let lacking = fault(&place, "database");
    says(
        &lacking,
        [&role, "may not delete on activity; delete on email_attempts", "grant select, insert, update, delete"],
    );
    place.run(&format!("grant delete on all tables in schema public to {role}")).await;
    place.shell(&["check"]).success();

    place.run("delete from __diesel_schema_migrations where version = (select max(version) from __diesel_schema_migrations)").await;
    says(&fault(&place, "database"), [&role, "may not make tables", "regrant migrate"]);
    std::fs::write(place.config(), &sound).unwrap();
    let database: String = place.value("select current_database()::text").await;
    place.run(&format!("alter database {database} set default_transaction_read_only = on")).await;
    says(&fault(&place, "database"), ["as `postgres`", "read-only", "default_transaction_read_only"]);
    place.run(&format!("alter database {database} reset default_transaction_read_only")).await;
    place.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses() {
    let with = async |url: String| Plan::default().broker_url(url).prepare().await;
    let guest = server("AMQP_URL");
    let place = with(guest.replace("guest:guest", "guest:hunter2")).await;
    says(&fault(&place, "broker"), ["virtual host `/`, as `guest`", "ACCESS_REFUSED", "authenticate_user guest"]);
    let place = with(guest.replace("%2f", "nowhere")).await;
    says(&fault(&place, "broker"), ["virtual host `nowhere`", "not found", "add_vhost nowhere"]);
    let place = with(by_way_of(&guest, "127.0.0.1:1")).await;
    says(&fault(&place, "broker"), ["127.0.0.1:1", "refused", "Nothing listens at 127.0.0.1:1"]);

    let place = Place::new().await;
    let connection = lapin::Connection::connect(&guest, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = format!("{}.commands.state", place.prefix);
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    says(&fault(&place, "broker"), ["names with `t", "x-queue-type", "list_queues name type arguments"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_user_without_a_permission() {
    let place = Place::new().await;
    place.shell(&["check"]).success();
    let user = fresh_name();
    rabbitmqctl(&["add_user", &user, "hunter2"]);
    let sound = std::fs::read_to_string(place.config()).unwrap();
    let url = server("AMQP_URL");
    std::fs::write(place.config(), sound.replace(&url, &url.replace("guest:guest", &format!("{user}:hunter2"))))
        .unwrap();
    let prefix = &place.prefix;
    let advice = format!("set_permissions -p / {user} '^{prefix}\\.' '^({prefix}\\..*|amq\\.default)$' '^{prefix}\\.'");
    says(&fault(&place, "broker"), [&user, "NOT_ALLOWED", "set_permissions -p / "]);
    // Every right but that to publish replies.
    let (own, rest) = (format!("^{prefix}\\."), format!("^{prefix}\\..*$"));
    rabbitmqctl(&["set_permissions", "-p", "/", &user, &own, &rest, &own]);
    says(&fault(&place, "broker"), [&user, "nothing may be published to the default exchange", &advice]);
    // Every right but that to consume.
    let read = format!("^{prefix}\\.(commands|dead|retry\\..*|unrouted)$");
    let write = format!("^({prefix}\\..*|amq\\.default)$");
    rabbitmqctl(&["set_permissions", "-p", "/", &user, &own, &write, &read]);
    says(&fault(&place, "broker"), [&user, "nothing may be taken from", &advice]);
    rabbitmqctl(&["set_permissions", "-p", "/", &user, &own, &write, &own]);
    let good = place.shell(&["check"]).success();
    rabbitmqctl(&["delete_user", &user]);
    assert!(!good.contains("hunter2"));
}

/// In front of a server, with a certificate for another name. Gives its address and the authority's certificate.
async fn impostor(upstream: String) -> (String, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let leaf = names.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                let (Ok(mut client), Ok(mut server)) =
                    (acceptor.accept(socket).await, TcpStream::connect(upstream).await)
                else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (format!("localhost:{port}"), ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name() {
    let (address, ca) = impostor(address(&server("AMQP_URL"), 5672)).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let url = by_way_of(&server("AMQP_URL"), &address).replace("amqp://", "amqps://");
    let place = Plan::default().broker_url(format!("{url}?cacertfile={}", file.display())).prepare().await;
    says(&fault(&place, "broker"), ["localhost:", "certificate", "certificate is for another name"]);
    let place = Plan::default().broker_url(url).prepare().await;
    says(&fault(&place, "broker"), ["localhost:", "certificate", "authority that this machine does not know"]);
    // No TLS behind that port at all.
    let plain = server("AMQP_URL").replace("amqp://", "amqps://");
    let place = Plan::default().broker_url(plain).prepare().await;
    says(&fault(&place, "broker"), ["127.0.0.1:", "", "TLS"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_wants_something_else() {
    let with = async |options: Options, url: &str| {
        let mail = SmtpServer::with(options).await;
        let url = url.replace("{}", &mail.address().to_string().replace("127.0.0.1", "localhost"));
        Plan::default().set("mail.smtp.url", url).prepare_with(mail).await
    };
    let secured = || Options { starttls: true, auth: Some("PLAIN"), ..Options::default() };
    let place = with(Options::default(), "smtp://{}?tls=required").await;
    says(&fault(&place, "mail"), ["(tls=required)", "does not offer STARTTLS", "smtps://"]);
    let place = with(secured(), "smtp://{}?tls=required").await;
    says(&fault(&place, "mail"), ["(tls=required)", "certificate", "?ca_file="]);

    let ca = tempfile::NamedTempFile::new().unwrap();
    let mail = SmtpServer::with(secured()).await;
    std::fs::write(ca.path(), mail.ca_pem()).unwrap();
    let parameters = format!("?tls=required&ca_file={}", ca.path().display());
    let host = mail.address().to_string();
    let named = format!("smtp://{host}{parameters}&tls_name=mx.example.com");
    let place = Plan::default().set("mail.smtp.url", named).prepare_with(mail).await;
    says(&fault(&place, "mail"), [&host, "certificate", "?tls_name="]);

    let mail = SmtpServer::with(secured()).await;
    std::fs::write(ca.path(), mail.ca_pem()).unwrap();
    let url = format!("smtp://{}{parameters}", mail.address());
    let place = Plan::default().set("mail.smtp.url", &url).prepare_with(mail).await;
    says(&fault(&place, "mail"), ["from `no-reply@example.com`", "530", "user:password@"]);

    let mail = SmtpServer::with(secured()).await;
    std::fs::write(ca.path(), mail.ca_pem()).unwrap();
    let url = format!("smtp://user:hunter2@{}{parameters}", mail.address());
    let place = Plan::default().set("mail.smtp.url", &url).prepare_with(mail).await;
    says(&fault(&place, "mail"), ["as `user`", "535", "user and password"]);

    let place = Place::new().await;
    place.shell(&["check"]).success();
    place.mail.reply_at(Step::Mail, "553 5.7.1 sender rejected");
    says(&fault(&place, "mail"), ["from `no-reply@example.com`", "553", "set mail.from"]);
    place.mail.heal();
    place.shell(&["check"]).success();
    assert_eq!(place.mail.violations(), Vec::<String>::new());
    assert!(place.mail.messages().is_empty(), "a check sends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_others_can_read() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let file = place.home().join("regrant.keys");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    says(&fault(&place, "keys"), ["regrant.keys", "chmod 600", "keys rotate"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o660)).unwrap();
    let said = place.shell(&["check"]).success();
    assert!(said.contains("warning:      its group can change it: chmod 640"), "{said}");
    std::fs::remove_file(&file).unwrap();
    says(&fault(&place, "keys"), ["regrant.keys", "no key file", "put the file back from its copy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_that_everybody_can_read_is_warned_of() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), include_str!("../../src/mail/message/testdata/ed25519.pem")).unwrap();
    let plan = Plan::default().set("mail.dkim.domain", "example.com").set("mail.dkim.selector", "s1");
    let place = plan.set("mail.dkim.key_file", key.path().display()).prepare().await;
    place.shell(&["migrate"]).success();
    assert!(!place.shell(&["check"]).success().contains("chmod"));
    std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = place.shell(&["check"]).success();
    assert!(said.contains("every user of this machine (mode 0644): chmod 600 "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told() {
    let place = Place::new().await;
    place.shell(&["check"]).success();
    let client = place.client().await;
    client.publish(("user.get", serde_json::json!({ "user": { "id": "ada" } }))).await;
    client.bury_all([("user.put", serde_json::json!({})).into()]).await;
    let said = place.shell(&["check"]).success();
    assert!(said.contains("1 commands wait, and no daemon takes them"), "{said}");
    assert!(said.contains("there are 1 dead letters"), "{said}");
    // Looking takes nothing.
    client.until_depth("commands.queries", 1).await;
    client.until_depth("dead", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_else_is_no_schema_to_go_on_with() {
    let place = Place::new().await;
    place.run("create table users (id int primary key)").await;
    says(&fault(&place, "database"), ["database `regrant_", "are in the way: users", "a database of its own"]);
    place.run("drop table users").await;
    place.shell(&["migrate"]).success();
    place.shell(&["check"]).success();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_cut_short_is_named() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let warnings = || {
        let report: Value = serde_json::from_str(&place.shell(&["check", "--json"]).out).unwrap();
        let line = report["checks"].as_array().unwrap().iter().find(|line| line["what"] == "database").unwrap();
        line["warnings"].to_string()
    };
    assert!(!warnings().contains("reindex"));
    place.run("insert into suppressions values ('a@x.org', 'bounced', now()), ('b@x.org', 'bounced', now())").await;
    let sql = connect(&place.database_url()).await;
    let making = sql.batch_execute("create unique index concurrently cut_short on suppressions (reason)").await;
    assert!(making.is_err(), "there are two of them");
    assert!(warnings().contains("reindex index concurrently cut_short"), "{}", warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_is_switched_off_is_warned_of_once_for_each_language() {
    let templates = crate::harness::shipped_templates();
    std::fs::write(templates.path().join("invite/template.toml"), "enabled = false\n").unwrap();
    let place = Plan::default().set("templates.directory", templates.path().display()).prepare().await;
    let found = place.shell(&["check"]);
    let warnings: Vec<&str> = found.out.lines().filter(|line| line.contains("is switched off")).collect();
    let distinct: std::collections::BTreeSet<&&str> = warnings.iter().collect();
    assert!(warnings.len() > 1 && distinct.len() == warnings.len(), "{warnings:#?}");
    assert!(warnings.iter().any(|line| line.contains("invite (de) is switched off")), "{warnings:#?}");
}
