//! `invite.inspect`: whether an invitation's link is still good, and the rules that a password must keep.

use secrecy::SecretString;
use serde::Deserialize;

use crate::commands::Reply;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::commands::tokens;
use crate::commands::world::Wants;
use crate::domain::access::Audience;
use crate::domain::policy::Policy;
use crate::domain::ticket::Purpose;
use crate::store;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    token: SecretString,
}

impl Query for Inspect {
    const NAME: &'static str = "invite.inspect";
    const AUDIENCE: Audience = Audience::SelfService;

    async fn answer(&self, cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let id = tokens::opened(&self.token, Purpose::Invite, cx.env.keys)?;
        let wants = Wants { tickets: [id].into(), ..Wants::default() };
        let world = store::world::load(cx.connection, &wants, false, cx.now).await?;
        let account = world.owner_of_ticket(id).ok_or_else(tokens::invalid)?;
        let ticket = account.ticket(id).filter(|t| t.purpose == Purpose::Invite).ok_or_else(tokens::invalid)?;
        account.usable(ticket, cx.now)?;
        Ok(Reply::of(tokens::shown(account, ticket, &Policy::from(&cx.env.config.password.policy))))
    }
}
