//! `daemon.info`: what a publisher needs to know: version, sealing key, password policy.

use serde::Deserialize;
use serde_json::json;

use crate::domain::access::Audience;
use crate::domain::policy::Policy;

use super::Reply;
use super::query::{Query, QueryContext, Unanswered};

/// The body: empty.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {}

impl Query for Info {
    const NAME: &'static str = "daemon.info";
    const AUDIENCE: Audience = Audience::SelfService;

    async fn answer(&self, cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let key = cx.env.keys.sealing_key();
        Ok(Reply::of(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "sealing_key": { "key_id": key.key_id, "algorithm": key.algorithm, "public_key": key.public_key },
            "policy": Policy::from(&cx.env.config.password.policy).describe(),
        })))
    }
}
