use super::*;

fn metrics() -> Metrics {
    Metrics::new(&Known {
        version: "1.2.3",
        commands: &["user.put", "session.login"],
        templates: &["invite"],
        dead_letter_reasons: &["unknown_command", "internal"],
    })
    .unwrap()
}

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_mail_server_that_nobody_has_tried_yet_is_not_said_to_be_down() {
    let metrics = metrics();
    assert_eq!(value(&metrics, "regrant_mail_server_up"), Some(1.0));
    metrics.mail_server_up(false);
    assert_eq!(value(&metrics, "regrant_mail_server_up"), Some(0.0));
}

#[test]
fn every_series_is_there_from_the_start() {
    let metrics = metrics();
    for series in [
        r#"regrant_commands_total{command="user.put",outcome="ok"}"#,
        r#"regrant_commands_total{command="unknown",outcome="invalid"}"#,
        r#"regrant_command_duration_seconds_count{command="session.login"}"#,
        r#"regrant_command_duration_seconds_bucket{command="unknown",le="0.0005"}"#,
        r#"regrant_command_lag_seconds_count{lane="credentials"}"#,
        r#"regrant_commands_in_flight{lane="queries"}"#,
        "regrant_password_hash_seconds_count",
        r#"regrant_emails_total{outcome="suppressed",template="invite"}"#,
        "regrant_email_delivery_seconds_count",
        "regrant_emails_pending",
        "regrant_emails_oldest_pending_seconds",
        "regrant_events_pending",
        r#"regrant_dead_letters_total{reason="internal"}"#,
        "regrant_broker_connected",
        "regrant_database_up",
        r#"regrant_reconnects_total{target="broker"}"#,
        r#"regrant_logins_total{outcome="password_change_required"}"#,
        r#"regrant_logins_total{outcome="sealed_invalid"}"#,
        r#"regrant_tickets_total{event="too_many_attempts",purpose="verification"}"#,
        "regrant_replies_dropped_total",
        "regrant_lockouts_total",
        r#"regrant_email_reports_total{kind="complained"}"#,
        "regrant_commands_ahead_total",
        "regrant_clock_skew_seconds",
        "regrant_emails_overdue_seconds",
        "regrant_events_oldest_pending_seconds",
        r#"regrant_lane_backlog{lane="unknown"}"#,
        "regrant_retries_waiting",
        "regrant_dead_letters_waiting",
        "regrant_hash_jobs",
        "regrant_hash_threads",
        r#"regrant_database_connections{state="in_use"}"#,
        r#"regrant_database_connections{state="idle"}"#,
        "regrant_database_connections_max",
        "regrant_database_connection_waiters",
        "regrant_smtp_connections_in_use",
        "regrant_smtp_connections_max",
    ] {
        assert_eq!(value(&metrics, series), Some(0.0), "{series}");
    }
    assert_eq!(value(&metrics, r#"regrant_build_info{version="1.2.3"}"#), Some(1.0));
    for series in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"]
    {
        assert!(value(&metrics, series).is_some(), "{series}");
    }
}

#[test]
fn names_that_are_not_known_are_never_labels() {
    let metrics = metrics();
    metrics.command("ada@example.com", CommandOutcome::Invalid);
    metrics.command_duration("ada@example.com", Duration::from_millis(3));
    metrics.email("ada@example.com", EmailOutcome::Sent);
    metrics.dead_letter("ada@example.com");
    metrics.templates_valid([("ada@example.com", "", "", true)]);
    assert!(!metrics.render().unwrap().contains("ada"));
    assert_eq!(value(&metrics, r#"regrant_commands_total{command="unknown",outcome="invalid"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"regrant_command_duration_seconds_count{command="unknown"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"regrant_emails_total{outcome="sent",template="unknown"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"regrant_dead_letters_total{reason="unknown"}"#), Some(1.0));
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = metrics();
    metrics.command("user.put", CommandOutcome::Ok);
    metrics.command_duration("user.put", Duration::from_millis(3));
    metrics.command_lag(Lane::State, Duration::from_secs(2));
    metrics.password_hash(Duration::from_millis(14));
    metrics.email("invite", EmailOutcome::Sent);
    metrics.email_delivery(Duration::from_secs(90));
    metrics.emails_pending(4, Some(Duration::from_millis(1500)), Some(Duration::from_millis(250)));
    metrics.events_pending(5, Some(Duration::from_secs(6)));
    metrics.broker_connected(true);
    metrics.database_up(true);
    metrics.reconnect(Target::Database);
    metrics.login(LoginOutcome::Ok);
    metrics.ticket(TicketPurpose::Invite, TicketEvent::Opened);
    metrics.replies_dropped(1);
    metrics.lockout();
    metrics.email_report(EmailReport::Bounced);
    metrics.command_ahead();
    metrics.clock_skew(-0.25);
    metrics.waiting(&Waiting { lanes: vec![(Lane::Queries, 7)], retries: 8, dead_letters: 9 });
    metrics.usage(&Usage {
        hash_jobs: 10,
        hash_threads: 11,
        database_in_use: 12,
        database_idle: 13,
        database_max: 14,
        database_waiters: 15,
        smtp_in_use: 16,
        smtp_max: 17,
    });
    for (series, expected) in [
        (r#"regrant_commands_total{command="user.put",outcome="ok"}"#, 1.0),
        (r#"regrant_command_duration_seconds_bucket{command="user.put",le="0.0025"}"#, 0.0),
        (r#"regrant_command_duration_seconds_bucket{command="user.put",le="0.005"}"#, 1.0),
        (r#"regrant_command_lag_seconds_sum{lane="state"}"#, 2.0),
        (r#"regrant_password_hash_seconds_bucket{le="0.015"}"#, 1.0),
        (r#"regrant_emails_total{outcome="sent",template="invite"}"#, 1.0),
        ("regrant_email_delivery_seconds_sum", 90.0),
        ("regrant_emails_pending", 4.0),
        ("regrant_emails_oldest_pending_seconds", 1.5),
        ("regrant_events_pending", 5.0),
        ("regrant_broker_connected", 1.0),
        ("regrant_database_up", 1.0),
        (r#"regrant_reconnects_total{target="database"}"#, 1.0),
        (r#"regrant_logins_total{outcome="ok"}"#, 1.0),
        (r#"regrant_tickets_total{event="opened",purpose="invite"}"#, 1.0),
        ("regrant_replies_dropped_total", 1.0),
        ("regrant_emails_overdue_seconds", 0.25),
        ("regrant_events_oldest_pending_seconds", 6.0),
        ("regrant_lockouts_total", 1.0),
        (r#"regrant_email_reports_total{kind="bounced"}"#, 1.0),
        ("regrant_commands_ahead_total", 1.0),
        ("regrant_clock_skew_seconds", -0.25),
        (r#"regrant_lane_backlog{lane="queries"}"#, 7.0),
        ("regrant_retries_waiting", 8.0),
        ("regrant_dead_letters_waiting", 9.0),
        ("regrant_hash_jobs", 10.0),
        ("regrant_hash_threads", 11.0),
        (r#"regrant_database_connections{state="in_use"}"#, 12.0),
        (r#"regrant_database_connections{state="idle"}"#, 13.0),
        ("regrant_database_connections_max", 14.0),
        ("regrant_database_connection_waiters", 15.0),
        ("regrant_smtp_connections_in_use", 16.0),
        ("regrant_smtp_connections_max", 17.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
    metrics.emails_pending(0, None, None);
    assert_eq!(value(&metrics, "regrant_emails_oldest_pending_seconds"), Some(0.0));
}

#[test]
fn in_flight_ends_with_the_guard() {
    let metrics = metrics();
    let series = r#"regrant_commands_in_flight{lane="state"}"#;
    let (one, many) = (metrics.in_flight(Lane::State, 1), metrics.in_flight(Lane::State, 127));
    assert_eq!(value(&metrics, series), Some(128.0));
    drop(many);
    assert_eq!(value(&metrics, series), Some(1.0));
    drop(one);
    assert_eq!(value(&metrics, series), Some(0.0));
}

#[test]
fn templates_that_are_gone_are_not_shown() {
    let metrics = metrics();
    let [default, french] =
        ["", "fr"].map(|locale| format!(r#"regrant_template_valid{{locale="{locale}",site="",template="invite"}}"#));
    metrics.templates_valid([("invite", "", "", true), ("invite", "", "fr", false)]);
    assert_eq!((value(&metrics, &default), value(&metrics, &french)), (Some(1.0), Some(0.0)));
    metrics.templates_valid([("invite", "", "", false)]);
    assert_eq!((value(&metrics, &default), value(&metrics, &french)), (Some(0.0), None));
}

#[test]
fn everything_has_a_help_text_and_a_name_of_ours() {
    let text = metrics().render().unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(name.starts_with("regrant_") || name.starts_with("process_"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(!line.ends_with(" counter") || name.ends_with("_total"), "{line}");
        assert!(!line.ends_with(" histogram") || name.ends_with("_seconds"), "{line}");
    }
}
