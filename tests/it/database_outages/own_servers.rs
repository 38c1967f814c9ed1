//! What needs a PostgreSQL that nobody else uses.

use std::time::Instant;

use super::{Load, Plan, answered, until_it_says};
use crate::harness::{OwnServers, connect};

#[tokio::test]
async fn the_server_is_stopped_fast_and_immediately_under_load() {
    let servers = OwnServers::take().await;
    let (place, mut daemon) = Plan::default().servers(servers.urls()).start().await;
    let client = place.client().await;
    let load = Load::of(150, &client).await;
    let mut asked = Vec::new();
    // Fast, immediate, and a crash.
    for (round, signal) in ["INT", "QUIT", "KILL"].into_iter().enumerate() {
        asked.extend(load.ask(&client, round * 50..(round + 1) * 50).await);
        servers.stop("postgresql", signal).await;
        daemon.wait_until_not_ready("database").await;
        assert_eq!(daemon.get("/healthz").await.0, 200);
        daemon.until_metric("regrant_database_up", &[], 0).await;
        servers.start().await;
        let since = Instant::now();
        daemon.wait_until_ready().await;
        eprintln!("started again after {signal}: ready after {:?}", since.elapsed());
    }
    answered(&client, asked).await;
    let place = place.reconnected().await;
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_server_whose_connections_are_all_taken_is_waited_for() {
    let servers = OwnServers::take().await;
    let (place, mut daemon) = Plan::default().own_role().servers(servers.urls()).start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    let mut hogs = Vec::new();
    for _ in 0..place.value::<i32>("select current_setting('max_connections')::int - 3").await {
        let url = place.daemons_database_url();
        let Ok((hog, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await else { break };
        tokio::spawn(connection);
        hogs.push(hog);
    }
    super::end_sessions(&place).await;
    // Somebody is faster than the daemon.
    let url = place.daemons_database_url();
    while let Ok((hog, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        hogs.push(hog);
    }
    let asked = load.ask(&client, 0..60).await;
    until_it_says(&daemon, "connection").await;
    assert_eq!(daemon.get("/healthz").await.0, 200);
    drop(hogs);
    let since = Instant::now();
    answered(&client, asked).await;
    eprintln!("connections are free: everything answered after {:?}", since.elapsed());
    load.settle(&place, &mut daemon, &client).await;
    drop(connect(&place.database_url()).await);
}
