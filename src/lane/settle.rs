//! The last thing that happens to a delivery: it is acknowledged, or goes back.

use crate::broker::{Consumer, Gone};

use super::held::{Held, HeldReply};

/// What becomes of a delivery now that everything else is done.
pub enum Fate {
    /// It is acknowledged.
    Done(u64),
    /// It goes back to its queue.
    Returned(u64),
    /// It is answered, and acknowledged, at a later moment.
    Held(Box<HeldReply>),
}

/// Acknowledges what is done, with one frame if no earlier delivery waits for its answer, and gives the rest back; says whether
/// there was any.
///
/// # Errors
/// When the channel is gone: what was not acknowledged comes again.
pub async fn settle(consumer: &Consumer, held: &mut Held, fates: Vec<Fate>) -> Result<bool, Gone> {
    let (mut done, mut waiting) = (Vec::with_capacity(fates.len()), Vec::new());
    let mut returned = false;
    for fate in fates {
        match fate {
            Fate::Done(tag) => done.push(tag),
            Fate::Held(reply) => waiting.push(*reply),
            Fate::Returned(tag) => {
                consumer.requeue(tag).await?;
                returned = true;
            }
        }
    }
    held.hold(waiting);
    let first = held.first().unwrap_or(u64::MAX);
    if let Some(tag) = done.iter().filter(|tag| **tag < first).max() {
        consumer.ack_through(*tag).await?;
    }
    for tag in done.into_iter().filter(|tag| *tag > first) {
        consumer.ack(tag).await?;
    }
    Ok(returned)
}
