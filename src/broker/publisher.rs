//! Publishing with confirms: each message's fate is known, or known to be unknown.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::maybe_done;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::error::{self, PublishError};
use super::message::{Outgoing, Properties, TooLong, short};
use super::session::{Session, close};

/// How many messages are on their way before their confirms are awaited.
pub(super) const BATCH: usize = 256;
/// How long a batch may take to be confirmed.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Fate = Result<(), PublishError>;

/// One call of `publish` on one session: what is to be sent, and what has become of each so far.
pub(super) struct Run<'a> {
    messages: &'a [Outgoing],
    fates: Vec<Option<Fate>>,
}

/// How a batch went.
enum Went {
    /// Every message of the batch has its fate, and the channel is well.
    Well,
    /// The channel is closed. What has no fate may be sent again, on another one, without harm.
    Again,
    /// The connection is gone or does not answer. What comes after must not overtake what is unknown.
    Wrong(String),
}

impl<'a> Run<'a> {
    pub(super) fn new(messages: &'a [Outgoing]) -> Self {
        Self { messages, fates: messages.iter().map(|_| None).collect() }
    }

    /// The fates in the order of the messages; what has none was not sent, for `reason`.
    pub(super) fn finish(self, reason: &str) -> Vec<Fate> {
        let unavailable = || Err(PublishError::Unavailable(reason.to_owned()));
        self.fates.into_iter().map(|fate| fate.unwrap_or_else(unavailable)).collect()
    }

    /// Sends everything, in order.
    pub(super) async fn send(mut self, session: &Session) -> Vec<Fate> {
        self.refuse_foreign_users(session).await;
        let mut fruitless = 0;
        loop {
            let waiting: Vec<usize> =
                (0..self.messages.len()).filter(|&index| self.fates[index].is_none()).take(BATCH).collect();
            if waiting.is_empty() {
                return self.finish("");
            }
            let channel = match session.confirming_channel().await {
                Ok(channel) => channel,
                Err(error) => return self.finish(&error::explain(&error)),
            };
            match self.send_batch(session, &channel, &waiting).await {
                // A quorum queue that was full stays so for the channels that it refused, even when its limit is lifted.
                Went::Well if self.was_refused_by_a_queue(&waiting) => close(&channel).await,
                Went::Well => session.give_back(channel),
                Went::Again => {}
                Went::Wrong(reason) => return self.finish(&reason),
            }
            let progress = waiting.iter().any(|&index| self.fates[index].is_some());
            fruitless = if progress { 0 } else { fruitless + 1 };
            if fruitless == 3 {
                return self.finish("the broker closes each channel before anything is sent");
            }
        }
    }

    /// Sends everything in one batch on a channel of the caller's.
    pub(super) async fn send_on(mut self, session: &Session, channel: &Channel) -> Vec<Fate> {
        self.refuse_foreign_users(session).await;
        let waiting: Vec<usize> = (0..self.messages.len()).filter(|&index| self.fates[index].is_none()).collect();
        self.send_batch(session, channel, &waiting).await;
        self.finish("the channel was closed")
    }

    /// A foreign `user_id` closes the channel, with everything on it that is not confirmed yet. So such messages
    /// are not sent when the broker user is known not to be allowed to.
    async fn refuse_foreign_users(&mut self, session: &Session) {
        let Some(own) = session.user() else { return };
        let foreign: Vec<usize> = (0..self.messages.len())
            .filter(|&index| self.messages[index].properties.user_id.as_deref().is_some_and(|user| user != own))
            .collect();
        if foreign.is_empty() || !matches!(session.can_impersonate().await, Ok(false)) {
            return;
        }
        for index in foreign {
            self.fates[index] = Some(Err(PublishError::Refused {
                code: 406,
                reason: format!(
                    "the broker user `{own}` may not publish with the user_id `{}`; it needs the tag impersonator \
                     (rabbitmqctl set_user_tags {own} impersonator)",
                    self.messages[index].properties.user_id.as_deref().unwrap_or_default(),
                ),
            }));
        }
    }

    async fn send_batch(&mut self, session: &Session, channel: &Channel, waiting: &[usize]) -> Went {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let mut trouble = Trouble::default();
        let messages = self.messages;
        let mut sending = Vec::with_capacity(waiting.len());
        for &index in waiting {
            // Polled once, it has its place in the order of sending. Waiting for each to be written before the next is
            // several times slower.
            let mut send = Box::pin(maybe_done(publish_one(session, channel, &messages[index])));
            poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx).is_ready())).await;
            match send.as_mut().output_mut() {
                Some(Err(Failure::NotSent(error))) => self.fates[index] = Some(Err(error.clone())),
                Some(Err(Failure::Channel(error))) => {
                    trouble.found_closed = true;
                    trouble.saw(error.clone());
                    break;
                }
                Some(Ok(_)) | None => sending.push((index, send)),
            }
        }
        let mut returned = Vec::new();
        for (index, mut send) in sending {
            let confirmed = async {
                send.as_mut().await;
                match send.as_mut().take_output() {
                    Some(Ok(confirm)) => confirm.await,
                    Some(Err(Failure::Channel(error))) => Err(error),
                    Some(Err(Failure::NotSent(_))) | None => Ok(Confirmation::NotRequested),
                }
            };
            match timeout_at(deadline, confirmed).await {
                Ok(Ok(Confirmation::Ack(message))) => {
                    returned.extend(message);
                    self.fates[index] = Some(Ok(()));
                }
                Ok(Ok(Confirmation::Nack(message))) => {
                    returned.extend(message);
                    self.fates[index] = Some(Err(PublishError::Nacked));
                }
                Ok(Ok(Confirmation::NotRequested)) => trouble.unresolved.push(index),
                Ok(Err(error)) => {
                    trouble.unresolved.push(index);
                    trouble.saw(error);
                }
                Err(_) => {
                    trouble.unresolved.push(index);
                    trouble.timed_out = true;
                }
            }
        }
        let unroutable = !returned.is_empty();
        for message in returned {
            self.mark_unroutable(waiting, &message);
        }
        let went = self.judge(&trouble);
        if unroutable || self.refused_for_missing_exchange(waiting) {
            // Something of ours may have been deleted.
            if let Err(problem) = session.declare().await {
                warn!("{}", problem.text);
            }
        }
        went
    }

    /// Finds the message that was returned. lapin hangs a returned message on whichever confirm comes next, which
    /// need not be its own: quorum queues confirm late and out of order.
    fn mark_unroutable(&mut self, waiting: &[usize], returned: &BasicReturnMessage) {
        let message_id = returned.properties.message_id().as_ref().map(lapin::types::ShortString::as_str);
        let found = waiting.iter().copied().find(|&index| {
            let message = &self.messages[index];
            matches!(self.fates[index], Some(Ok(()) | Err(PublishError::Nacked)))
                && message.mandatory
                && message.exchange == returned.exchange.as_str()
                && message.routing_key == returned.routing_key.as_str()
                && message.properties.message_id.as_deref() == message_id
                && message.body == returned.data
        });
        if let Some(index) = found {
            self.fates[index] = Some(Err(PublishError::Unroutable {
                exchange: returned.exchange.to_string(),
                routing_key: returned.routing_key.to_string(),
            }));
        }
    }

    /// Decides about the messages that were sent and neither confirmed nor refused by name.
    fn judge(&mut self, trouble: &Trouble) -> Went {
        if trouble.is_none() {
            return Went::Well;
        }
        let reason = match &trouble.error {
            _ if trouble.timed_out => format!("RabbitMQ did not confirm within {} s", CONFIRM_TIMEOUT.as_secs()),
            Some(error) => error::explain(error),
            None => "the channel gives no confirms".to_owned(),
        };
        let refusal = trouble.error.as_ref().filter(|error| !trouble.timed_out && error::is_soft(error));
        let culprit = refusal.and_then(error::protocol).and_then(|(code, text)| {
            let at = trouble.unresolved.iter().position(|&index| is_culprit(&self.messages[index], code, text))?;
            Some((at, code, text))
        });
        let Some((at, code, text)) = culprit else {
            self.doubt(&trouble.unresolved, &reason);
            return if refusal.is_some() || trouble.found_closed { Went::Again } else { Went::Wrong(reason) };
        };
        // The broker takes messages in order and nothing after the one that made it close the channel: those before
        // it are in doubt, those after it were certainly not taken and may be sent again.
        let (before, from) = trouble.unresolved.split_at(at);
        self.doubt(before, &reason);
        // Nor would it take others like that one, sent or not: each would close a channel again, and put those before it in doubt.
        for index in from[0]..self.messages.len() {
            if self.fates[index].is_none() && is_culprit(&self.messages[index], code, text) {
                self.fates[index] = Some(Err(PublishError::Refused { code, reason: text.to_owned() }));
            }
        }
        Went::Again
    }

    fn was_refused_by_a_queue(&self, waiting: &[usize]) -> bool {
        waiting.iter().any(|&index| matches!(self.fates[index], Some(Err(PublishError::Nacked))))
    }

    fn doubt(&mut self, indexes: &[usize], reason: &str) {
        for &index in indexes {
            self.fates[index] = Some(Err(PublishError::Unknown(reason.to_owned())));
        }
    }

    fn refused_for_missing_exchange(&self, waiting: &[usize]) -> bool {
        waiting.iter().any(|&index| matches!(self.fates[index], Some(Err(PublishError::Refused { code: 404, .. }))))
    }
}

/// What went wrong with a batch.
#[derive(Default)]
struct Trouble {
    /// Sent, perhaps, and not confirmed, in the order of sending.
    unresolved: Vec<usize>,
    /// The most telling error.
    error: Option<lapin::Error>,
    /// The channel had been closed before; what was to follow was not sent.
    found_closed: bool,
    timed_out: bool,
}

impl Trouble {
    fn saw(&mut self, error: lapin::Error) {
        if self.error.is_none() || error.is_amqp_error() {
            self.error = Some(error);
        }
    }

    fn is_none(&self) -> bool {
        self.error.is_none() && !self.timed_out && self.unresolved.is_empty()
    }
}

enum Failure {
    /// It cannot be put into AMQP; nothing was sent and the channel is well.
    NotSent(PublishError),
    Channel(lapin::Error),
}

async fn publish_one(session: &Session, channel: &Channel, message: &Outgoing) -> Result<PublisherConfirm, Failure> {
    let not_sent = |error: TooLong| Failure::NotSent(error.into());
    let exchange = short("the exchange's name", &message.exchange).map_err(not_sent)?;
    let routing_key = short("the routing key", &message.routing_key).map_err(not_sent)?;
    let properties = message.properties.to_lapin(message.persistent).map_err(not_sent)?;
    fits(session, &message.properties).map_err(Failure::NotSent)?;
    let options = BasicPublishOptions { mandatory: message.mandatory, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange, routing_key, options, &message.body, properties).await.map_err(Failure::Channel)
}

/// Properties are one frame; a larger one would make the broker close the whole connection.
pub(super) fn fits(session: &Session, properties: &Properties) -> Result<(), PublishError> {
    /// Frame type, channel, size, end marker.
    const FRAME: usize = 8;
    let (size, max) = (properties.encoded_len() + FRAME, session.frame_max());
    if size > max {
        return Err(PublishError::refused(format!(
            "its properties and headers take {size} bytes, and no more than {max} fit into a frame"
        )));
    }
    Ok(())
}

/// Whether it was this message that the broker closed the channel for. Its words are all there is to go by.
fn is_culprit(message: &Outgoing, code: u16, text: &str) -> bool {
    let names = |prefix: &str, name: &str| text.contains(&format!("{prefix} '{name}'"));
    match code {
        403 if text.contains("access to topic '") => {
            names("topic", &message.routing_key) && names("exchange", &message.exchange)
        }
        403 | 404 => names("exchange", &message.exchange),
        406 => {
            message.properties.user_id.as_deref().is_some_and(|user| names("user_id property set to", user))
                || message
                    .properties
                    .expiration
                    .as_deref()
                    .is_some_and(|expiration| text.contains("expiration") && text.contains(expiration))
                || text.contains(&format!("message size {} ", message.body.len()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_published_to_a_topic_is_told_from_what_may() {
        let to = |exchange: &str, routing_key: &str| Outgoing {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            ..Outgoing::default()
        };
        let topic =
            "ACCESS_REFUSED - access to topic 'email.sent' in exchange 'events' in vhost '/' refused for user 'shop'";
        let exchange = "ACCESS_REFUSED - write access to exchange 'events' in vhost '/' refused for user 'shop'";
        let are_culprits = |text| {
            [to("events", "email.sent"), to("events", "email.failed"), to("others", "email.sent")]
                .map(|message| is_culprit(&message, 403, text))
        };
        assert_eq!(are_culprits(topic), [true, false, false]);
        assert_eq!(are_culprits(exchange), [true, true, false]);
    }
}
