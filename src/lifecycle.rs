//! Signals: SIGTERM and SIGINT stop, SIGHUP reloads.

pub mod notify;

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen: from now on none of them ends the process by itself.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop. Cancel-safe.
    pub fn stop(&mut self) -> impl Future<Output = ()> + '_ {
        let Self { terminate, interrupt, .. } = self;
        async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    }

    /// Waits for a signal to stop (`true`) or to reload (`false`). Cancel-safe.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.hangup.recv() => false,
        }
    }
}
