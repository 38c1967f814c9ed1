//! `mail.smtp.url`: where the mail server is, how the way to it is protected, and who we are to it.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

const PARAMETERS: [&str; 3] = ["tls", "tls_name", "ca_file"];

/// A mail server, as configured. `Display` gives `host:port`; no form of it shows the password.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsPolicy,
    /// The name the certificate must bear, where it is not `host`.
    pub tls_name: Option<String>,
    /// PEM file of the authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// What to sign in with.
    pub credentials: Option<Credentials>,
}

/// A user name and its password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Sent as it stands.
    pub user: String,
    /// Sent over an encrypted connection only, unless `tls=none` was asked for.
    pub password: SecretString,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS from the first byte (`smtps://`, RFC 8314), certificate verified.
    Implicit,
    /// STARTTLS or nothing (RFC 3207), certificate verified.
    Required,
    /// STARTTLS where the server offers it (RFC 7435). The certificate is verified only if there are credentials to
    /// protect, or `ca_file` or `tls_name` ask for it: an attacker who can forge one could also suppress STARTTLS.
    Opportunistic,
    /// In the clear, on purpose.
    None,
}

impl Server {
    /// Whether the server has to prove who it is.
    pub fn verifies(&self) -> bool {
        match self.tls {
            TlsPolicy::Implicit | TlsPolicy::Required => true,
            TlsPolicy::Opportunistic => self.credentials.is_some() || self.ca_file.is_some() || self.tls_name.is_some(),
            TlsPolicy::None => false,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What is wrong with `mail.smtp.url`. Never repeats the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error(
        "mail.smtp.url is not a URL ({0}); write smtp://host:port, with special characters of a user name or password percent-encoded (@ is %40, / is %2F)"
    )]
    Syntax(String),
    /// Neither `smtp` nor `smtps`.
    #[error("mail.smtp.url starts with `{0}://`; write smtp:// or smtps://")]
    Scheme(String),
    /// A path or fragment, mostly the rest of a password.
    #[error(
        "mail.smtp.url has something after host and port; if it is part of the password, percent-encode it (/ is %2F, # is %23, ? is %3F)"
    )]
    Trailing,
    /// A host that is not plain ASCII.
    #[error(
        "mail.smtp.url has no usable host; write a DNS name in ASCII, an IPv4 address, or an IPv6 address in [brackets]"
    )]
    Host,
    /// A password without a user name, or the other way round.
    #[error("mail.smtp.url has {given} but no {missing}; write user:password@host")]
    HalfCredentials {
        /// What is there.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// Percent-encoding that does not decode to UTF-8 text.
    #[error("mail.smtp.url: the percent-encoding of user name or password is broken")]
    Encoding,
    /// A parameter that does not exist.
    #[error(
        "mail.smtp.url has an unknown parameter; did you mean `{nearest}`? (if it is part of the password, write ? as %3F)"
    )]
    UnknownParameter {
        /// As written; not shown, because it may be the rest of a password.
        name: String,
        /// The most similar one that exists.
        nearest: &'static str,
    },
    /// The same parameter twice.
    #[error("mail.smtp.url has the parameter `{0}` twice")]
    Repeated(String),
    /// A parameter without a value.
    #[error("mail.smtp.url has no value for the parameter `{0}`")]
    Empty(String),
    /// A value of `tls` that does not exist. It is not shown, because it may be the rest of a password; and none is suggested,
    /// because the most similar one may switch encryption off.
    #[error(
        "mail.smtp.url has an unknown value of tls; write tls=required (STARTTLS or no mail), tls=opportunistic (STARTTLS where the \
         server offers it) or tls=none (never encrypted)"
    )]
    TlsValue,
    /// `smtps://` is always encrypted.
    #[error("mail.smtp.url is smtps://, which is always encrypted; leave tls={0} out, or write smtp://")]
    TlsOnSmtps(&'static str),
    /// A parameter about certificates without TLS.
    #[error("mail.smtp.url has `{0}`, which means nothing with tls=none")]
    WithoutTls(&'static str),
}

impl std::str::FromStr for Server {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text.trim()).map_err(|fault| UrlError::Syntax(fault.to_string()))?;
        let implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            // `user:password@host` parses as a URL whose scheme is the user name: say nothing of what follows.
            other => return Err(UrlError::Scheme(other.to_owned())),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(UrlError::Trailing);
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains('%') || !host.is_ascii() {
            return Err(UrlError::Host);
        }
        let Parameters { tls, tls_name, ca_file } = Parameters::of(&url)?;
        let tls = match (implicit, tls) {
            (true, None | Some(TlsPolicy::Required)) => TlsPolicy::Implicit,
            (true, Some(TlsPolicy::None)) => return Err(UrlError::TlsOnSmtps("none")),
            (true, Some(_)) => return Err(UrlError::TlsOnSmtps("opportunistic")),
            (false, tls) => tls.unwrap_or(TlsPolicy::Opportunistic),
        };
        if tls == TlsPolicy::None {
            if ca_file.is_some() {
                return Err(UrlError::WithoutTls("ca_file"));
            }
            if tls_name.is_some() {
                return Err(UrlError::WithoutTls("tls_name"));
            }
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port: url.port().unwrap_or(if implicit { 465 } else { 25 }),
            tls,
            tls_name,
            ca_file: ca_file.map(PathBuf::from),
            credentials: credentials(&url)?,
        })
    }
}

#[derive(Default)]
struct Parameters {
    tls: Option<TlsPolicy>,
    tls_name: Option<String>,
    ca_file: Option<String>,
}

impl Parameters {
    fn of(url: &Url) -> Result<Self, UrlError> {
        let mut parameters = Self::default();
        for (name, value) in url.query_pairs() {
            let repeated = match &*name {
                _ if value.is_empty() && PARAMETERS.contains(&&*name) => {
                    return Err(UrlError::Empty(name.into_owned()));
                }
                "tls" => parameters.tls.replace(tls_policy(&value)?).is_some(),
                "tls_name" => parameters.tls_name.replace(value.into_owned()).is_some(),
                "ca_file" => parameters.ca_file.replace(value.into_owned()).is_some(),
                _ => {
                    let nearest = nearest_parameter(&name);
                    return Err(UrlError::UnknownParameter { name: name.into_owned(), nearest });
                }
            };
            if repeated {
                return Err(UrlError::Repeated(name.into_owned()));
            }
        }
        Ok(parameters)
    }
}

fn tls_policy(value: &str) -> Result<TlsPolicy, UrlError> {
    match value {
        "required" => Ok(TlsPolicy::Required),
        "opportunistic" => Ok(TlsPolicy::Opportunistic),
        "none" => Ok(TlsPolicy::None),
        _ => Err(UrlError::TlsValue),
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, UrlError> {
    match (url.username(), url.password().unwrap_or_default()) {
        ("", "") => Ok(None),
        ("", _) => Err(UrlError::HalfCredentials { given: "a password", missing: "user name" }),
        (_, "") => Err(UrlError::HalfCredentials { given: "a user name", missing: "password" }),
        (user, password) => {
            let (user, password) = (percent_decode(user)?, percent_decode(password)?);
            // NUL separates the fields of AUTH PLAIN (RFC 4616).
            if user.contains('\0') || password.contains('\0') {
                return Err(UrlError::Encoding);
            }
            Ok(Some(Credentials { user, password: password.into() }))
        }
    }
}

/// RFC 3986 section 2.1. (A query's decoding would turn `+` into a space.)
fn percent_decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(UrlError::Encoding);
        };
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Encoding)?);
    }
    String::from_utf8(decoded).map_err(|_| UrlError::Encoding)
}

/// The fewest edits away, however many: what was written is not repeated. [`crate::spelling`] would rather take a longer name that
/// begins alike, `tls_name` for `tsl`.
fn nearest_parameter(word: &str) -> &'static str {
    let word = word.to_ascii_lowercase();
    PARAMETERS.into_iter().min_by_key(|name| strsim::damerau_levenshtein(&word, name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn parse(url: &str) -> Result<Server, UrlError> {
        url.parse()
    }

    #[test]
    fn the_parts_of_a_url() {
        let server = parse("smtp://mail.example.com").unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls), ("mail.example.com", 25, TlsPolicy::Opportunistic));
        assert!(server.credentials.is_none());

        let server =
            parse("smtps://me%40here:p%2Fa+s%25s@Mail.Example.com/?tls_name=mx.example&ca_file=/etc/ca%20x.pem")
                .unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls), ("mail.example.com", 465, TlsPolicy::Implicit));
        assert_eq!(server.tls_name.as_deref(), Some("mx.example"));
        assert_eq!(server.ca_file, Some(PathBuf::from("/etc/ca x.pem")));
        let credentials = server.credentials.unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.expose_secret()), ("me@here", "p/a+s%s"));

        let server = parse("smtp://[::1]:2525?tls=none").unwrap();
        assert_eq!((server.host.as_str(), server.tls), ("::1", TlsPolicy::None));
        assert_eq!(server.to_string(), "[::1]:2525");
    }

    #[test]
    fn who_must_prove_who_they_are() {
        for (url, verifies) in [
            ("smtp://h", false),
            ("smtp://u:p@h", true),
            ("smtp://h?tls_name=x", true),
            ("smtp://h?tls=required", true),
            ("smtps://h", true),
            ("smtp://u:p@h?tls=none", false),
        ] {
            assert_eq!(parse(url).unwrap().verifies(), verifies, "{url}");
        }
    }

    #[test]
    fn faults_are_named() {
        let unknown = |name: &str, nearest| UrlError::UnknownParameter { name: name.to_owned(), nearest };
        for (url, fault) in [
            ("http://h", UrlError::Scheme("http".to_owned())),
            ("smtp://h/inbox", UrlError::Trailing),
            ("smtp://u:p@h#x", UrlError::Trailing),
            ("smtp:///", UrlError::Host),
            ("smtp://h%C3%A9", UrlError::Host),
            ("smtp://u@h", UrlError::HalfCredentials { given: "a user name", missing: "password" }),
            ("smtp://:p@h", UrlError::HalfCredentials { given: "a password", missing: "user name" }),
            ("smtp://u:%zz@h", UrlError::Encoding),
            ("smtp://u:%ff@h", UrlError::Encoding),
            ("smtp://u:a%00b@h", UrlError::Encoding),
            ("smtp://h?tsl=none", unknown("tsl", "tls")),
            ("smtp://h?cafile=x", unknown("cafile", "ca_file")),
            ("smtp://h?tls=requird", UrlError::TlsValue),
            ("smtp://h?tls=on", UrlError::TlsValue),
            ("smtp://h?tls=none&tls=none", UrlError::Repeated("tls".to_owned())),
            ("smtp://h?tls=", UrlError::Empty("tls".to_owned())),
            ("smtps://h?tls=none", UrlError::TlsOnSmtps("none")),
            ("smtp://h?tls=none&ca_file=x", UrlError::WithoutTls("ca_file")),
        ] {
            assert_eq!(parse(url).unwrap_err(), fault, "{url}");
        }
    }

    #[test]
    fn nobody_who_wants_encryption_is_told_to_switch_it_off() {
        for value in ["yes", "on", "true", "1", "mandatory", "always", "force", "tls", "optional", "non"] {
            let said = parse(&format!("smtp://h?tls={value}")).unwrap_err().to_string();
            assert!(!said.contains("did you mean") && said.contains("tls=none (never encrypted)"), "{said}");
        }
    }

    #[test]
    fn a_password_shows_nowhere() {
        let good = format!("{:?}", parse("smtp://u:hunter2@h").unwrap());
        assert!(!good.contains("hunter2"), "{good}");
        for url in [
            "smtp://u:hunter2/x@h",
            "smtp://u:hunter2#@h",
            "smtp://u:hunter2@h:x",
            "u:hunter2@h",
            "smtp://u:hunter2?@h",
        ] {
            let fault = parse(url).unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        }
    }
}
