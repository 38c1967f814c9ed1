//! A TCP proxy that can break a connection in the ways networks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub struct Proxy {
    pub address: String,
    frozen: watch::Sender<bool>,
    /// Whether something came from a client while it was frozen.
    holding: Arc<AtomicBool>,
    delay: watch::Sender<Duration>,
    cut: broadcast::Sender<()>,
    inject: broadcast::Sender<Vec<u8>>,
    refusing: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of `upstream` (host:port).
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (frozen, freezing) = watch::channel(false);
        let (delay, delaying) = watch::channel(Duration::ZERO);
        let (cut, _) = broadcast::channel(1);
        let (inject, _) = broadcast::channel::<Vec<u8>>(16);
        let refusing = Arc::new(AtomicBool::new(false));
        let holding = Arc::new(AtomicBool::new(false));
        let accepting = tokio::spawn({
            let (cut, inject, refusing, holding) = (cut.clone(), inject.clone(), refusing.clone(), holding.clone());
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    if refusing.load(Ordering::SeqCst) {
                        continue;
                    }
                    let mut cut = cut.subscribe();
                    let (freezing, delaying, inject) = (freezing.clone(), delaying.clone(), inject.subscribe());
                    let (upstream, holding) = (upstream.clone(), holding.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = cut.recv() => {}
                            () = forward(client, upstream, freezing, holding, delaying, inject) => {}
                        }
                    });
                }
            }
        });
        Self { address, frozen, holding, delay, cut, inject, refusing, accepting }
    }

    pub async fn before_the_broker() -> Self {
        let url = url::Url::parse(&super::amqp_url()).unwrap();
        Self::start(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672))).await
    }

    pub fn url(&self, parameters: &str) -> String {
        super::url("guest", "guest", Some(&self.address), parameters)
    }

    /// Ends all connections.
    pub fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Keeps all connections open and passes nothing on, or goes on passing.
    pub fn freeze(&self, frozen: bool) {
        self.holding.store(false, Ordering::SeqCst);
        self.frozen.send_replace(frozen);
    }

    /// Whether a client has sent something since it was frozen.
    pub fn holds_back(&self) -> bool {
        self.holding.load(Ordering::SeqCst)
    }

    /// Delays each answer.
    pub fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// Closes new connections at once, or lets them through again.
    pub fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Sends `frame` to all clients, as if it came from the broker. Only while the broker itself is silent.
    pub fn inject(&self, frame: Vec<u8>) {
        let _ = self.inject.send(frame);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn forward(
    client: TcpStream,
    upstream: String,
    freezing: watch::Receiver<bool>,
    holding: Arc<AtomicBool>,
    delaying: watch::Receiver<Duration>,
    mut inject: broadcast::Receiver<Vec<u8>>,
) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut there = freezing.clone();
    let mut back = freezing;
    let upward = async {
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            if *there.borrow() {
                holding.store(true, Ordering::SeqCst);
            }
            let _ = there.wait_for(|frozen| !frozen).await;
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let downward = async {
        let mut buffer = vec![0; 65536];
        loop {
            tokio::select! {
                read = from_server.read(&mut buffer) => {
                    let Ok(read @ 1..) = read else { break };
                    let _ = back.wait_for(|frozen| !frozen).await;
                    let delay = *delaying.borrow();
                    tokio::time::sleep(delay).await;
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                Ok(frame) = inject.recv() => {
                    if to_client.write_all(&frame).await.is_err() {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}
