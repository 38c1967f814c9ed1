//! Sessions: signing in, out, and being signed out.

pub mod check;
pub mod force_logout;
pub mod impersonate;
pub mod login;
pub mod logout;

use uuid::Uuid;

use crate::domain::session::TOO_MANY;
use crate::events::Event;

use super::context::Context;

/// Tells of a session that was opened, and of those that ended because it was one too many.
fn tell_opened(cx: &mut Context<'_>, id: &str, opened: &Event, surplus: Vec<Uuid>, session_epoch: i64) {
    cx.event(id, opened);
    if surplus.is_empty() {
        return;
    }
    let reason = Some(TOO_MANY.to_owned());
    cx.event(
        id,
        &Event::SessionRevoked { session_ids: surplus, all: false, session_epoch, reason, except_session_id: None },
    );
}
