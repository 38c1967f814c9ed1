//! `regrant templates send`: a sample through the configured way out.

use std::process::ExitCode;

use clap::Args;

use crate::app;
use crate::cli::{Outcome, print};
use crate::config::Config;
use crate::ids::Ids;
use crate::mail::Template;
use crate::preview::sample::{Choice, Envelope};

/// Send a sample to your own address, the way the daemon would. It is marked as a test, and its links do not work.
#[derive(Debug, Args)]
pub struct Send {
    /// The recipient.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// The template: the name of its directory, for example `invite`.
    #[arg(long)]
    template: Template,
    /// The site whose texts and addresses are used.
    #[arg(long, default_value = crate::config::DEFAULT_SITE)]
    site: String,
    /// The language, for example `de`. Default: the site's language.
    #[arg(long)]
    locale: Option<String>,
}

/// Writes the email and hands it over.
///
/// # Errors
/// When the template has faults, or the way out does not take the mail.
pub async fn run(send: &Send, config: &Config) -> Outcome {
    super::known(config, &send.site, send.locale.as_deref())?;
    let choice = Choice { site: send.site.clone(), locale: send.locale.clone(), ..Choice::of(send.template) };
    let set = super::read(config)?.set;
    let language = choice.language(config);
    let now = crate::clock::now();
    let values = choice.values(config, Some(&send.to), now);
    let mut rendered =
        set.render(send.template, &send.site, language.as_deref(), &values).map_err(|e| e.to_string())?;
    rendered.subject.insert_str(0, "[Test] ");

    let (transport, dkim) = app::transport(config).map_err(|e| e.to_string())?;
    #[expect(clippy::disallowed_methods, reason = "the id of a mail that no table knows")]
    let id = Ids::default().next(now, &mut rand::rng());
    let envelope = Envelope { id, date: now, to: Some(&send.to), dkim: dkim.as_ref() };
    let built = choice.message(config, &rendered, &envelope).map_err(|e| e.to_string())?.marked_as_test();
    let handed_over = transport.send(&[id], &[built]).await;
    transport.close().await;
    let Some(handed_over) = handed_over.into_iter().next() else { return Err("the mail was not sent".into()) };
    let accepted = handed_over.map_err(|e| format!("the mail was not taken: {e}"))?;

    print(&format!("sent to {}: {}\n{}\n", send.to, rendered.subject, accepted.reply))?;
    if !set.enabled(send.template, &send.site, language.as_deref()) {
        print(&format!("note: {} is switched off (`enabled = false`); the daemon does not send it\n", send.template))?;
    }
    Ok(ExitCode::SUCCESS)
}
