//! A proxy before PostgreSQL that writes down every statement which passes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A statement as the daemon prepared it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    pub text: String,
    /// Object ids of the parameters' types; 0 is for the server to find out.
    pub parameters: Vec<u32>,
}

/// A running sniffer.
pub struct Sniffer {
    pub address: String,
    seen: Arc<Mutex<BTreeSet<Statement>>>,
    accepting: JoinHandle<()>,
}

impl Sniffer {
    /// In front of `upstream` (host:port).
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let accepting = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&upstream).await.unwrap();
                    let (mut from_server, to_server) = server.into_split();
                    let (from_client, mut to_client) = client.into_split();
                    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
                    tokio::spawn(forward(from_client, to_server, Arc::clone(&seen)));
                }
            }
        });
        Self { address, seen, accepting }
    }

    /// Every statement so far.
    pub fn seen(&self) -> Vec<Statement> {
        self.seen.lock().unwrap().iter().cloned().collect()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The first messages (a wish for TLS, which the server declines; the start) have no letter before their length.
async fn forward(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, seen: Arc<Mutex<BTreeSet<Statement>>>) {
    const VERSION_3: [u8; 4] = [0, 3, 0, 0];
    let mut started = false;
    loop {
        let mut head = vec![0; if started { 5 } else { 4 }];
        if client.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        if client.read_exact(&mut body).await.is_err() {
            return;
        }
        if !started {
            started = body.starts_with(&VERSION_3);
        } else if head[0] == b'P' {
            seen.lock().unwrap().extend(parse(&body));
        }
        if server.write_all(&head).await.is_err() || server.write_all(&body).await.is_err() {
            return;
        }
    }
}

/// The message `Parse`: name, text, number of types, types.
fn parse(body: &[u8]) -> Option<Statement> {
    let mut parts = body.splitn(3, |byte| *byte == 0);
    let (_, text, types) = (parts.next()?, parts.next()?, parts.next()?);
    let parameters = types.get(2..)?.chunks_exact(4).map(|id| u32::from_be_bytes(id.try_into().unwrap()));
    Some(Statement { text: String::from_utf8(text.to_vec()).ok()?, parameters: parameters.collect() })
}
