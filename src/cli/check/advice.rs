//! What to do about an answer. Pure.

use crate::keys::KeysError;
use crate::mail::smtp::{SendError, Stage};

/// For a configuration that cannot be used.
pub const CONFIGURATION: &str = "Put right what is named; regrant.example.toml has every key with its default. The other checks \
                                 need a sound configuration.";
/// For templates with faults.
pub const TEMPLATES: &str = "Mend what is named; `regrant templates check` shows it without the servers.";
/// For a server that lets us wait.
pub const SILENT: &str = "The server is there, but slow or stuck: look at its load and its log.";

/// For a key file that cannot be used; the error says the rest.
pub fn keys(error: &KeysError) -> &'static str {
    match error {
        KeysError::Missing(_) => {
            "The first time: `regrant keys init`. Later: put the file back from its copy; with new keys every \
                                  link in mails stops working."
        }
        KeysError::OpenToEveryone { .. } => {
            "Run the chmod that is named. If others may have read it: `regrant keys rotate`."
        }
        KeysError::Io { .. } => "Run this as the user that the daemon runs as, and let that user own the file.",
        _ => "Put the file back from its copy.",
    }
}

/// Where a server is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its name.
    pub server: &'a str,
    /// `host:port`.
    pub address: &'a str,
    /// Which setting says so.
    pub setting: &'a str,
}

/// For troubles on the way to any server, told from the words of the system and of rustls.
pub fn network(answer: &str, place: Place<'_>) -> Option<String> {
    let Place { server, address, setting } = place;
    let answer = answer.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| answer.contains(word));
    Some(
        if says(&[
            "failed to lookup",
            "name or service not known",
            "no such host",
            "cannot find",
            "nodename nor servname",
        ]) {
            format!(
                "The host's name cannot be resolved: check its spelling in {setting}, and this machine's DNS (getent hosts …)."
            )
        } else if says(&["connection refused"]) {
            format!(
                "Nothing listens at {address}: is {server} running, on that port, and on an address that this machine reaches?"
            )
        } else if says(&["notvalidforname", "not valid for name"]) {
            format!("The server's certificate is for another name: write the name that it bears in {setting}.")
        } else if says(&["unknownissuer", "unknown issuer"]) {
            format!(
                "The certificate is signed by an authority that this machine does not know: install the authority's certificate, or \
             name it in {setting} if it has a parameter for that."
            )
        } else if says(&["certificate expired", "expired:", "notvalidyet", "not valid yet"]) {
            "The server's certificate is out of date, or the clock of one of the machines is wrong.".to_owned()
        } else if says(&["corrupt message", "invalidcontenttype", "wrong version number"]) {
            format!(
                "What answers at {address} does not speak TLS: is the port, or the scheme, in {setting} that without TLS?"
            )
        } else if says(&[
            "no route",
            "unreachable",
            "timed out",
            "no answer within",
            "time limit",
            "deadline has elapsed",
        ]) {
            format!(
                "No answer from {address}: a firewall between, a wrong address in {setting}, or a server that hangs."
            )
        } else if says(&["unexpected eof", "connection reset", "broken pipe", "closed", "handshake"]) {
            format!(
                "The connection to {address} was cut: a proxy or load balancer without a server behind it, a port for something \
             else, or TLS on one side only ({setting})."
            )
        } else {
            return None;
        },
    )
}

/// The database that PostgreSQL was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Database<'a> {
    /// The server.
    pub place: Place<'a>,
    /// The role.
    pub role: &'a str,
    /// The database's name.
    pub name: &'a str,
}

/// For a refused connection to PostgreSQL, by the SQLSTATE that the answer ends with.
pub fn database(answer: &str, asked: Database<'_>) -> String {
    let Database { place, role, name } = asked;
    let state = |code: &str| answer.contains(&format!("({code})"));
    let missing = answer.contains("does not exist");
    if state("28P01") || answer.contains("password missing") || answer.contains("password must not be empty") {
        format!(
            "Put the password of the role `{role}` into {}, or give it this one: alter role {role} password '…'.",
            place.setting
        )
    } else if state("28000") && missing {
        format!("As a superuser: create role {role} login password '…'.")
    } else if state("28000") {
        format!(
            "Let `{role}` in: a line of pg_hba.conf for this machine, this database and this role, and then a reload."
        )
    } else if state("3D000") {
        format!("As a superuser: create database {name} owner {role}. Or name another one in {}.", place.setting)
    } else if state("42501") {
        format!("As a superuser: grant connect on database {name} to {role}.")
    } else if state("53300") {
        "Raise max_connections of PostgreSQL, or lower database.max_connections of the daemons that share it."
            .to_owned()
    } else if state("57P03") {
        "It is starting or stopping: wait, and look at PostgreSQL's log if that lasts.".to_owned()
    } else {
        network(answer, place).unwrap_or_else(|| "PostgreSQL's log says more.".to_owned())
    }
}

/// For RabbitMQ's answer to a connection. `user` and `vhost` as asked.
pub fn broker(answer: &str, place: Place<'_>, user: &str, vhost: &str) -> String {
    if answer.contains("ACCESS_REFUSED") && answer.contains("loopback") {
        format!(
            "`{user}` may only connect from the broker's own machine: make a user of your own (rabbitmqctl add_user …)."
        )
    } else if answer.contains("refuses the user") {
        format!(
            "rabbitmqctl authenticate_user {user} '…' tells whether the password is right; change_password sets another."
        )
    } else if answer.contains("NOT_ALLOWED") && answer.contains("not found") {
        format!(
            "Make it (rabbitmqctl add_vhost {vhost}), or put another one into the path of {}: %2f is /.",
            place.setting
        )
    } else if answer.contains("refuses the virtual host") {
        format!("Give `{user}` permissions there: {}.", permissions(user, vhost, "…"))
    } else {
        network(answer, place).unwrap_or_else(|| "RabbitMQ's log says more.".to_owned())
    }
}

/// The command that gives a daemon what it needs.
pub fn permissions(user: &str, vhost: &str, prefix: &str) -> String {
    let prefix = prefix.replace('.', "\\.");
    format!(
        "rabbitmqctl set_permissions -p {vhost} {user} '^{prefix}\\.' '^({prefix}\\..*|amq\\.default)$' '^{prefix}\\.'"
    )
}

/// For a mail server's answer.
pub fn smtp(error: &SendError, place: Place<'_>, sender: Option<&str>) -> String {
    let setting = place.setting;
    let answer = &error.reply;
    let code = answer.get(..3).and_then(|code| code.parse::<u16>().ok());
    match (error.stage, code) {
        (Stage::Connect | Stage::StartTls, _) if answer.contains("does not offer STARTTLS") => {
            format!(
                "Use the port that has it (587?), smtps:// (465?), or tls=none in {setting} if the way there is trusted."
            )
        }
        (Stage::Auth, None) if answer.contains("offers no encryption") => {
            format!("Use smtps:// or a port with STARTTLS, or tls=none in {setting} if the way there is trusted.")
        }
        (Stage::Auth, None) if answer.contains("does not offer to sign in") => {
            format!("Leave user and password out of {setting}, or use the port for submission (587, 465).")
        }
        (Stage::Auth, _) => format!("The mail server does not take user and password of {setting}: ask who runs it."),
        (_, Some(530 | 538)) if answer.contains("TLS") => {
            format!("It wants encryption first: tls=required in {setting}.")
        }
        (_, Some(530 | 534 | 538)) => {
            format!("It wants a sign-in first: put user:password@ before the host in {setting}.")
        }
        (Stage::Mail, Some(code)) if code >= 400 => format!(
            "It does not take mail from `{}`: set mail.from (or the site's `from`) to an address that this server, and this user \
             of it, may send from.",
            sender.unwrap_or_default()
        ),
        (Stage::Greeting, Some(_)) => {
            "It does not want to talk to this machine: ask who runs it to let its address in.".to_owned()
        }
        (Stage::File, _) => "Let the daemon's user write to the directory (mail.file.directory).".to_owned(),
        _ => {
            let tls = answer.contains("TLS") || answer.contains("certificate");
            let advice = network(answer, place);
            let more = " For mail there are ?tls_name= (the name in the certificate) and ?ca_file= (the authority).";
            advice.map_or_else(
                || "The mail server's log says more.".to_owned(),
                |advice| if tls { advice + more } else { advice },
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::smtp::Failure;

    const PLACE: Place<'static> = Place { server: "X", address: "db:1", setting: "x.url" };

    #[test]
    fn troubles_of_the_network_are_told_apart() {
        for (answer, expected) in [
            ("failed to lookup address information: Name or service not known", "resolved"),
            ("Connection refused (os error 111)", "Nothing listens at db:1"),
            ("invalid peer certificate: certificate not valid for name \"db\"; …", "another name"),
            ("invalid peer certificate: UnknownIssuer", "authority"),
            ("invalid peer certificate: certificate expired: verification time …", "out of date"),
            ("received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("No route to host (os error 113)", "firewall"),
            ("no answer within 10 s", "firewall"),
            ("unexpected EOF", "cut"),
        ] {
            let advice = network(answer, PLACE).unwrap();
            assert!(advice.contains(expected), "{answer}: {advice}");
        }
        assert_eq!(network("moon phase", PLACE), None);
    }

    #[test]
    fn refusals_of_postgresql_are_told_apart() {
        let asked = Database { place: PLACE, role: "reg", name: "people" };
        for (answer, expected) in [
            ("password authentication failed for user \"reg\" (28P01)", "alter role reg password"),
            ("role \"reg\" does not exist (28000)", "create role reg"),
            ("no pg_hba.conf entry for host \"192.0.2.1\" (28000)", "pg_hba.conf"),
            ("database \"people\" does not exist (3D000)", "create database people owner reg"),
            ("permission denied for database \"people\" (42501)", "grant connect on database people to reg"),
            ("sorry, too many clients already (53300)", "max_connections"),
            ("the database system is starting up (57P03)", "wait"),
            ("error connecting to server: Connection refused (os error 111)", "Nothing listens"),
            ("something new (XX000)", "log"),
        ] {
            let advice = database(answer, asked);
            assert!(advice.contains(expected), "{answer}: {advice}");
        }
    }

    #[test]
    fn refusals_of_rabbitmq_are_told_apart() {
        for (answer, expected) in [
            ("RabbitMQ at h refuses the user `u`: ACCESS_REFUSED - Login was refused", "authenticate_user u"),
            ("refuses the user `u`: ACCESS_REFUSED - user 'u' can only connect via loopback", "add_user"),
            ("refuses the virtual host `v` to the user `u`: NOT_ALLOWED - vhost v not found", "add_vhost v"),
            (
                "refuses the virtual host `v`: NOT_ALLOWED - access to vhost 'v' refused for user 'u'",
                "set_permissions -p v u",
            ),
            ("RabbitMQ at h cannot be reached: Connection refused", "Nothing listens"),
        ] {
            let advice = broker(answer, PLACE, "u", "v");
            assert!(advice.contains(expected), "{answer}: {advice}");
        }
        assert_eq!(
            permissions("reg", "/", "re.grant"),
            r"rabbitmqctl set_permissions -p / reg '^re\.grant\.' '^(re\.grant\..*|amq\.default)$' '^re\.grant\.'"
        );
    }

    #[test]
    fn refusals_of_mail_servers_are_told_apart() {
        for (stage, answer, expected) in [
            (Stage::Connect, "cannot connect to mx:25: Connection refused (os error 111)", "Nothing listens"),
            (Stage::StartTls, "mx:25 does not offer STARTTLS, which tls=required …", "tls=none"),
            (
                Stage::StartTls,
                "the TLS handshake with mx:25 failed: invalid peer certificate: UnknownIssuer",
                "?ca_file=",
            ),
            (Stage::StartTls, "the TLS handshake … failed: certificate not valid for name \"mx\"", "?tls_name="),
            (Stage::Auth, "535 5.7.8 no", "user and password"),
            (Stage::Auth, "mx offers no encryption, so the password was not sent", "STARTTLS"),
            (Stage::Mail, "530 5.7.0 Must issue a STARTTLS command first", "tls=required"),
            (Stage::Mail, "530 5.7.0 Authentication required", "user:password@"),
            (Stage::Mail, "553 5.7.1 Sender address rejected: not owned by user", "mail from `me@x.org`"),
            (Stage::Greeting, "554 5.7.1 blocked", "let its address in"),
        ] {
            let error = SendError::new(Failure::Unreachable, stage, answer);
            let advice = smtp(&error, PLACE, Some("me@x.org"));
            assert!(advice.contains(expected), "{answer}: {advice}");
        }
    }
}
