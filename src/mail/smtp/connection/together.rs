//! Several mails over one connection with fewer waits than one after another.
//!
//! Where the server offers CHUNKING, they leave in one write. When the connection is lost, it may have taken any of those that it
//! had not answered for. Where it offers PIPELINING only, the commands of each mail leave with the message of the one before,
//! and never more than one is in doubt.

use std::time::Duration;

use tokio::time::timeout;

use super::{Announced, Connection, Delivered, commands, in_one, is_usable_after};
use crate::config::smtp_url::Server;
use crate::mail::message::Built;
use crate::mail::smtp::error::{SendError, Stage, expect};

/// What became of several mails.
pub(in crate::mail::smtp) struct Together {
    /// The results of the first of them; the others were not begun.
    pub delivered: Vec<Delivered>,
    /// Whether the connection is good for others after them.
    pub usable: bool,
}

impl Connection {
    /// Whether [`Self::deliver_together`] is any better than one after another.
    pub const fn takes_several(&self) -> bool {
        self.extensions.pipelining
    }

    /// Hands several mails over, on a connection that worked just now. Each has `limit` for its answers.
    pub async fn deliver_together(&mut self, mails: &[Built], server: &Server, limit: Duration) -> Together {
        let announced = mails.iter().map_while(|mail| Some((mail, self.mail_parameters(mail).ok()?)));
        let announced: Vec<Announced<'_>> = announced.collect();
        if announced.len() < 2 {
            return Together { delivered: Vec::new(), usable: true };
        }
        // Nothing is said of any mail yet: whatever stands in the way, another connection takes them.
        if !matches!(timeout(limit / 3, self.reset(None)).await, Ok(Ok(()))) {
            return Together { delivered: Vec::new(), usable: false };
        }
        if self.takes_whole_mails() {
            self.deliver_whole(&announced, server, limit).await
        } else {
            self.deliver_in_a_row(&announced, server, limit).await
        }
    }

    /// Whole mails in one write, and then all answers (RFC 3030 section 4.2).
    async fn deliver_whole(&mut self, mails: &[Announced<'_>], server: &Server, limit: Duration) -> Together {
        let overdue = |_| SendError::timed_out(server, Stage::Content, limit);
        let mut unwritten = timeout(limit, self.write_whole(mails)).await.map_err(overdue).flatten().err();
        let mut delivered = Vec::with_capacity(mails.len());
        let mut usable = true;
        while delivered.len() < mails.len() {
            let outcome = match unwritten.take() {
                Some(error) => {
                    usable = false;
                    Err(error)
                }
                None => timeout(limit, self.next_answer(delivered.is_empty())).await.map_err(overdue).flatten(),
            };
            usable &= is_usable_after(&outcome);
            delivered.push(outcome);
            if !usable {
                let why = "the connection ended with the mail before this one";
                let with_another = SendError { with_another: true, ..SendError::lost(Stage::Content, why) };
                delivered.resize(mails.len(), Err(with_another));
            }
        }
        Together { delivered, usable }
    }

    /// Writes mails with all their commands.
    pub(super) async fn write_whole(&mut self, mails: &[Announced<'_>]) -> Result<(), SendError> {
        self.write_gathered(Stage::Content, |output| {
            for (n, (mail, parameters)) in mails.iter().enumerate() {
                // The one before may have been refused midway.
                let reset = if n == 0 { "" } else { "RSET\r\n" };
                let (from, to, size) = (mail.envelope.from(), mail.envelope.to(), mail.bytes.len());
                let commands =
                    format!("{reset}MAIL FROM:<{from}>{parameters}\r\nRCPT TO:<{to}>\r\nBDAT {size} LAST\r\n");
                output.extend_from_slice(commands.as_bytes());
                output.extend_from_slice(&mail.bytes);
            }
        })
        .await
    }

    /// What becomes of the next of several whole mails.
    async fn next_answer(&mut self, is_first: bool) -> Delivered {
        let mut stage = Stage::Content;
        if !is_first {
            // What is left of one that was refused, and then to RSET.
            for _ in 0..self.owed {
                self.read(stage).await?;
            }
            let reset = self.read(stage).await?;
            expect(Stage::Reset, &reset, reset.code == 250)?;
        }
        self.answer_to_whole(&mut stage).await
    }

    /// Each mail's commands with the message of the one before (RFC 2920 section 3.1).
    async fn deliver_in_a_row(&mut self, mails: &[Announced<'_>], server: &Server, limit: Duration) -> Together {
        let mut delivered = Vec::with_capacity(mails.len());
        let mut said = false;
        for (n, mail) in mails.iter().enumerate() {
            let behind = mails.get(n + 1).map(|(next, parameters)| in_one(&commands(next, parameters)));
            let mut stage = Stage::Mail;
            let step = async {
                if !said {
                    self.reset(None).await?;
                }
                self.deliver_by_steps(*mail, said, behind.as_deref().unwrap_or_default(), None, &mut stage).await
            };
            let step = timeout(limit, step).await;
            let outcome = step.unwrap_or_else(|_| Err(SendError::timed_out(server, stage, limit)));
            said = stage == Stage::Content;
            let usable = is_usable_after(&outcome);
            // One whose message was not sent is not begun: another connection takes it.
            if usable || said {
                delivered.push(outcome);
            }
            if !usable {
                return Together { delivered, usable };
            }
        }
        Together { delivered, usable: true }
    }
}
