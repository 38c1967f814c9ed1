//! The parts of a message as they travel: CRLF line ends, whatever they were; no NUL, which no message may hold (RFC 5322
//! section 4); and quoted-printable where that is needed.
//!
//! lettre would do it too, in some ten copies and with a call for each character: half of what a mail cost.

/// The longest line of a message, without its end (RFC 5322 section 2.1.1).
const LONGEST_LINE: usize = 998;
/// The longest line of quoted-printable, without its end (RFC 2045 section 6.7, rule 5).
const LONGEST_ENCODED: usize = 76;

/// About how many bytes the body takes, as long as little of it has to be encoded.
pub(super) fn about(text: &str, html: &str) -> usize {
    let size = text.len() + html.len();
    size + size / 8 + 512
}

/// Appends the body of a multipart/alternative: the text, and then the HTML (RFC 2046 section 5.1.4: best last).
pub(super) fn alternative(boundary: &str, text: &str, html: &str, out: &mut Vec<u8>) {
    for (kind, content) in [("text/plain", text), ("text/html", html)] {
        let start = out.len();
        part(boundary, kind, "7bit", out);
        // ASCII in lines that are short enough stays as it is; everything else becomes quoted-printable, which is ASCII, so that
        // no server on the way has a reason to change it: a signature would not survive that.
        if !plain(content, out) {
            out.truncate(start);
            part(boundary, kind, "quoted-printable", out);
            quoted_printable(content, out);
        }
        out.extend_from_slice(b"\r\n");
    }
    for piece in ["--", boundary, "--\r\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// What precedes a part.
fn part(boundary: &str, kind: &str, encoding: &str, out: &mut Vec<u8>) {
    for piece in [
        "--",
        boundary,
        "\r\nContent-Type: ",
        kind,
        "; charset=utf-8\r\nContent-Transfer-Encoding: ",
        encoding,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Appends a text that needs no encoding. Of one that does, nothing or its beginning is appended, and the answer is no.
fn plain(text: &str, out: &mut Vec<u8>) -> bool {
    let text = text.as_bytes();
    if !text.is_ascii() {
        return false;
    }
    // Where the line began, and what was not yet written.
    let (mut line, mut rest) = (0, 0);
    for at in memchr::memchr3_iter(b'\n', b'\r', 0, text) {
        if at < rest {
            // The second half of a CRLF.
            continue;
        }
        out.extend_from_slice(&text[rest..at]);
        rest = at + 1;
        if text[at] == 0 {
            continue;
        }
        if at - line > LONGEST_LINE {
            return false;
        }
        out.extend_from_slice(b"\r\n");
        if text[at] == b'\r' && text.get(rest) == Some(&b'\n') {
            rest += 1;
        }
        line = rest;
    }
    out.extend_from_slice(&text[rest..]);
    text.len() - line <= LONGEST_LINE
}

/// The lines of a text, whatever ends them, and whether each is the last.
fn lines(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = memchr::memchr2(b'\r', b'\n', text.as_bytes()) else {
            rest = None;
            return Some((text, true));
        };
        let is_crlf = matches!(text.as_bytes()[at..], [b'\r', b'\n', ..]);
        rest = Some(&text[at + if is_crlf { 2 } else { 1 }..]);
        Some((&text[..at], false))
    })
}

fn quoted_printable(text: &str, out: &mut Vec<u8>) {
    for (line, last) in lines(text) {
        encode_line(line.as_bytes(), out);
        if !last {
            out.extend_from_slice(b"\r\n");
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// How many bytes from the first on stand for themselves; space and tab do unless they end a line (RFC 2045 section 6.7,
/// rules 2 and 3).
fn literals(bytes: &[u8]) -> usize {
    // The bytes of a whole chunk are compared many at once: the compiler sees to it.
    const CHUNK: usize = 32;
    let is_literal = |byte: u8| matches!(byte, b' '..=b'~' | b'\t') && byte != b'=';
    let chunks = bytes.chunks_exact(CHUNK);
    let whole = CHUNK * chunks.take_while(|chunk| chunk.iter().fold(true, |all, byte| all & is_literal(*byte))).count();
    let rest = &bytes[whole..];
    whole + rest.iter().position(|byte| !is_literal(*byte)).unwrap_or(rest.len())
}

fn encode_line(mut rest: &[u8], out: &mut Vec<u8>) {
    let mut room = LONGEST_ENCODED;
    while let Some(&first) = rest.first() {
        // As many at once as stand for themselves and fit beside the `=` of a soft line break.
        let literal = literals(&rest[..rest.len().min(room - 1)]);
        if literal > 0 && (literal < rest.len() || !matches!(rest[literal - 1], b' ' | b'\t')) {
            out.extend_from_slice(&rest[..literal]);
            rest = &rest[literal..];
            room -= literal;
        } else if literal > 1 {
            // What ends the line is a space.
            out.extend_from_slice(&rest[..literal - 1]);
            rest = &rest[literal - 1..];
            room -= literal - 1;
        } else if first == 0 {
            rest = &rest[1..];
        } else if room > 3 {
            out.extend_from_slice(&[b'=', HEX[usize::from(first >> 4)], HEX[usize::from(first & 15)]]);
            rest = &rest[1..];
            room -= 3;
        } else {
            room = 0;
        }
        // Characters may be cut between their bytes: they are whole again once decoded.
        if room <= 1 && !rest.is_empty() || room == 0 {
            out.extend_from_slice(b"=\r\n");
            room = LONGEST_ENCODED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> String {
        let mut out = Vec::new();
        quoted_printable(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn as_it_is(text: &str) -> Option<String> {
        let mut out = Vec::new();
        plain(text, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_needs_no_encoding_has_none() {
        for (text, bytes) in [
            ("", ""),
            ("a", "a"),
            ("a\nb\r\nc\rd\n", "a\r\nb\r\nc\r\nd\r\n"),
            ("a\0b\n\n", "ab\r\n\r\n"),
            ("trailing \n.\n", "trailing \r\n.\r\n"),
        ] {
            assert_eq!(as_it_is(text).as_deref(), Some(bytes), "{text:?}");
        }
        for (line, fits) in [("a".repeat(998), true), ("a".repeat(999), false), ("é".to_owned(), false)] {
            for text in [line.clone(), format!("{line}\n"), format!("a\r\n{line}\rb"), format!("\n\0\n{line}")] {
                assert_eq!(as_it_is(&text).is_some(), fits, "{text:?}");
            }
        }
    }

    #[test]
    fn lines_are_cut_and_their_last_space_is_not_lost() {
        assert_eq!(encoded("é=\tx \n"), "=C3=A9=3D\tx=20\r\n");
        assert_eq!(encoded(" "), "=20");
        assert_eq!(encoded(&"a".repeat(75)), "a".repeat(75));
        assert_eq!(encoded(&"a".repeat(77)), format!("{}=\r\naa", "a".repeat(75)));
        assert_eq!(encoded(&"é".repeat(13)), format!("{}=\r\n=A9", "=C3=A9".repeat(12) + "=C3"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_was_meant(text in "(\\PC|[ \t=.é\r\n]){0,300}") {
            let encoded = encoded(&text);
            prop_assert!(encoded.is_ascii());
            for line in encoded.split('\n') {
                prop_assert!(line.len() <= LONGEST_ENCODED + 1);
                prop_assert!(!line.strip_suffix('\r').unwrap_or(line).ends_with(' '));
            }
            let decoded = ::quoted_printable::decode(&encoded, ::quoted_printable::ParseMode::Strict).unwrap();
            let meant = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n").replace('\0', "");
            prop_assert_eq!(String::from_utf8(decoded).unwrap(), meant);
        }
    }
}
