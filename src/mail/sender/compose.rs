//! From a queued row to a message: rendering, and the links and codes that exist only from here to the server.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::{Config, Site};
use crate::domain::email_address::email_key;
use crate::domain::ticket::Purpose;
use crate::keys::TokenUse;
use crate::mail::catalogue::Template;
use crate::mail::context::{self, Facts, Person, Secrets, SiteFacts};
use crate::mail::message;
use crate::mail::placeholder::Kind;
use crate::mail::quoted::Quoted;
use crate::store::emails::{PersonOfMail, QueuedEmail, TicketOfMail};

use super::Sender;

/// Why there is no message.
pub(super) enum Unwritten {
    /// Nothing will change that.
    Final(String),
    /// The configuration or a template is at fault: once it is mended, the mail can go.
    ForNow(String),
}

/// A mail that is ready to go.
pub(super) struct Written {
    pub subject: String,
    pub built: message::Built,
    /// What must not be told of what is said about it.
    pub quoted: Quoted,
}

impl Sender {
    /// Renders a mail and makes its message. Links and codes exist only from here to the server.
    pub(super) fn write(
        &self,
        mail: &QueuedEmail,
        ticket: Option<&TicketOfMail>,
        person: &PersonOfMail,
    ) -> Result<Written, Unwritten> {
        let config = self.config.load();
        let template: Template = mail
            .template
            .parse()
            .map_err(|_| Unwritten::Final(format!("this version has no template `{}`", mail.template)))?;
        let site = config
            .sites
            .get(&mail.site)
            .or_else(|| config.sites.get(crate::config::DEFAULT_SITE))
            .ok_or_else(|| Unwritten::ForNow(format!("there is no section [sites.{}]", mail.site)))?;
        let (secrets, quoted) = match ticket {
            None => (Secrets::default(), Quoted::default()),
            Some(ticket) => self.secrets(template, ticket, site, &config)?,
        };
        let facts = Facts::deserialize(&mail.facts)
            .map_err(|_| Unwritten::Final("its recorded facts cannot be read".to_owned()))?;
        let values = context::context(
            template,
            &SiteFacts {
                name: &site.name,
                web_url: &site.web_url,
                support_email: &site.support_email,
                timezone: site.timezone,
            },
            &Person { username: &person.username, display_name: person.display_name.as_deref(), email: &person.email },
            &facts,
            &secrets,
            &context::email_reference(mail.id),
            crate::clock::now(),
        );
        let rendered = self
            .templates
            .load()
            .render(template, &mail.site, mail.locale.as_deref().or(site.locale.as_deref()), &values)
            .map_err(|e| Unwritten::ForNow(e.to_string()))?;
        let parts = message::Parts {
            id: mail.id,
            date: mail.queued_at,
            from: site.from.as_ref().unwrap_or(&config.mail.from),
            reply_to: site.reply_to.as_ref().or(config.mail.reply_to.as_ref()),
            // A copy to another address is not addressed to the person.
            to_name: person.display_name.as_deref().filter(|_| email_key(&mail.to_address) == email_key(&person.email)),
            to_address: &mail.to_address,
            subject: &rendered.subject,
            text: &rendered.text,
            html: &rendered.html,
        };
        let built = message::build(&parts, self.dkim.as_deref()).map_err(|e| Unwritten::Final(e.to_string()))?;
        Ok(Written { subject: rendered.subject, built, quoted })
    }

    fn secrets(
        &self,
        template: Template,
        ticket: &TicketOfMail,
        site: &Site,
        config: &Config,
    ) -> Result<(Secrets, Quoted), Unwritten> {
        let missing = || Unwritten::ForNow(format!("the key file lacks token key `{}`", ticket.key_id));
        let keys = self.keys.load();
        let mut quoted = Quoted::default();
        let mut link = |url: &str, use_| {
            let token = keys.token(&ticket.key_id, use_, ticket.id).ok_or_else(missing)?;
            let link = SecretString::from(url.replace(crate::config::TOKEN, token.expose_secret()));
            quoted.token(token);
            Ok(link)
        };
        let (url, use_) = match ticket.purpose {
            Some(Purpose::PasswordReset) => (&site.reset_url, TokenUse::PasswordReset),
            Some(Purpose::Invite) => (&site.invite_url, TokenUse::Invite),
            Some(Purpose::Verification) => (&site.verify_url, TokenUse::Verification),
            Some(purpose @ Purpose::PasswordChange) => {
                return Err(Unwritten::Final(format!("a ticket for `{}` is never mailed", purpose.as_str())));
            }
            None => return Err(Unwritten::Final("this version does not know what its ticket allows".to_owned())),
        };
        let cancel_link = match (&site.cancel_url, use_) {
            (Some(url), TokenUse::PasswordReset) => Some(link(url, TokenUse::Cancel)?),
            _ => None,
        };
        // Each takes a microsecond to derive, so only what the template shows is.
        let kind = template.secret().and_then(|name| template.placeholder(name)).map(|placeholder| placeholder.kind);
        let mut secrets = Secrets { cancel_link, ..Secrets::default() };
        match kind {
            Some(Kind::Code) => {
                let code = keys.code(&ticket.key_id, ticket.id, config.password_reset.code_length);
                let code = code.ok_or_else(missing)?;
                quoted.code(code.clone());
                secrets.code = Some(code);
            }
            _ => secrets.link = Some(link(url, use_)?),
        }
        Ok((secrets, quoted))
    }
}
