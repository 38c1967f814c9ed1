//! `[http]`: metrics and health.

use std::net::{Ipv4Addr, SocketAddr};

use super::visit::{Section, Visitor};

/// `[http]`: the endpoint for `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone, Debug)]
pub struct Http {
    /// IP address and port. Default `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9464).into() }
    }
}

impl Section for Http {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("listen", &mut self.listen);
    }
}
