//! The last thing that happens to a delivery: it is acknowledged, or goes back.

use crate::broker::{Consumer, Gone};

use super::delayed_replies::{DelayedReplies, DelayedReply};

/// What becomes of a delivery now that everything else is done.
pub enum Disposition {
    /// It is acknowledged.
    Done(u64),
    /// It goes back to its queue.
    Returned(u64),
    /// It is answered, and acknowledged, at a later moment.
    Delayed(Box<DelayedReply>),
}

/// Acknowledges what is done, and gives back what is not; says whether there was any.
///
/// # Errors
/// When the channel is gone: what was not acknowledged comes again.
pub async fn settle(
    consumer: &Consumer,
    delayed: &mut DelayedReplies,
    dispositions: Vec<Disposition>,
) -> Result<bool, Gone> {
    let (mut done, mut waiting, mut returned) = (Vec::with_capacity(dispositions.len()), Vec::new(), Vec::new());
    for disposition in dispositions {
        match disposition {
            Disposition::Done(tag) => done.push(tag),
            Disposition::Delayed(reply) => waiting.push(*reply),
            Disposition::Returned(tag) => returned.push(tag),
        }
    }
    // Before any frame that could acknowledge them along with others.
    for tag in &returned {
        consumer.requeue(*tag).await?;
    }
    delayed.returned(&returned).await;
    delayed.settle(&done, waiting).await?;
    Ok(!returned.is_empty())
}
