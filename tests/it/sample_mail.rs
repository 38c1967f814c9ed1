//! `regrant templates send`: a sample, through the mail server of the configuration.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Place, Plan};

const RSA: &str = include_str!("../../src/mail/message/testdata/rsa_pkcs8.pem");
const ED25519: &str = include_str!("../../src/mail/message/testdata/ed25519.pem");

/// What another program than ours says of a signature. `script/test` installs it: Debian's python3-dkim and python3-nacl.
/// Arguments: the public key's DNS record, the name that it must be asked for.
const VERIFY: &str = r#"
import sys, dkim
record, name = sys.argv[1:]
def dns(asked, timeout=5):
    assert asked.decode().rstrip(".") == name, asked
    return record.encode()
print("good" if dkim.verify(sys.stdin.buffer.read(), dnsfunc=dns, minkey=1024) else "bad")
"#;

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The DNS record of a private key, in the way that a handbook of DKIM tells to make it.
fn record(key: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let public = run("openssl", &["pkey", "-pubout", "-outform", "DER"], key.as_bytes());
    // For Ed25519 the record holds only the key: the last 32 bytes (RFC 8463).
    if key == ED25519 {
        return format!("v=DKIM1; k=ed25519; p={}", BASE64_STANDARD.encode(&public[public.len() - 32..]));
    }
    format!("v=DKIM1; k=rsa; p={}", BASE64_STANDARD.encode(public))
}

fn verdict(message: &[u8], record: &str) -> String {
    // Debian's own, since that is where its packages are.
    let said = run("/usr/bin/python3", &["-c", VERIFY, record, "s1._domainkey.example.com"], message);
    String::from_utf8(said).unwrap().trim().to_owned()
}

const SITES: &str = "[sites.north]\nname = \"Norden\"\nlocale = \"de\"\nfrom = \"Norden <hallo@example.com>\"";

fn send(place: &Place, more: &[&str]) -> String {
    let words = ["templates", "send", "--to", "Me@Example.org", "--template", "password_reset_link"];
    place.shell(&[&words, more].concat()).success()
}

/// The one message that the server has, as it came.
fn received(place: &Place) -> (String, Vec<u8>) {
    let messages = place.mail.messages();
    let [message] = messages.as_slice() else { panic!("{} messages", messages.len()) };
    assert_eq!(message.to, ["Me@Example.org"]);
    assert_eq!(place.mail.violations(), Vec::<String>::new());
    (String::from_utf8(message.data.clone()).unwrap(), message.data.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_comes_in_as_a_test_with_the_site_and_language_that_were_asked_for() {
    let place = Plan::default().toml(SITES).prepare().await;
    let said = send(&place, &["--site", "north"]);
    assert!(said.contains("sent to Me@Example.org: [Test] Neues Passwort für Norden wählen\n250 "), "{said}");
    let (text, _) = received(&place);
    assert!(text.starts_with("X-Regrant-Test: yes\r\n"), "{text}");
    assert!(text.contains("\r\nFrom: Norden <hallo@example.com>\r\n"), "{text}");
    assert!(text.contains("sample-link-that-opens-nothing"), "{text}");
    assert!(!text.contains("DKIM-Signature"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signature_of_a_sample_is_good_for_another_program() {
    for key in [RSA, ED25519] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key).unwrap();
        let plan = Plan::default().set("mail.dkim.domain", "example.com").set("mail.dkim.selector", "s1");
        let place = plan.set("mail.dkim.key_file", file.path().display()).prepare().await;
        // A subject and bodies that are anything but ASCII.
        send(&place, &["--locale", "ja"]);
        let (text, bytes) = received(&place);
        assert!(text.contains("\r\nDKIM-Signature: "), "{text}");
        let record = record(key);
        assert_eq!(verdict(&bytes, &record), "good");
        let forged = text.replacen("\r\nTo: ", "\r\nTo: x", 1);
        assert_ne!(forged, text);
        assert_eq!(verdict(forged.as_bytes(), &record), "bad");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_the_server_refuses_is_told_with_its_words() {
    let place = Place::new().await;
    place.mail.refuse_rcpt("550 5.1.1 no such user here", None);
    let refused = place.shell(&["templates", "send", "--to", "me@example.org", "--template", "invite"]).failure();
    assert!(refused.contains("the mail was not taken") && refused.contains("550 5.1.1 no such user here"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_an_email_that_is_switched_off_is_sent_and_said_to_be_off() {
    let place = Place::new().await;
    let said = place.shell(&["templates", "send", "--to", "me@example.org", "--template", "signed_out"]).success();
    assert!(said.contains("note: signed_out is switched off"), "{said}");
    assert_eq!(place.mail.messages().len(), 1);
}
