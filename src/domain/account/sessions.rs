//! A person's sessions.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Account;
use crate::domain::session::{Session, TOO_MANY};

impl Account {
    /// Whether a session is live.
    pub fn has_live_session(&self, now: DateTime<Utc>) -> bool {
        self.sessions.iter().any(|s| s.is_live(now))
    }

    /// The session, if it is one of this person's and live.
    pub fn live_session(&self, id: Option<Uuid>, now: DateTime<Utc>) -> Option<Uuid> {
        id.filter(|id| self.sessions.iter().any(|s| s.id == *id && s.is_live(now)))
    }

    /// Ends live sessions but `except`; returns which.
    pub fn end_sessions(&mut self, except: Option<Uuid>, reason: &str, now: DateTime<Utc>) -> Vec<Uuid> {
        let mut ended = Vec::new();
        for session in self.sessions.iter_mut().filter(|s| s.is_live(now) && Some(s.id) != except) {
            session.end(now, reason);
            ended.push(session.id);
        }
        ended
    }

    /// A forced sign-out everywhere (but `except`): the epoch grows also when no session is known here, because
    /// stateless sessions upstream are refused by it.
    pub fn force_logout(&mut self, except: Option<Uuid>, reason: &str, now: DateTime<Utc>) -> Vec<Uuid> {
        self.session_epoch += 1;
        self.touch(now);
        self.end_sessions(except, reason, now)
    }

    /// Opens a session; the oldest beyond `max` end, so that nobody collects sessions without bound. Returns the ended.
    pub fn open_session(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        self.failed_logins = 0;
        self.locked_until = None;
        self.last_login_at = Some(now);
        self.dirty = true;
        self.add_session(session, max, now)
    }

    /// Opens a session for support. It is no sign-in of the person's, and neither counts among their own sessions nor ends
    /// any of them; of those of support the oldest beyond `max` end. Returns the ended.
    pub fn impersonate(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        self.add_session(session, max, now)
    }

    fn add_session(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        let of_support = session.is_impersonated();
        self.sessions.push(session);
        let counts = |s: &Session| s.is_live(now) && s.is_impersonated() == of_support;
        let mut live: Vec<usize> = (0..self.sessions.len()).filter(|i| counts(&self.sessions[*i])).collect();
        // Never the new one, whose id need not be the largest: another daemon's clock may be ahead.
        let new = self.sessions.len() - 1;
        live.sort_by_key(|i| (*i == new, self.sessions[*i].id));
        let surplus = live.len().saturating_sub(max.max(1) as usize);
        live.into_iter()
            .take(surplus)
            .map(|i| {
                self.sessions[i].end(now, TOO_MANY);
                self.sessions[i].id
            })
            .collect()
    }
}
