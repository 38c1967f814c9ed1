//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Small on purpose: a connection serves one request, which must arrive within two seconds and be answered within ten; no body is
//! read, and at most 256 connections are served at once. So nobody can use up the daemon's memory or time through this port, and
//! connections that send nothing do not keep probes from being answered.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::metrics::{self, Metrics};

/// Limits for what clients may use.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections that are served at once; others wait to be accepted.
    connections: usize,
    /// The time for the request's head, from the connection on.
    request: Duration,
    /// The time for a whole connection, from its first byte to its last.
    timeout: Duration,
}

const LIMITS: Limits = Limits { connections: 256, request: Duration::from_secs(2), timeout: Duration::from_secs(10) };

/// The longest request, in bytes.
const MAX_REQUEST: usize = 16 * 1024;

/// Something that keeps the daemon from doing its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `broker`, `database`, `templates`, or a loop: `mail sender`, `state lane, worker 1` …
    pub what: Cow<'static, str>,
    /// The reason, for an operator; without secrets.
    pub reason: String,
}

/// What the endpoints show. Everything answers at once, from what is known; nothing does I/O.
#[derive(Clone)]
pub struct HttpState {
    /// The metrics that `/metrics` shows.
    pub metrics: Metrics,
    /// The problems that `/readyz` lists; none if all is well.
    pub readiness: Arc<dyn Fn() -> Vec<Problem> + Send + Sync>,
    /// The loops that do not run, for `/healthz`; none if all do.
    pub health: Arc<dyn Fn() -> Vec<Problem> + Send + Sync>,
    /// Brings gauges up to date before they are shown.
    pub before_scrape: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

/// Serves until `shutdown` is over, and then what is being served, for ten seconds at most.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: impl Future<Output = ()>) {
    serve_within(LIMITS, listener, router(state), shutdown).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            // Never closed, so never an error.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly a lack of file descriptors: trying again at once would only use up a core.
                tracing::warn!(%error, "cannot accept a connection on http.listen");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut http = http1::Builder::new();
            http.keep_alive(false)
                .timer(TokioTimer::new())
                .header_read_timeout(limits.request)
                .max_buf_size(MAX_REQUEST);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            // A peer that is slow or speaks something else is its own problem.
            let _ = tokio::time::timeout(limits.timeout, connection).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

fn router(state: HttpState) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .fallback(async || (StatusCode::NOT_FOUND, "There is nothing here. Try /metrics, /healthz or /readyz.\n"))
        .with_state(state)
}

async fn show_metrics(State(state): State<HttpState>) -> Response {
    (state.before_scrape)();
    match state.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be shown");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be shown: {error}\n")).into_response()
        }
    }
}

async fn show_health(State(state): State<HttpState>) -> Response {
    let problems = (state.health)();
    judged(&problems, &json!({ "healthy": problems.is_empty(), "problems": problems }))
}

async fn show_readiness(State(state): State<HttpState>) -> Response {
    let problems = (state.readiness)();
    judged(&problems, &json!(problems))
}

fn judged(problems: &[Problem], body: &Value) -> Response {
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Known;
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    struct Server {
        address: SocketAddr,
        problems: Arc<Mutex<Vec<Problem>>>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    async fn server() -> Server {
        server_within(LIMITS).await
    }

    async fn server_within(limits: Limits) -> Server {
        let known = Known { version: "1", commands: &[], templates: &[], dead_letter_reasons: &[] };
        let metrics = Metrics::new(&known).unwrap();
        let problems: Arc<Mutex<Vec<Problem>>> = Arc::default();
        let (found, health, scraped) = (Arc::clone(&problems), Arc::clone(&problems), metrics.clone());
        let state = HttpState {
            metrics,
            readiness: Arc::new(move || found.lock().unwrap().clone()),
            health: Arc::new(move || {
                let sick = |problem: &&Problem| problem.what.contains("lane");
                health.lock().unwrap().iter().filter(sick).cloned().collect()
            }),
            before_scrape: Arc::new(move || scraped.events_pending(7, None)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve_within(limits, listener, router(state), async { drop(stopped.await) }));
        Server { address, problems, stop, task }
    }

    impl Server {
        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            // A server that refuses a request may reset the connection after its reply.
            let _ = stream.read_to_string(&mut reply).await;
            reply
        }

        async fn get(&self, path: &str) -> String {
            self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
        }
    }

    fn problem(what: &'static str) -> Problem {
        Problem { what: what.into(), reason: "connection refused".to_owned() }
    }

    #[tokio::test]
    async fn metrics_are_brought_up_to_date_and_shown() {
        let reply = server().await.get("/metrics").await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{reply}");
        assert!(reply.contains("\nregrant_events_pending 7\n"), "{reply}");
    }

    #[tokio::test]
    async fn readiness_names_what_is_wrong() {
        let server = server().await;
        let ready = server.get("/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200 OK\r\n") && ready.ends_with("\r\n\r\n[]\n"), "{ready}");
        server.problems.lock().unwrap().push(problem("broker"));
        let ready = server.get("/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("content-type: application/json\r\n"), "{ready}");
        let named = r#"[{"what":"broker","reason":"connection refused"}]"#;
        assert!(ready.ends_with(&format!("\r\n\r\n{named}\n")), "{ready}");
        assert!(
            server.get("/healthz").await.starts_with("HTTP/1.1 200 OK\r\n"),
            "a broker that is away is no reason to restart"
        );
    }

    #[tokio::test]
    async fn health_says_which_loop_has_stopped() {
        let server = server().await;
        let healthy = server.get("/healthz").await;
        assert!(healthy.ends_with("\r\n\r\n{\"healthy\":true,\"problems\":[]}\n"), "{healthy}");
        *server.problems.lock().unwrap() = vec![problem("broker"), problem("state lane, worker 1")];
        let reply = server.get("/healthz").await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("content-type: application/json\r\n"), "{reply}");
        let named = r#"{"healthy":false,"problems":[{"what":"state lane, worker 1","reason":"connection refused"}]}"#;
        assert!(reply.ends_with(&format!("{named}\n")), "{reply}");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let server = server().await;
        let lost = server.get("/").await;
        assert!(lost.starts_with("HTTP/1.1 404 ") && lost.contains("/metrics, /healthz or /readyz"), "{lost}");
        let posted = server.send("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await;
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
        let huge = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(1_000_000));
        assert!(!server.send(&huge).await.contains(" 200 "));
        assert!(!server.send("\u{16}\u{3}\u{1} hello TLS\r\n\r\n").await.contains(" 200 "));
        let head = server.send("HEAD /healthz HTTP/1.0\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    }

    #[tokio::test]
    async fn slow_peers_are_let_go() {
        let (soon, never) = (Duration::from_millis(300), Duration::from_secs(86_400));
        for (request, timeout) in [(soon, never), (never, soon)] {
            let server = server_within(Limits { connections: 2, request, timeout }).await;
            // All connections that are served at once: one never finishes its request, the other never begins one.
            let mut slow = Vec::new();
            for said in [&b"GET /metrics HTTP/1.1\r\nx: "[..], b""] {
                let mut stream = TcpStream::connect(server.address).await.unwrap();
                stream.write_all(said).await.unwrap();
                slow.push(stream);
            }
            assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK\r\n"));
            for mut stream in slow {
                let mut said = String::new();
                let _ = stream.read_to_string(&mut said).await;
                assert!(!said.contains(" 200 "), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn serving_ends_with_the_shutdown() {
        let server = server().await;
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK\r\n"));
        server.stop.send(()).unwrap();
        server.task.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
