//! What mail servers quote. A filter that objects to a mail likes to show the link that it objects to, and its words go into
//! the table, the log, an event and before the eyes of support: no token or code may be in them.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};

use crate::keys::TOKEN_LENGTH;

/// What stands in a secret's place.
const REDACTED: &str = "[redacted]";
/// The number of letters and digits of a token in a row from which on a text quotes it, also if the rest was cut off.
const PIECE: usize = 8;
/// A shorter text can hold so little of a token that the rest cannot be guessed. Most replies are: `250 ok: queued as …`.
const SHORT: usize = 40;
/// The same number at the end of a text, which may have been cut off in the middle of a secret.
const BEGINNING: usize = 3;

/// The secrets of the mails that travel together, to be taken out of what is said of any of them.
#[derive(Default)]
pub struct Quoted {
    tokens: Vec<SecretString>,
    codes: Vec<SecretString>,
}

impl Quoted {
    /// A mail holds this token.
    pub fn token(&mut self, token: SecretString) {
        self.tokens.push(token);
    }

    /// A mail holds this code.
    pub fn code(&mut self, code: SecretString) {
        self.codes.push(code);
    }

    /// And those of another mail.
    pub fn append(&mut self, mut other: Self) {
        self.tokens.append(&mut other.tokens);
        self.codes.append(&mut other.codes);
    }

    /// The text without them. However they are wrapped: broken by line ends, encoded for a URL, in other cases, cut off.
    pub fn hide(&self, text: String) -> String {
        let tokens: &[SecretString] = if text.len() < SHORT { &[] } else { &self.tokens };
        if tokens.is_empty() && self.codes.is_empty() {
            return text;
        }
        let bare = Bare::of(&text);
        let was_cut = text.ends_with('…');
        let mut found = Vec::new();
        for (secret, piece) in
            tokens.iter().map(|token| (token, PIECE)).chain(self.codes.iter().map(|c| (c, usize::MAX)))
        {
            let secret = Bare::of(secret.expose_secret()).letters;
            bare.find(&secret, piece.min(secret.len()), &mut found);
            if was_cut {
                found.extend(bare.end_that_begins(&secret));
            }
        }
        replace(text, found)
    }
}

/// Letters and digits of a text, and where each of them stands. Percent signs are resolved, and all letters small.
struct Bare {
    letters: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Bare {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut letters, mut places) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
        let mut at = 0;
        while at < bytes.len() {
            let (byte, length) = encoded(&bytes[at..]).unwrap_or((bytes[at], 1));
            if byte.is_ascii_alphanumeric() {
                letters.push(byte.to_ascii_lowercase());
                places.push(at..at + length);
            }
            at += length;
        }
        Self { letters, places }
    }

    /// Where at least `piece` letters of `secret` stand in a row, all that are there.
    fn find(&self, secret: &[u8], piece: usize, found: &mut Vec<Range<usize>>) {
        if piece == 0 {
            return;
        }
        for start in (0..=secret.len() - piece).step_by(piece) {
            for at in memchr::memmem::find_iter(&self.letters, &secret[start..start + piece]) {
                let alike = |(a, b): &(&u8, &u8)| a == b;
                let (before, after) = (&self.letters[..at], &self.letters[at + piece..]);
                let earlier = before.iter().rev().zip(secret[..start].iter().rev()).take_while(alike).count();
                let later = after.iter().zip(&secret[start + piece..]).take_while(alike).count();
                found.push(self.places[at - earlier].start..self.places[at + piece + later - 1].end);
            }
        }
    }

    /// The end of the text, if `secret` begins with it.
    fn end_that_begins(&self, secret: &[u8]) -> Option<Range<usize>> {
        let length = (BEGINNING..secret.len()).rev().find(|length| self.letters.ends_with(&secret[..*length]))?;
        Some(self.places[self.places.len() - length].start..self.places.last()?.end)
    }
}

/// What `%2D` stands for at the beginning of a text, or `%252D`, as programs write that encode what was encoded already.
fn encoded(text: &[u8]) -> Option<(u8, usize)> {
    let mut rest = text.strip_prefix(b"%")?;
    while let Some(inner) = rest.strip_prefix(b"25")
        && two_digits(inner).is_some()
    {
        rest = inner;
    }
    Some((two_digits(rest)?, text.len() - rest.len() + 2))
}

fn two_digits(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The text without what was found in it.
fn replace(text: String, mut found: Vec<Range<usize>>) -> String {
    if found.is_empty() {
        return text;
    }
    found.sort_unstable_by_key(|range| range.start);
    let (mut clean, mut rest) = (String::with_capacity(text.len()), 0);
    for range in found {
        if range.start >= rest {
            clean.push_str(&text[rest..range.start]);
            clean.push_str(REDACTED);
        }
        rest = rest.max(range.end);
    }
    clean.push_str(&text[rest..]);
    clean
}

/// The same for words of which the mail is not at hand: without what looks like a token of ours, what a URL calls one, and
/// numbers as long as codes are.
pub fn hide_what_looks_secret(text: &str, code_length: u8) -> String {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    runs(
        bytes,
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        |run| {
            if run.len() >= TOKEN_LENGTH {
                found.push(run);
            }
        },
    );
    runs(bytes, u8::is_ascii_digit, |run| {
        if run.len() == usize::from(code_length) {
            found.push(run);
        }
    });
    let small = text.to_ascii_lowercase();
    for sign in ["token=", "token%3d", "token%253d", "code=", "code%3d", "code%253d"] {
        for (at, _) in small.match_indices(sign) {
            // Quoted-printable writes `=3D` for the sign, and breaks lines behind a `=`.
            let start = at + sign.len() + if small[at + sign.len()..].starts_with("3d") { 2 } else { 0 };
            let mut end = start;
            loop {
                let ends = |c: char| {
                    c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '<' | '>' | ')' | ']' | '}' | ';' | ',')
                };
                end += text[end..].find(ends).unwrap_or(text.len() - end);
                if !text[start..end].ends_with('=') || !text[end..].starts_with(' ') {
                    break;
                }
                end += 1;
            }
            if start < end {
                found.push(start..end);
            }
        }
    }
    replace(text.to_owned(), found)
}

/// Calls for each longest run of such bytes.
fn runs(bytes: &[u8], is_one: impl Fn(&u8) -> bool, mut each: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| is_one(byte)).count();
        if length > 0 {
            each(at..at + length);
        }
        at += length + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "AZIAAAAAcACAAAAAAAAAAemUadCjKu7bEey-f42KEKzBDbdOolaixc1pBf_0vT5B";

    fn hidden(text: &str) -> String {
        let mut quoted = Quoted::default();
        quoted.token(TOKEN.into());
        let mut other = Quoted::default();
        other.code("07246815".into());
        quoted.append(other);
        quoted.hide(text.to_owned())
    }

    #[test]
    fn a_quoted_link_loses_its_token() {
        let text = format!("550 5.7.1 blocked content [https://app.example.com/reset?token={TOKEN}&lang=de]");
        assert_eq!(hidden(&text), "550 5.7.1 blocked content [https://app.example.com/reset?token=[redacted]&lang=de]");
    }

    #[test]
    fn no_way_to_write_a_token_lets_it_through() {
        let percent = |escape: &str| TOKEN.replace('-', &format!("%{escape}2D")).replace('_', &format!("%{escape}5f"));
        let (first, second) = TOKEN.split_at(37);
        for written in [
            TOKEN.to_owned(),
            TOKEN.to_lowercase(),
            percent(""),
            percent("25"),
            percent("2525"),
            TOKEN.bytes().map(|b| format!("%{b:02x}")).collect::<Vec<_>>().concat(),
            format!("3D{first}= {second}"),
            format!("{first} {second}"),
            format!("{first}\u{2026}{second}"),
            first.to_owned(),
            second.to_owned(),
        ] {
            let clean = hidden(&format!("550 5.7.1 <https://a.example/r?token={written}> é rejected"));
            assert!(clean.contains("token=[redacted]") || clean.contains("token=3D[redacted]"), "{clean}");
            assert!(clean.ends_with("> é rejected") && clean.len() < 80, "{clean}");
        }
    }

    #[test]
    fn a_code_goes_however_it_is_spaced() {
        for written in ["07246815", "0724 6815", "0724-6815", "%30%37246815"] {
            assert_eq!(hidden(&format!("554 code {written}!")), "554 code [redacted]!");
        }
        assert_eq!(hidden("554 code 0724681"), "554 code 0724681", "that is another number");
    }

    #[test]
    fn what_was_cut_off_in_the_middle_of_a_secret_shows_no_beginning_of_it() {
        assert_eq!(hidden("554 the code 07246…"), "554 the code [redacted]…");
        assert_eq!(
            hidden("554 it is too long for this server: AZIAA…"),
            "554 it is too long for this server: [redacted]…"
        );
    }

    #[test]
    fn other_words_stay_as_they_are() {
        for text in
            ["", "250 2.0.0 Ok: queued as 4cFh3x2kQzz", "550 5.1.1 <ada@example.com>: no such user 100% %zz %+1 …"]
        {
            assert_eq!(hidden(text), text);
        }
        assert_eq!(Quoted::default().hide(TOKEN.to_owned()), TOKEN);
    }

    #[test]
    fn words_of_an_unknown_mail_lose_what_looks_secret() {
        let clean = |text: &str| hide_what_looks_secret(text, 8);
        assert_eq!(clean(&format!("550 [https://a.example/{TOKEN}]")), "550 [https://a.example/[redacted]]");
        for written in ["abc", "a%2Db", "3Dab= cd"] {
            let clean = clean(&format!("550 <https://a.example/?Token={written}&x=1>"));
            assert!(clean.ends_with("[redacted]&x=1>") && !clean.contains("ab"), "{clean}");
        }
        assert_eq!(clean("https%3A%2F%2Fa.example%3Ftoken%3Dabc"), "https%3A%2F%2Fa.example%3Ftoken%3D[redacted]");
        assert_eq!(clean("your code: 07246815, 0724681"), "your code: [redacted], 0724681");
        assert_eq!(clean("é token= & code="), "é token= & code=");
        let plain = "452 4.2.2 mailbox full, é";
        assert_eq!(clean(plain), plain);
    }
}
