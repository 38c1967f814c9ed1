//! Answers read-only commands, each on a connection of its own if it needs one.

use std::collections::BTreeSet;

use crate::commands::Ready;
use crate::commands::query::{QueryContext, Unanswered};
use crate::crash_point::panic_point;
use crate::domain::access::{ActorName, Sender, authorise};
use crate::store::{self, OnDemand};

use super::Engine;
use super::batch::Ended;
use super::guard::guarded_future;
use super::incoming::Incoming;
use super::reply;

impl Engine {
    /// Answers a query.
    ///
    /// # Errors
    /// [`store::Error::Unavailable`].
    pub(super) async fn answer(&self, incoming: &Incoming) -> Result<Ended, store::Error> {
        let message_id = incoming.delivery.properties.message_id.as_deref();
        let answered = match guarded_future("answering it", self.try_answer(incoming)).await {
            Ok(answered) => answered,
            Err(panicked) => return Ok(Ended::Failed(panicked.to_string())),
        };
        match answered {
            Ok(reply) => Ok(Ended::Answered(reply::done(message_id, reply))),
            Err(Unanswered::Rejected(rejection)) => Ok(Ended::Answered(reply::refused(message_id, &rejection, &[]))),
            Err(Unanswered::Store(error @ store::Error::Unavailable(_))) => {
                self.of_one_command(error).await.map(Ended::Failed)
            }
            Err(Unanswered::Store(error @ store::Error::Locked(_))) => {
                self.locked_table().await.map(|()| Ended::Postponed(error.to_string()))
            }
            Err(Unanswered::Store(error)) => Ok(Ended::Failed(error.to_string())),
        }
    }

    async fn try_answer(&self, incoming: &Incoming) -> Result<crate::commands::Reply, Unanswered> {
        panic_point("query", incoming.delivery.properties.message_id.as_deref());
        let snapshot = self.snapshot();
        let now = crate::clock::now();
        // Closed never, so there is always a place in the end.
        let _place = self.query_places.acquire().await;
        let mut connection = OnDemand::new(&self.pool);
        let config = &snapshot.config;
        let actor = match &incoming.parsed.envelope.actor {
            Some(ActorName::Id(id)) => {
                store::accounts::load(connection.get().await?, &BTreeSet::from([id.clone()]), false).await?.pop()
            }
            _ => None,
        };
        let named = incoming.parsed.envelope.actor.as_ref();
        let sender = Sender { name: &incoming.publisher, rules: config.publishers.get(&incoming.publisher) };
        let may = |command: &str, audience| authorise(command, audience, sender, named, actor.as_ref(), &config.roles);
        let authority = may(incoming.spec.name, incoming.spec.audience)?;
        match &incoming.parsed.ready {
            Ok(Ready::Query(query)) => {
                let env = snapshot.environment();
                query.answer(QueryContext { env, now, authority, may: &may, connection }).await
            }
            Ok(Ready::Command(_)) => {
                Err(Unanswered::Store(store::Error::Failed("a command came into the lane of queries".to_owned())))
            }
            Err(unopened) => Err(unopened.rejection.clone().into()),
        }
    }
}
