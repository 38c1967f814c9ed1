//! The page's server. It answers this machine only, to addresses of this machine only, and reads nothing but the templates.
//!
//! What could go wrong on a workstation: another machine looks in (it listens on loopback only); a web page that the
//! editor has open elsewhere reads from here, by a name that it lets point to 127.0.0.1 (the `Host` is checked); a
//! template that somebody sent holds scripts (mail is shown in a sandboxed frame, and its Content-Security-Policy allows
//! no scripts, no forms and nothing from the network).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Asked, Email};
use super::assets;
use super::studio::Studio;

/// The page's content security policy: its own files only, nothing inline, no strings that become code or markup.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// A mail's content security policy: styles and embedded pictures only. It keeps this origin, so that the page can measure it;
/// without scripts the mail cannot make use of that.
const MAIL_POLICY: &str = "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
     font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

#[derive(Clone)]
struct Shared {
    studio: Arc<Studio>,
    /// The id of this process: the page must not compare revisions with those of an earlier one.
    process: u64,
    stop: CancellationToken,
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, studio: Arc<Studio>, process: u64, stop: CancellationToken) {
    let shared = Shared { studio, process, stop: stop.clone() };
    // It ends by `stop` only: a connection that fails is no error of the server.
    let _ = axum::serve(listener, router(shared)).with_graceful_shutdown(stop.cancelled_owned()).await;
}

fn router(shared: Shared) -> Router {
    let mut router = Router::new()
        .route("/api/overview", get(overview))
        .route("/api/mail/{template}", get(mail))
        .route("/api/changes", get(changes))
        .route("/mail/{template}", get(frame))
        .route("/message/{template}", get(download))
        .fallback(async || (StatusCode::NOT_FOUND, "There is nothing here. The page is at /.\n"));
    for asset in &assets::ALL {
        let answer = async || ([(header::CONTENT_TYPE, asset.content_type)], asset.text);
        router = router.route(asset.path, get(answer));
    }
    router.layer(middleware::from_fn(guard)).with_state(shared)
}

/// Turns away what does not come from a page of this server, and puts the rules for browsers on every answer.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PAGE_POLICY));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "Nothing can be changed here.\n"));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_this_machine) {
        let reason = "This page answers to localhost, 127.0.0.1 and [::1] only.\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, reason));
    }
    let from = headers.get("sec-fetch-site").and_then(|from| from.to_str().ok());
    let opened = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if matches!(from, Some("cross-site" | "same-site")) && !opened {
        return Some((StatusCode::FORBIDDEN, "Another site asked for this.\n"));
    }
    None
}

/// Whether a `Host` is one that no name server can have made up. The port may be another: that of a tunnel.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn asked(query: Option<String>) -> Asked {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

fn json(answer: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

fn not_found(reason: impl std::fmt::Display) -> Response {
    (StatusCode::NOT_FOUND, format!("{reason}\n")).into_response()
}

async fn overview(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let snapshot = shared.studio.snapshot();
    answer::overview(&shared.studio, &snapshot, &asked(query)).map_or_else(not_found, |found| json(&found))
}

/// Runs `show` on the email that an address names.
fn with_email(
    shared: &Shared,
    template: &str,
    query: Option<String>,
    show: impl FnOnce(&Email<'_>) -> Response,
) -> Response {
    let snapshot = shared.studio.snapshot();
    match answer::choice(&asked(query), template, &snapshot) {
        Ok(choice) => show(&Email::new(&shared.studio, &snapshot, choice)),
        Err(unknown) => not_found(unknown),
    }
}

async fn mail(State(shared): State<Shared>, Path(template): Path<String>, RawQuery(query): RawQuery) -> Response {
    with_email(&shared, &template, query, |email| json(&email.json()))
}

async fn frame(State(shared): State<Shared>, Path(template): Path<String>, RawQuery(query): RawQuery) -> Response {
    with_email(&shared, &template, query, |email| match &email.rendered {
        Ok(rendered) => {
            let headers =
                [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, MAIL_POLICY)];
            // A link that is clicked would open in a new window, which the sandbox does not allow: nothing happens.
            (headers, format!("{}<base target=\"_blank\">", rendered.html)).into_response()
        }
        Err(reason) => not_found(reason),
    })
}

async fn download(State(shared): State<Shared>, Path(template): Path<String>, RawQuery(query): RawQuery) -> Response {
    with_email(&shared, &template, query, |email| match email.message() {
        Ok(message) => {
            let name = format!("attachment; filename=\"{}.eml\"", email.file_name());
            let headers = [(header::CONTENT_TYPE, "message/rfc822"), (header::CONTENT_DISPOSITION, name.as_str())];
            (headers, message.bytes).into_response()
        }
        Err(reason) => not_found(reason),
    })
}

/// Tells the page the present revision, and each new one.
async fn changes(State(shared): State<Shared>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (changes, process, stop) = (shared.studio.changes(), shared.process, shared.stop);
    let stream = stream::unfold((changes, true), move |(mut changes, first)| {
        let stop = stop.clone();
        async move {
            if !first {
                stop.run_until_cancelled(changes.changed()).await?.ok()?;
            }
            let revision = *changes.borrow_and_update();
            let event = Event::default().event("revision").data(format!("{process}.{revision}"));
            Some((Ok(event), (changes, false)))
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

#[cfg(test)]
mod tests;
