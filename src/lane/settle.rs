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

/// Acknowledges what is done, and gives back what is not; says whether there was any.
///
/// # Errors
/// When the channel is gone: what was not acknowledged comes again.
pub async fn settle(consumer: &Consumer, held: &mut Held, fates: Vec<Fate>) -> Result<bool, Gone> {
    let (mut done, mut waiting, mut returned) = (Vec::with_capacity(fates.len()), Vec::new(), Vec::new());
    for fate in fates {
        match fate {
            Fate::Done(tag) => done.push(tag),
            Fate::Held(reply) => waiting.push(*reply),
            Fate::Returned(tag) => returned.push(tag),
        }
    }
    // Before any frame that could acknowledge them along with others.
    for tag in &returned {
        consumer.requeue(*tag).await?;
    }
    held.returned(&returned).await;
    held.settle(&done, waiting).await?;
    Ok(!returned.is_empty())
}
