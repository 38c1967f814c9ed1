//! Checks of URLs that several sections share.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Problems;

/// Reads a secret URL with a host and one of `schemes`. Reports, without quoting any of it, why it is none.
pub(super) fn check_secret_url(
    url: &SecretString,
    path: &str,
    schemes: &[&str],
    form: &str,
    problems: &mut Problems,
) -> Option<Url> {
    let text = url.expose_secret();
    let reason = match Url::parse(text) {
        Ok(url) if !schemes.contains(&url.scheme()) => {
            format!("the scheme is not {}", schemes.join(" or "))
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => "there is no host".to_owned(),
        Ok(url) => return Some(url),
        Err(_) if text.is_empty() => "it is empty".to_owned(),
        // The parser's words are fixed sentences, without any of the text.
        Err(error) => error.to_string(),
    };
    problems.wrong(
        path,
        format!(
            "the value is not a usable URL ({reason}); write {form}, with special characters in the password as %XX"
        ),
    );
    None
}

/// Why `text` is no web address; `None` if it is one. A mail holds it as it is written, so what a browser would put right, and a
/// mail program takes for the link's end, is a fault.
pub(super) fn web_address_fault(text: &str) -> Option<&'static str> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("holds a space or another character that nobody sees (in a URL, a space is %20)");
    }
    if text.contains(['"', '<', '>', '\\', '^', '`']) {
        return Some("holds one of the characters \" < > \\ ^ `, which end a link in a mail (write them as %XX)");
    }
    let url = Url::parse(text).ok();
    let after_scheme = text.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//")).unwrap_or_default();
    match url {
        Some(url) if !matches!(url.scheme(), "https" | "http") => Some("does not start with https:// (or http://)"),
        Some(url)
            if url.host_str().is_none_or(str::is_empty)
                || after_scheme.starts_with(['/', '?', '#'])
                || after_scheme.is_empty() =>
        {
            Some("has no host")
        }
        Some(_) => None,
        None => Some("is not a URL"),
    }
}
