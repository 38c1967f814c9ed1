//! Email addresses and usernames: what is accepted, and how they are compared.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

/// An email address as it was given, apart from surrounding spaces and Unicode form (NFC).
///
/// Accepted is what mail can be sent to: the `addr-spec` of RFC 5322 without comments, quoting and address literals, letters
/// of every script included (RFC 6531). `Debug` shows the masked form, so that logs never hold a whole address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

/// Why a text is no email address. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmailAddress {
    /// Nothing but spaces.
    #[error("an email address is missing")]
    Empty,
    /// RFC 5321, section 4.5.3.1.
    #[error("an email address has at most 254 bytes, and 64 before the @")]
    TooLong,
    /// None or several.
    #[error("an email address has exactly one @")]
    At,
    /// Invisible characters, spaces, `<`, `>` and others that would end the address inside a mail.
    #[error("the email address holds a space, an invisible character, or one of <>()[]\\,;:\"")]
    Character,
    /// Nothing before the @, or dots in the wrong places.
    #[error("the part before the @ is empty, or has a dot at its start, at its end or beside another")]
    LocalPart,
    /// Not a host name.
    #[error("the part after the @ is not a domain name")]
    Domain,
}

impl EmailAddress {
    /// The address as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the @.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// What stands after the @.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The form in which addresses are compared and looked up.
    pub fn key(&self) -> String {
        email_key(&self.text)
    }

    /// The form for logs: `a***@example.com`.
    pub fn masked(&self) -> String {
        mask(&self.text)
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        use InvalidEmailAddress::{At, Character, Domain, Empty, LocalPart, TooLong};
        let given = given.trim();
        if given.is_empty() {
            return Err(Empty);
        }
        // Before the work of normalising. NFC can shorten a text by a factor of three at most, where it is not longer already.
        if given.len() > 3 * 254 {
            return Err(TooLong);
        }
        let text: String = if given.is_ascii() { given.to_owned() } else { given.nfc().collect() };
        if text.chars().any(|c| c.is_whitespace() || is_invisible(c) || r#"<>()[]\,;:""#.contains(c)) {
            return Err(Character);
        }
        let at = text.find('@').filter(|at| !text[at + 1..].contains('@')).ok_or(At)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if text.len() > 254 || local.len() > 64 {
            return Err(TooLong);
        }
        if local.split('.').any(str::is_empty) {
            return Err(LocalPart);
        }
        let is_label = |label: &str| {
            let ends = |c: char| c.is_alphanumeric();
            (1..=63).contains(&label.len())
                && label.starts_with(ends)
                // A combining mark may end a label in scripts such as Devanagari.
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-' || !c.is_ascii())
        };
        if !domain.split('.').all(is_label) {
            return Err(Domain);
        }
        Ok(Self { text, at })
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The form in which email addresses are compared: without surrounding spaces, in Unicode NFC, in lowercase.
pub fn email_key(text: &str) -> String {
    key(text)
}

/// The form in which usernames are compared: without surrounding spaces, in Unicode NFC, in lowercase.
pub fn username_key(text: &str) -> String {
    key(text)
}

/// Any text that may be an email address, for logs: the first character and the domain.
pub fn mask(text: &str) -> String {
    let (local, domain) = text.trim().rsplit_once('@').unwrap_or((text.trim(), ""));
    let first: String = local.chars().take(1).filter(|c| !is_invisible(*c)).collect();
    // A hostile "domain" must not break up the log.
    let domain: String = domain.chars().filter(|c| !is_invisible(*c)).take(255).collect();
    if domain.is_empty() { format!("{first}***") } else { format!("{first}***@{domain}") }
}

fn key(text: &str) -> String {
    // The same without the tables of Unicode, which take most of the time that an address does.
    if text.is_ascii() {
        return text.trim().to_ascii_lowercase();
    }
    let mut key = fold(text);
    // Once is enough but for a few combinations of marks: the form must be its own form, or a look-up would miss its row.
    loop {
        let again = fold(&key);
        if again == key {
            return key;
        }
        key = again;
    }
}

fn fold(text: &str) -> String {
    text.trim().nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// Control characters, and the characters that have no shape or turn the direction of what follows: two addresses or names that
/// look the same would differ.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Joiners have no shape either; Persian, Indic scripts and emoji need them.
pub const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<EmailAddress, InvalidEmailAddress> {
        text.parse()
    }

    #[test]
    fn real_addresses_are_accepted_as_given() {
        for text in [
            "ada@example.com",
            "Ada.Lovelace+reset@Mail.Example.CO.UK",
            "o'brien_{x}!#$%&*/=?^`|~-@example.com",
            "x@localhost",
            "1@2.example",
            "grün@bücher.example",
            "उपयोगकर्ता@उदाहरण.भारत",
            "田中@例え.テスト",
            "a@xn--bcher-kva.example",
            &format!("{}@example.com", "a".repeat(64)),
        ] {
            assert_eq!(parse(text).unwrap().as_str(), text);
        }
        assert_eq!(parse(" \tada@example.com\n").unwrap().as_str(), "ada@example.com");
        assert_eq!(parse("u\u{308}@example.com").unwrap().as_str(), "ü@example.com");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        use InvalidEmailAddress::{At, Character, Domain, Empty, LocalPart, TooLong};
        for (text, reason) in [
            ("", Empty),
            ("   ", Empty),
            ("ada", At),
            ("ada@b@example.com", At),
            ("\"a@b\"@example.com", Character),
            ("Ada <ada@example.com>", Character),
            ("ada@example.com\r\nBcc: x@example.com", Character),
            ("ada\0@example.com", Character),
            ("ada love@example.com", Character),
            ("ada\u{200b}@example.com", Character),
            ("ada@exam\u{202e}ple.com", Character),
            ("a,b@example.com", Character),
            ("ada@[127.0.0.1]", Character),
            ("@example.com", LocalPart),
            (".ada@example.com", LocalPart),
            ("ada.@example.com", LocalPart),
            ("a..da@example.com", LocalPart),
            ("ada@", Domain),
            ("ada@.com", Domain),
            ("ada@example..com", Domain),
            ("ada@example.com.", Domain),
            ("ada@-example.com", Domain),
            ("ada@example-.com", Domain),
            ("ada@exam_ple.com", Domain),
            (&format!("{}@example.com", "a".repeat(65)), TooLong),
            (&format!("a@{}.com", "a".repeat(64)), Domain),
            (&format!("a@{}com", "a.".repeat(126)), TooLong),
            (&"a".repeat(100_000), TooLong),
        ] {
            assert_eq!(parse(text), Err(reason), "{text:.60?}");
        }
    }

    #[test]
    fn addresses_compare_without_case_and_form() {
        assert_eq!(parse(" ADA@Example.COM ").unwrap().key(), "ada@example.com");
        assert_eq!(email_key("GRU\u{308}N@example.com"), email_key("grün@EXAMPLE.com"));
        assert_eq!(username_key(" Ada "), "ada");
        assert_eq!(username_key("ΑΣ"), username_key("ας"), "the final sigma");
        assert_ne!(username_key("ada"), username_key("adá"));
    }

    #[test]
    fn masked_addresses_keep_the_first_character_and_the_domain() {
        for (text, masked) in [
            ("ada@example.com", "a***@example.com"),
            ("a@example.com", "a***@example.com"),
            ("田中@例え.テスト", "田***@例え.テスト"),
            ("😀@example.com", "😀***@example.com"),
            ("not an address", "n***"),
            ("a@b@example.com", "a***@example.com"),
            ("@example.com", "***@example.com"),
            ("ada@", "a***"),
            ("", "***"),
            ("\u{1b}[31mx@exam\nple.com", "***@example.com"),
        ] {
            assert_eq!(mask(text), masked, "{text:?}");
        }
        assert_eq!(format!("{:?}", parse("ada@example.com").unwrap()), "a***@example.com");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_keys_are_their_own_keys(text in "\\PC{0,40}", any: String) {
            for text in [text, any] {
                let _ = mask(&text);
                let key = email_key(&text);
                prop_assert_eq!(email_key(&key), key.clone());
                prop_assert_eq!(email_key(&format!(" {text}\t")), key);
                let nfd: String = text.nfd().collect();
                prop_assert_eq!(email_key(&nfd), email_key(&text));
            }
        }

        #[test]
        fn what_is_accepted_stays_accepted(text in "[a-zA-Zäß田0-9.+_\u{308}-]{1,20}@[a-zA-Zäß田.-]{1,20}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(address.as_str()), Ok(address.clone()));
                prop_assert_eq!(format!("{}@{}", address.local_part(), address.domain()), address.as_str());
                prop_assert_eq!(parse(&address.key()).map(|a| a.key()), Ok(address.key()));
                let first: String = address.local_part().chars().take(1).collect();
                prop_assert_eq!(address.masked(), format!("{first}***@{}", address.domain()));
            }
        }
    }
}
