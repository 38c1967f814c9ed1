//! Words that a person may have typed, made harmless before they stand in an email.
//!
//! Whoever registers with the name `visit http://evil.example` would otherwise have us send their
//! advertisement, from our address, to whomever they like; and a name with a line break, or with marks
//! that turn the reading direction, could rewrite what stands around it.

use std::borrow::Cow;

use crate::domain::email_address::{is_invisible, is_joiner};

/// Marks that change the direction of what follows, and fillers that nobody sees. Joiners stay, and what is a blank becomes one.
fn is_filler(c: char) -> bool {
    is_invisible(c) && !is_joiner(c) && !c.is_control() && !c.is_whitespace()
}

/// Whether there is nothing in it but characters of ASCII that are seen, and blanks.
pub(super) fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// One line of at most `max` characters: control characters, line breaks and runs of blanks become one
/// blank, invisible and direction marks go, what is too long ends in `…`.
pub(super) fn single_line(text: &str, max: usize) -> String {
    // Most texts are so, and a walk through their characters takes several times as long.
    if text.len() <= max && is_printable_ascii(text) && !text.contains("  ") {
        return text.trim().to_owned();
    }
    let mut line = String::with_capacity(text.len().min(max * 2));
    let (mut length, mut gap) = (0, false);
    for c in text.chars() {
        if is_filler(c) {
            continue;
        }
        if c.is_control() || c.is_whitespace() {
            gap = !line.is_empty();
            continue;
        }
        if length + usize::from(gap) >= max {
            // The blank or the last character gives way to the mark that something is missing.
            if length == max {
                line.pop();
            }
            line.push('…');
            break;
        }
        if std::mem::take(&mut gap) {
            line.push(' ');
            length += 1;
        }
        line.push(c);
        length += 1;
    }
    line
}

/// What separates the labels of a host name: the full stop and what IDNA takes for it (RFC 3490 section 3.1).
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// Breaks what a mail program would turn into a link, by a blank that a reader hardly notices:
/// `http://evil.example` becomes `http: //evil. example`. Initials, numbers and versions stay.
pub(super) fn unlink(text: &str) -> Cow<'_, str> {
    if !text.contains(DOTS) && !text.contains(':') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = None;
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        out.push(c);
        let breaks = match c {
            // A host name's last label is at least two letters long, or punycode.
            _ if DOTS.contains(&c) => {
                before.is_some_and(char::is_alphanumeric)
                    && rest.chars().next().is_some_and(char::is_alphabetic)
                    && rest.chars().nth(1).is_some_and(|c| c.is_alphanumeric() || c == '-')
            }
            ':' => rest.starts_with("//") || is_bare_scheme(&out),
            _ => false,
        };
        if breaks {
            out.push(' ');
        }
        before = Some(c);
    }
    Cow::Owned(out)
}

/// Whether the text ends in a scheme that works without slashes.
fn is_bare_scheme(text: &str) -> bool {
    ["mailto:", "tel:", "javascript:", "data:"].iter().any(|scheme| {
        text.len() >= scheme.len()
            && text.is_char_boundary(text.len() - scheme.len())
            && text[text.len() - scheme.len()..].eq_ignore_ascii_case(scheme)
    })
}

/// [`single_line`] and [`unlink`].
pub(super) fn personal(text: &str, max: usize) -> String {
    let line = single_line(text, max);
    match unlink(&line) {
        Cow::Borrowed(_) => line,
        Cow::Owned(unlinked) => unlinked,
    }
}

/// A text body as it is sent: no control characters, no blanks at line ends, never more than one empty
/// line in a row (optional parts leave some), one line break at the end.
pub(super) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    let mut empty = 0;
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if empty > 0 && !out.is_empty() {
            out.push('\n');
        }
        empty = 0;
        // The second half of the control characters begins with this byte in UTF-8: look closer only then.
        // Every byte is looked at, since that can be done for many at once.
        if line.bytes().fold(false, |found, b| found | matches!(b, 0..=0x1f | 0x7f | 0xc2)) {
            out.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let cases = [
            ("Ada Lovelace", "Ada Lovelace"),
            ("  Ada\r\nBcc: all@example.com ", "Ada Bcc: all@example.com"),
            ("a\u{0}b\u{7f}c\u{85}d\u{2028}e\u{2029}f", "a b c d e f"),
            ("ab\u{202e}cd\u{2066}ef\u{200b}", "abcdef"),
            ("علی\u{200c}رضا 👩\u{200d}🔬", "علی\u{200c}رضا 👩\u{200d}🔬"),
            ("\n\t ", ""),
        ];
        for (dirty, clean) in cases {
            assert_eq!(single_line(dirty, 80), clean, "{dirty:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_marked() {
        assert_eq!(single_line("abcdef", 6), "abcdef");
        assert_eq!(single_line("abcdefg", 6), "abcde…");
        assert_eq!(single_line("abcde fg", 6), "abcde…");
        assert_eq!(single_line("abcdef ", 6), "abcdef");
        assert_eq!(single_line(&"x".repeat(5_000_000), 80).chars().count(), 80);
    }

    #[test]
    fn links_are_broken_and_names_are_not() {
        let cases = [
            ("visit http://evil.example/now", "visit http: //evil. example/now"),
            ("HTTPS://1.2.3.4", "HTTPS: //1.2.3.4"),
            ("www.evil.com", "www. evil. com"),
            ("me@evil.co.uk", "me@evil. co. uk"),
            ("mailto:x", "mailto: x"),
            ("evil。com", "evil。 com"),
            ("evil．com", "evil． com"),
            ("evil｡com", "evil｡ com"),
            ("a.xn--p1ai", "a. xn--p1ai"),
            ("J.R.R. Tolkien", "J.R.R. Tolkien"),
            ("Dr. Ph.D. No 3.14: ok", "Dr. Ph.D. No 3.14: ok"),
            ("Zoë O'Neill-Müller", "Zoë O'Neill-Müller"),
        ];
        for (dirty, clean) in cases {
            assert_eq!(unlink(dirty), clean, "{dirty:?}");
        }
    }

    #[test]
    fn a_tidy_text_has_no_holes() {
        assert_eq!(tidy("\n\n a \n\n\n\nb\u{7}\r\n\n"), " a\n\nb\n");
        assert_eq!(tidy(""), "");
    }

    proptest! {
        #[test]
        fn whatever_is_typed_gives_one_short_line(text in any::<String>(), max in 1_usize..40) {
            let line = single_line(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_filler(c)));
            prop_assert_eq!(line.trim(), line.as_str());
            let inert = personal(&text, max);
            prop_assert!(!inert.contains("://"));
        }

        /// The short way of texts in ASCII is no other way.
        #[test]
        fn a_line_is_the_same_with_and_without_the_short_way(text in "[ a~]{0,12}", max in 1_usize..20) {
            // What nobody sees makes it the long way.
            prop_assert_eq!(single_line(&text, max), single_line(&format!("\u{200b}{text}"), max));
        }
    }
}
