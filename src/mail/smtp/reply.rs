//! What a server says (RFC 5321 section 4.2), and how much of it is kept.

use std::fmt;

/// How much of a reply is kept, in characters.
const KEPT: usize = 500;

/// A complete reply, all its lines under one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// Without code and separator; may be empty, never has a control character.
    pub lines: Vec<String>,
}

/// One line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub code: u16,
    pub last: bool,
    pub text: String,
}

impl Line {
    /// Parses a line without its line end. `None` if it is not of the form `250-text`, `250 text` or `250`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (digits, rest) = line.split_first_chunk::<3>()?;
        if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return None,
        };
        Some(Self { code, last, text: printable(text) })
    }
}

/// The reply on one line, with its enhanced status code (RFC 3463), at most 500 characters.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repeated = self.lines.first().and_then(|line| enhanced_status(line));
        let mut text = self.code.to_string();
        for (n, line) in self.lines.iter().enumerate() {
            // Servers repeat the enhanced code on each line; once is enough.
            let line = match repeated {
                Some(status) if n > 0 => line.strip_prefix(status).and_then(|l| l.strip_prefix(' ')).unwrap_or(line),
                _ => line,
            };
            if !line.trim().is_empty() {
                text.push(' ');
                text.push_str(line.trim());
            }
        }
        f.write_str(&shorten(text))
    }
}

/// The `5.1.1` a line starts with, if it does.
fn enhanced_status(line: &str) -> Option<&str> {
    let word = line.split(' ').next()?;
    let mut parts = word.split('.');
    let class = parts.next()?;
    let numeric = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let fits = matches!(class, "2" | "4" | "5") && parts.clone().count() == 2 && parts.all(numeric);
    fits.then_some(word)
}

/// One line without control characters, of any bytes a server may send.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

/// At most as many characters as are kept.
pub(super) fn shorten(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(KEPT) {
        let last = text[..cut].char_indices().next_back().map_or(0, |(at, _)| at);
        text.truncate(last);
        text.push('…');
    }
    text
}

/// The same text with addresses shown as `a***@example.com`, for logs.
pub(crate) fn mask_addresses(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let local = |c: char| c.is_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c);
        let start =
            rest[..at].char_indices().rev().take_while(|(_, c)| local(*c)).last().map_or(at, |(start, _)| start);
        masked.push_str(&rest[..start]);
        if start < at {
            masked.extend(rest[start..].chars().next());
            masked.push_str("***");
        }
        masked.push('@');
        rest = &rest[at + 1..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: u16, last: bool, text: &str) -> Line {
        Line { code, last, text: text.to_owned() }
    }

    #[test]
    fn lines() {
        assert_eq!(Line::parse(b"250-SIZE 1000"), Some(line(250, false, "SIZE 1000")));
        assert_eq!(Line::parse(b"250 ok"), Some(line(250, true, "ok")));
        assert_eq!(Line::parse(b"354"), Some(line(354, true, "")));
        assert_eq!(Line::parse(b"550 a\rb\x1b[31m\xff"), Some(line(550, true, "a b [31m\u{fffd}")));
        for garbage in
            [&b""[..], b"25", b"2500", b"25x ok", b"150 no", b"650 no", b"HTTP/1.1 400", b"250_ok", b" 250 ok"]
        {
            assert_eq!(Line::parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_reply_is_one_line_and_says_its_status_once() {
        let reply =
            |lines: &[&str]| Reply { code: 550, lines: lines.iter().map(|&l| l.to_owned()).collect() }.to_string();
        assert_eq!(
            reply(&["5.7.25 no reverse", "5.7.25 DNS entry", "", "5.7.251 see"]),
            "550 5.7.25 no reverse DNS entry 5.7.251 see"
        );
        assert_eq!(reply(&["first", "5.1.1 second"]), "550 first 5.1.1 second");
        assert_eq!(reply(&[""]), "550");
        let long = reply(&["é".repeat(600).as_str(); 3]);
        assert_eq!(long.chars().count(), 500);
        assert!(long.starts_with("550 ééé") && long.ends_with('…'));
    }

    #[test]
    fn addresses_are_masked() {
        assert_eq!(
            mask_addresses("550 5.1.1 <anna.b+c@example.com>: no such user"),
            "550 5.1.1 <a***@example.com>: no such user"
        );
        assert_eq!(mask_addresses("élise@x.de and b@y, @ alone"), "é***@x.de and b***@y, @ alone");
        assert_eq!(mask_addresses("250 ok"), "250 ok");
    }
}
