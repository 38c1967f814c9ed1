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

/// Acknowledges what is done, with one frame if no earlier delivery waits for its answer, and gives back what is not; says
/// whether there was any.
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
    held.settle(&done, waiting).await?;
    Ok(returned)
}
