//! RabbitMQ: reachable, the exchanges and queues as they must be, and the permissions to use them.

use std::time::Duration;

use crate::app;
use crate::broker::{Client, ConnectError, Options};
use crate::commands::Lane;
use crate::config::Config;

use super::{Fault, Finding, Found, advice};

/// How long one question may take: a broker with an alarm reads nothing that is published.
const QUESTION: Duration = Duration::from_secs(8);

const ALARM: &str = "RabbitMQ may have an alarm for memory or disk, and then takes no messages: rabbitmq-diagnostics alarms. Free \
                     what it lacks.";

/// What is tried.
pub fn tried(config: &Config) -> String {
    let prefix = &config.broker.prefix;
    match Client::describe(&config.broker.url) {
        Some(asked) => {
            let (address, vhost, user) = (asked.address, asked.vhost, asked.user);
            format!("RabbitMQ at {address}, virtual host `{vhost}`, as `{user}`, names with `{prefix}.`")
        }
        None => "broker.url".to_owned(),
    }
}

/// Connects, declares what the daemon would declare, and tries every permission. Publishes and takes nothing.
pub async fn check(config: &Config) -> Finding {
    let options = Options { url: config.broker.url.clone(), connection_name: "regrant check".to_owned() };
    let asked = Client::describe(&config.broker.url);
    let (address, vhost, user) = asked.map(|asked| (asked.address, asked.vhost, asked.user)).unwrap_or_default();
    let place = advice::Place { server: "RabbitMQ", address: &address, setting: "broker.url" };
    let refused = |error: ConnectError| {
        let answer = error.to_string();
        let advice = advice::broker(&answer, place, &user, &vhost);
        Fault::new(answer, advice)
    };
    let client = Client::connect(&options).await.map_err(refused)?;
    let permissions = advice::permissions(&user, &vhost, &config.broker.prefix);
    let found = look(&client, config, &permissions).await;
    client.close().await;
    found
}

async fn look(client: &Client, config: &Config, permissions: &str) -> Finding {
    let topology = app::topology(config);
    client.declare(&topology).await.map_err(|error| {
        let answer = error.to_string();
        let advice = if answer.contains("ACCESS_REFUSED") {
            permissions.to_owned()
        } else {
            "`rabbitmqctl list_queues name type arguments policy` shows how it is now. Delete it when it is empty, take back \
             what changed it, or choose another broker.prefix."
                .to_owned()
        };
        Fault::new(answer, advice)
    })?;
    // Replies go through the default exchange.
    for exchange in topology.exchanges().into_iter().chain([String::new()]) {
        let shown = if exchange.is_empty() { "the default exchange".to_owned() } else { format!("`{exchange}`") };
        match tokio::time::timeout(QUESTION, client.may_publish(&exchange)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Err(Fault::new(format!("nothing may be published to {shown}: {error}"), permissions));
            }
            Err(_) => return Err(Fault::new(format!("a message to {shown} is not taken"), ALARM)),
        }
    }
    for queue in topology.queues() {
        client
            .may_consume(&queue)
            .await
            .map_err(|error| Fault::new(format!("nothing may be taken from `{queue}`: {error}"), permissions))?;
    }
    let mut found = Found::new(format!("answers, exchanges and queues of `{}` are declared", config.broker.prefix));
    let unknown = |error: ConnectError| Fault::new(error.to_string(), "RabbitMQ's log says more.");
    let mut waiting = 0;
    for lane in Lane::ALL {
        let depth = client.depth(&topology.lane_queue(lane.as_str())).await.map_err(unknown)?;
        waiting += depth.map_or(0, |depth| if depth.consumers == 0 { depth.waiting } else { 0 });
    }
    if waiting > 0 {
        found.warnings.push(format!("{waiting} commands wait, and no daemon takes them"));
    }
    if let Some(dead) = client.depth(&topology.dead_queue()).await.map_err(unknown)?.filter(|dead| dead.waiting > 0) {
        found.warnings.push(format!("there are {} dead letters: `regrant dead-letters list`", dead.waiting));
    }
    Ok(found)
}
