//! What activating, deactivating, blocking and unblocking have in common.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::commands::body::{Text, UserName};
use crate::commands::context::Context;
use crate::commands::{Reply, Stop};
use crate::domain::account::Account;
use crate::events::Event;

use super::About;

/// `user, reason?`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchBody {
    /// Who.
    pub user: UserName,
    /// Why, for the activity log.
    pub reason: Option<Text<1000>>,
}

/// Whether somebody who is switched off keeps their sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    Keep,
    End,
}

/// Sets a flag through `set`, which says whether it changed anything. Doing it twice changes nothing more.
pub(super) fn switch(
    body: &SwitchBody,
    cx: &mut Context<'_>,
    event: &Event,
    sessions: Sessions,
    set: fn(&mut Account) -> bool,
) -> Result<Reply, Stop> {
    let id = cx.target(&body.user)?;
    let now = cx.now;
    let reason = body.reason.as_ref().map(|r| r.0.clone());
    if let Some(reason) = &reason {
        cx.note("reason", reason.clone());
    }
    if set(cx.account(&id)?) {
        cx.account(&id)?.touch(now);
        cx.event(&id, event);
        if sessions == Sessions::End {
            let why = event.name().trim_start_matches("user.");
            let account = cx.account(&id)?;
            let session_ids = account.force_logout(None, why, now);
            let session_epoch = account.session_epoch;
            cx.event(
                &id,
                &Event::SessionRevoked {
                    session_ids,
                    all: true,
                    session_epoch,
                    reason: Some(why.to_owned()),
                    except_session_id: None,
                },
            );
        }
    }
    let shown = cx.account(&id)?.shown(now);
    Ok(Reply::of(About { user: shown }))
}

#[cfg(test)]
mod tests;
