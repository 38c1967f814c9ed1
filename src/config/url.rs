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

/// Why `text` is no web address; `None` if it is one.
pub(super) fn web_address_fault(text: &str) -> Option<&'static str> {
    let url = Url::parse(text).ok();
    match url {
        Some(url) if !matches!(url.scheme(), "https" | "http") => Some("does not start with https:// (or http://)"),
        Some(url) if url.host_str().is_none_or(str::is_empty) => Some("has no host"),
        Some(_) => None,
        None => Some("is not a URL"),
    }
}
