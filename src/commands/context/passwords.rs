//! What a decision does with passwords: proofs of old ones, acceptance of new ones, and all that follows from a change.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::commands::Stop;
use crate::commands::proofs::{Job, Judging, Verified, Which};
use crate::domain::account::{Account, ChangeRules, ChangedBy, PasswordChange, Warning};
use crate::domain::policy::{Policy, Violation};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::temporary_password;
use crate::domain::ticket::timestamp;
use crate::domain::time::is_later;
use crate::events::Event;
use crate::mail::catalogue::Template;
use crate::mail::context::{Author, Facts};

use super::Context;

impl Context<'_> {
    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.env.config.password.policy.rules
    }

    /// Whether a password belongs to a stored hash.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until the pool has worked it out.
    pub fn verify(&mut self, which: Which, password: &SecretString, stored: &str) -> Result<Verified, Stop> {
        if let Some(found) = self.proofs.verified.get(&(which, stored.to_owned())) {
            return Ok(*found);
        }
        // Two rules may ask for the same: it is worked out once.
        let asked = |job: &Job| matches!(job, Job::Verify(w, _, s) if *w == which && s == stored);
        if !self.proofs.missing.iter().any(asked) {
            self.proofs.missing.push(Job::Verify(which, password.clone(), stored.to_owned()));
        }
        Err(Stop::Unproven)
    }

    /// The same work as a verification, with nothing to verify against.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until it was done.
    pub fn pretend(&mut self, password: &SecretString) -> Result<(), Stop> {
        if self.proofs.pretended {
            return Ok(());
        }
        self.proofs.missing.push(Job::Pretend(password.clone()));
        Err(Stop::Unproven)
    }

    /// A password's hash.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until it is there.
    pub fn hash(&mut self, which: Which, password: &SecretString) -> Result<String, Stop> {
        if let Some(hash) = self.proofs.hashed.get(&which) {
            return Ok(hash.clone());
        }
        self.proofs.missing.push(Job::Hash(which, password.clone()));
        Err(Stop::Unproven)
    }

    /// A temporary password for somebody. A decision runs more than once: it is made at the first time and kept, so that
    /// what is told is what was hashed.
    pub fn temporary_password(&mut self) -> SecretString {
        let rng = &mut *self.rng;
        self.proofs.made.get_or_insert_with(|| temporary_password::generate(rng)).clone()
    }

    /// Until when a temporary password works that is asked for now.
    ///
    /// # Errors
    /// `expired` if that is over and the person has a password that works, or if one is pending that was asked for later: only the
    /// newest works.
    pub fn temporary_until(&self, user: &str) -> Result<DateTime<Utc>, Rejection> {
        let account = self.world.account(user);
        let works = |account: &Account| {
            account.password_hash.is_some() && account.temporary.is_none_or(|temporary| !temporary.is_over(self.now))
        };
        let until = self.ends_after(self.env.config.temporary_password.lifetime, account.is_some_and(works))?;
        let pending = account.and_then(|account| account.temporary);
        match pending.and_then(|temporary| temporary.requested_at) {
            Some(at) if is_later(at, self.requested_at) => Err(Rejection::new(
                Code::Expired,
                format!("the temporary password that was asked for at {} is newer, and stays", timestamp(at)),
            )),
            _ => Ok(until),
        }
    }

    /// The hash of a new password that keeps the policy, or every rule that it breaks.
    ///
    /// # Errors
    /// `password_rejected` with `details.violations`; [`Stop::Unproven`] until it is judged, reuse is checked and the hash is there.
    pub fn accept_password(&mut self, user: &str, password: &SecretString) -> Result<String, Stop> {
        let policy = self.policy();
        let remembered = self.account(user)?.remembered_hashes(policy.history);
        // Ask for everything at once: the pool works on all of it side by side. Every broken rule is told, so reuse is
        // looked for also when another rule is broken; only what is too long is not worth the work.
        let too_long = policy.is_too_long(password.expose_secret());
        let verdict = self.judge(user, password, &policy);
        let reused: Vec<Result<Verified, Stop>> =
            remembered.iter().filter(|_| !too_long).map(|stored| self.verify(Which::New, password, stored)).collect();
        let verdict = verdict?;
        let mut used_before = false;
        for found in reused {
            used_before |= found?.matches;
        }
        let mut violations = match verdict {
            Ok(hash) if !used_before => return Ok(hash),
            verdict => verdict.err().unwrap_or_default(),
        };
        if used_before {
            violations.push(Violation::history(policy.history));
        }
        Err(rejected(&violations).into())
    }

    /// The hash of a new password, or every rule but `history` that it breaks.
    fn judge(
        &mut self,
        user: &str,
        password: &SecretString,
        policy: &Policy,
    ) -> Result<Result<String, Vec<Violation>>, Stop> {
        if let Some(verdict) = self.proofs.judged.get(user) {
            return Ok(verdict.clone());
        }
        let profile = self.account(user)?.profile.clone();
        let config = self.env.config;
        let site_name = config.sites.get(&profile.site).map_or(&profile.site, |site| &site.name).clone();
        let (password, policy) = (password.clone(), *policy);
        let blocklist = config.password.policy.blocklist_file.clone();
        self.proofs.missing.push(Job::Judge(Box::new(Judging { password, policy, blocklist, profile, site_name })));
        Err(Stop::Unproven)
    }

    /// Writes a new password and everything that follows from it: events, mail, ended sessions.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    pub fn change_password(
        &mut self,
        user: &str,
        hash: String,
        by: ChangedBy,
        rules: ChangeRules,
    ) -> Result<PasswordChange, Stop> {
        let change = self.replace_password(user, hash, by, rules)?;
        let facts = Facts {
            changed_at: Some(self.now),
            changed_by: Some(if by == ChangedBy::Admin { Author::Support } else { Author::You }),
            ..self.facts()
        };
        self.email(user, Template::PasswordChanged, None, &facts)?;
        Ok(change)
    }

    /// As [`Self::change_password`], but the caller tells the person.
    ///
    /// # Errors
    /// As there.
    pub fn replace_password(
        &mut self,
        user: &str,
        hash: String,
        by: ChangedBy,
        mut rules: ChangeRules,
    ) -> Result<PasswordChange, Stop> {
        rules.history = self.policy().history;
        rules.requested_at = Some(self.requested_at);
        let now = self.now;
        let temporary = rules.temporary_until.is_some();
        let account = self.account(user)?;
        let change = account.change_password(hash, by, &rules, now);
        let (epoch, all) = (account.session_epoch, !account.has_live_session(now));
        let except_session_id = account.live_session(rules.except_session, now);
        self.event(user, &Event::PasswordChanged { by, temporary });
        if change.sessions_ended {
            self.event(
                user,
                &Event::SessionRevoked {
                    session_ids: change.ended.clone(),
                    all,
                    session_epoch: epoch,
                    reason: Some("password_changed".to_owned()),
                    except_session_id,
                },
            );
        }
        if change.verified {
            self.event(user, &Event::EmailVerified);
        }
        if change.accepted_invitation {
            self.event(user, &Event::InviteAccepted);
        }
        Ok(change)
    }

    /// What a changed password does not mend: for people who cannot sign in all the same.
    pub fn warnings(&self, user: &str) -> Vec<Warning> {
        self.world.account(user).map(Account::warnings).unwrap_or_default()
    }
}

fn rejected(violations: &[Violation]) -> Rejection {
    let shown: Vec<Value> =
        violations.iter().map(|v| serde_json::json!({ "rule": v.rule, "message": v.message })).collect();
    Rejection::new(Code::PasswordRejected, "The password does not meet the rules.").with("violations", shown)
}
