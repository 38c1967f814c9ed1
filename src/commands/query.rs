//! Read-only commands: answered from the database as it is, never remembered.

use std::future::Future;
use std::pin::Pin;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::domain::access::{Audience, Authority};
use crate::domain::account::Account;
use crate::domain::rejection::{Code, Rejection};
use crate::store::{self, OnDemand};
use crate::world::Wants;

use super::Reply;
use super::body::UserName;
use super::context::{self, Environment};

/// Why a query was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// A rule refuses it.
    Rejected(Rejection),
    /// The database failed.
    Store(store::Error),
}

impl From<Rejection> for Unanswered {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<store::Error> for Unanswered {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// What a query is given.
pub struct QueryContext<'a> {
    /// Configuration, keys, templates.
    pub env: Environment<'a>,
    /// The time.
    pub now: DateTime<Utc>,
    /// In whose name it is asked.
    pub authority: Authority,
    /// In whose name its caller could send another command: [`QueryContext::may`].
    pub may: &'a MaySend<'a>,
    /// A connection to the database, for who needs one.
    pub connection: OnDemand<'a>,
}

/// Decides in whose name the caller of a query could send a command of this name.
pub type MaySend<'a> = dyn Fn(&str, Audience) -> Result<Authority, Rejection> + Send + Sync + 'a;

impl QueryContext<'_> {
    /// In whose name the caller could ask another query, if they could: one that anybody may ask can tell them more.
    pub fn may<Q: Query>(&self) -> Option<Authority> {
        (self.may)(Q::NAME, Q::AUDIENCE).ok()
    }

    /// The accounts that a name means.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&mut self, name: &UserName) -> Result<Vec<Account>, store::Error> {
        let wants = Wants { users: vec![name.clone()], ..Wants::default() };
        let world = store::world::load(self.connection.get().await?, &wants, false, self.now).await?;
        Ok(world.find(name).iter().filter_map(|id| world.account(id)).cloned().collect())
    }

    /// The one account that a name means, if the authority reaches it.
    ///
    /// # Errors
    /// `user_not_found`, `ambiguous_user`, `forbidden`, `forbidden_target`; or the database's.
    pub async fn target(&mut self, name: &UserName) -> Result<Account, Unanswered> {
        let mut found = self.find(name).await?;
        if found.len() > 1 {
            let refusal =
                Rejection::new(Code::AmbiguousUser, "several profiles share this email; name one by id or username");
            if !self.authority.is_administrative() {
                return Err(refusal.into());
            }
            let candidates = context::candidates(found.iter(), &self.authority, self.env.config);
            return Err(refusal.with("candidates", candidates).into());
        }
        let account = found.pop().ok_or_else(|| Rejection::new(Code::UserNotFound, "no profile has this name"))?;
        self.authority.may_act_on(&account, &self.env.config.roles)?;
        Ok(account)
    }
}

/// A read-only command.
pub trait Query: DeserializeOwned + Send + Sync + 'static {
    /// The routing key.
    const NAME: &'static str;
    /// Who may send it.
    const AUDIENCE: Audience;
    /// Fields that may be sealed.
    const SECRETS: &'static [&'static str] = &[];

    /// Answers.
    fn answer(&self, cx: QueryContext<'_>) -> impl Future<Output = Result<Reply, Unanswered>> + Send;
}

/// A [`Query`] behind a pointer.
pub trait Answer: Send + Sync {
    /// As [`Query::answer`].
    fn answer<'a>(
        &'a self,
        cx: QueryContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Unanswered>> + Send + 'a>>;
}

impl<Q: Query> Answer for Q {
    fn answer<'a>(
        &'a self,
        cx: QueryContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Unanswered>> + Send + 'a>> {
        Box::pin(Query::answer(self, cx))
    }
}
