//! Events that a decision wants told.

/// An event as it waits in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedEvent {
    /// The id of the person it is about.
    pub subject: String,
    /// The routing key.
    pub name: &'static str,
    /// The `CloudEvent`, as it will be published.
    pub body: String,
}
