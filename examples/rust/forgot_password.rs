//! The "forgot password" pages of an app, without the HTML.
//!
//! - `forgot_password request EMAIL`: the page that asks for an address.
//! - `forgot_password reset`: the page behind the link in the mail. Reads the token from standard input, then a new
//!   password, and another one as long as the rules are broken.
//!
//! `AMQP_URL` is your app's own broker user; `REGRANT_PREFIX` is `broker.prefix` of the daemon.
//! Exit codes: 0 done, 1 refused, 2 wrong usage or set-up, 3 it is not known whether it was done.

#![expect(clippy::print_stdout, reason = "these are its pages")]
#![expect(clippy::disallowed_methods, reason = "a program of its own: the daemon's clock and ids are not for it")]

mod client;

use std::env;
use std::io::{self, BufRead as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use client::{Client, Error, Refusal};

/// The link in the mail is of no use any more. The message says why, in words for the person.
const DEAD_LINK: [&str; 5] = ["token_invalid", "token_expired", "token_used", "token_superseded", "token_revoked"];

#[tokio::main]
async fn main() -> ExitCode {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let url = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let client = match Client::new(&url, &variable("REGRANT_PREFIX", "regrant")) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("AMQP_URL cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["request", email] => request_reset(&client, email).await,
        ["reset"] => reset(&client).await,
        _ => {
            eprintln!("usage: forgot_password request EMAIL\n       forgot_password reset");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Call(Error::Refused(refusal))) if DEAD_LINK.contains(&refusal.code.as_str()) => {
            println!("{}", dead_link(&refusal));
            ExitCode::FAILURE
        }
        // Nothing that the person could mend: for your log. The person reads "try again later".
        Err(Failure::Call(error @ Error::Refused(_))) => {
            eprintln!("unexpected refusal: {error}");
            ExitCode::FAILURE
        }
        // Its effect is not known. The same page again is safe: a link that was used says so (`token_used`).
        Err(Failure::Call(error @ Error::NoReply { .. })) => {
            eprintln!("{error}. Please try again.");
            ExitCode::from(3)
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(2)
        }
    }
}

/// What ends a page early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] Error),
    #[error("standard input: {0}")]
    Input(#[from] io::Error),
}

/// The answer is the same for known and unknown addresses: the page must not tell more than the daemon does.
async fn request_reset(client: &Client, email: &str) -> Result<(), Failure> {
    client.call("password.reset.request", &json!({ "user": { "email": email }, "context": context() })).await?;
    println!("If {email} has an account, a mail with a link is on its way.");
    Ok(())
}

/// First looks whether the link is good, so that nobody types a password in vain. Looking does not use it up.
async fn reset(client: &Client) -> Result<(), Failure> {
    // Not an argument: those can be seen by everybody on the machine.
    let token = read_line()?;
    let token = token.trim();
    let link = client.call("password.reset.inspect", &json!({ "token": token, "context": context() })).await?;
    println!("Choose a new password for {}, until {}:", text(&link["username"]), text(&link["expires_at"]));
    for rule in link["policy"]["rules"].as_array().into_iter().flatten() {
        println!("  - {}", text(&rule["message"]));
    }
    loop {
        match complete(client, token, &read_line()?).await {
            // One sentence for each broken rule, fit to be shown beside the field. The link is still good.
            Err(Error::Refused(refusal)) if refusal.code == "password_rejected" => {
                for violation in refusal.details["violations"].as_array().into_iter().flatten() {
                    println!("Not this one: {}", text(&violation["message"]));
                }
            }
            ended => {
                ended?;
                println!("Your password is changed. You have been signed out everywhere.");
                return Ok(());
            }
        }
    }
}

/// Sealed, neither of the two can be read in the broker's queues, nor in a dead letter.
async fn complete(client: &Client, token: &str, new_password: &str) -> Result<Value, Error> {
    let secrets = [("token", token), ("new_password", new_password)];
    client.call_sealed("password.reset.complete", &json!({ "context": context() }), &secrets).await
}

fn dead_link(refusal: &Refusal) -> String {
    match refusal.details.get("newer_requested_at") {
        Some(newer) => format!("{} (It was asked for at {}.)", refusal.message, text(newer)),
        None => refusal.message.clone(),
    }
}

/// Where the person sits, from the web request: for the limits on requests, and for the mail ("requested from …").
fn context() -> Value {
    json!({ "ip": "203.0.113.7", "user_agent": "the forgot_password example", "locale": "en" })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before a good password came"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
