//! A first look at a template, before Handlebars reads it: are tags closed, do blocks match, is nothing
//! nested so deep that a recursive parser would run out of stack? Handlebars' own messages name rules of
//! its grammar; these name what the editor typed.

mod inside;

pub(super) use inside::TYPOGRAPHIC_QUOTES;

/// Blocks in blocks, and brackets in a tag. Far more than an email needs, far less than a parser's stack.
const MAX_DEPTH: usize = 24;

/// A fault, at a byte of the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub length: usize,
    pub message: String,
    pub help: Option<String>,
}

/// Looks for tags that do not close and blocks that do not match.
pub(super) fn scan(source: &str) -> Result<(), Fault> {
    let mut open: Vec<(&str, usize, &str)> = Vec::new();
    let mut seen = Vec::new();
    let mut position = 0;
    while let Some(found) = source[position..].find("{{") {
        let start = position + found;
        if let Some(escaped) = escape(source, start) {
            position = escaped;
            continue;
        }
        let tag = tag(source, start)?;
        position = start + tag.len();
        let inner = tag.trim_matches(['{', '}', '~']).trim_start();
        if inner.starts_with('!') {
            continue;
        }
        nesting(inner, start)?;
        inside::check(tag, start)?;
        if let Some(rest) = inner.strip_prefix('#') {
            let name = name(rest.trim_start_matches(['>', '*', ' ']));
            open.push((name, start, tag));
            if open.len() > MAX_DEPTH {
                let message = format!("blocks are nested more than {MAX_DEPTH} deep");
                return Err(fault(start, tag, message, None));
            }
        } else if let Some(rest) = inner.strip_prefix('/') {
            let closes = name(rest);
            match open.pop() {
                Some((opened, ..)) if opened == closes => {}
                Some((opened, at, _)) => {
                    let line = source[..at].matches('\n').count() + 1;
                    let message = format!("`{{{{/{closes}}}}}` closes `{opened}`, which was opened on line {line}");
                    let help = opening(source, &seen, closes)
                        .unwrap_or_else(|| format!("write `{{{{/{opened}}}}}`, or close the inner block first"));
                    return Err(fault(start, tag, message, Some(help)));
                }
                None => {
                    let message = format!("`{{{{/{closes}}}}}` closes a block that is not open");
                    return Err(fault(start, tag, message, opening(source, &seen, closes)));
                }
            }
        } else {
            seen.push((name(inner.trim_start_matches(['>', ' '])), start));
        }
    }
    match open.pop() {
        None => Ok(()),
        Some((name, at, tag)) => {
            let message = format!("`{name}` is opened here and never closed");
            Err(fault(at, tag, message, Some(format!("add `{{{{/{name}}}}}` where it ends"))))
        }
    }
}

/// How to open the block that is closed under that name, if a tag before it was meant to.
fn opening(source: &str, seen: &[(&str, usize)], closes: &str) -> Option<String> {
    let (_, at) = seen.iter().rfind(|(name, _)| *name == closes)?;
    let line = source[..*at].matches('\n').count() + 1;
    let tag = match closes {
        "if" | "unless" | "with" => format!("{{{{#{closes} …}}}}"),
        _ => format!("{{{{#> {closes}}}}}"),
    };
    Some(format!("open it with `{tag}` on line {line}"))
}

/// The words outside of tags, each with its first byte. What is escaped by a backslash is meant to be seen, and left out.
pub(super) fn words(source: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut position = 0;
    while let Some(start) = source[position..].find("{{").map(|found| position + found) {
        words.push((position, &source[position..start]));
        let end = match escape(source, start) {
            Some(escaped) => source[escaped..].find("}}").map(|end| escaped + end + 2),
            None => tag(source, start).ok().map(|tag| start + tag.len()),
        };
        position = end.unwrap_or(source.len());
    }
    words.push((position, &source[position..]));
    words
}

fn fault(at: usize, tag: &str, message: String, help: Option<String>) -> Fault {
    let length = tag.lines().next().unwrap_or_default().chars().count();
    Fault { at, length, message, help }
}

/// Where to go on after `\{{`, which stands for the braces themselves.
fn escape(source: &str, start: usize) -> Option<usize> {
    let backslashes = source[..start].bytes().rev().take_while(|b| *b == b'\\').count();
    (backslashes == 1).then_some(start + 2)
}

/// The whole tag, from its first to its last brace.
fn tag(source: &str, start: usize) -> Result<&str, Fault> {
    let rest = &source[start..];
    let end = if rest.starts_with("{{!--") {
        rest.find("--}}").map(|end| end + 4)
    } else if rest.starts_with("{{!") {
        rest.find("}}").map(|end| end + 2)
    } else {
        close(rest).map_err(|fault| Fault { at: start + fault.at, ..fault })?
    };
    if let Some(end) = end {
        return Ok(&rest[..end]);
    }
    let help = if rest.starts_with("{{!--") { "end it with `--}}`" } else { "end it with `}}`" };
    Err(fault(start, &rest[..2], "this tag is never closed".to_owned(), Some(help.to_owned())))
}

/// Help where words between quotes hold a quote themselves.
const IN_WORDS: &str =
    "put words that hold a `'` between `\"` and `\"`, and words that hold a `\"` between `'` and `'`";

/// The end of a tag: its closing braces, outside of quotes. A new `{{` before them means that they were
/// forgotten; a quote in the middle of a word, that the words between quotes hold one themselves.
fn close(rest: &str) -> Result<Option<usize>, Fault> {
    let wrong = |at, message: &str, help: &str| {
        Err(Fault { at, length: 1, message: message.to_owned(), help: Some(help.to_owned()) })
    };
    let opening = rest.bytes().take_while(|b| *b == b'{').count();
    let mut quote = None;
    let mut bytes = rest.bytes().enumerate().skip(opening).peekable();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => drop(bytes.next()),
            (Some((q, _)), b) if q == b && rest[at + 1..].starts_with(char::is_alphanumeric) => {
                return wrong(at, "this quote ends the words before it, and a word follows", IN_WORDS);
            }
            (Some((q, _)), b) if q == b => quote = None,
            (Some((_, opened)), b'{') if rest.as_bytes().get(at + 1) == Some(&b'{') => {
                return if rest[opened..at].contains(['}', '\n']) {
                    wrong(opened, "this quote is never closed", "write the same sign after the last word")
                } else {
                    let help =
                        "a name stands without quotes, as in `label=user.display_name`, and cannot be mixed with words";
                    wrong(at, "between quotes there are only words, and no placeholders", help)
                };
            }
            (None, b'"' | b'\'') if rest[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '\'')) => {
                return wrong(at, "this quote stands right after a word", IN_WORDS);
            }
            (None, b'"' | b'\'') => quote = Some((byte, at)),
            (None, b'{') if rest.as_bytes().get(at + 1) == Some(&b'{') => return Ok(None),
            (None, b'}') if rest.as_bytes().get(at + 1) == Some(&b'}') => {
                let braces = rest[at..].bytes().take_while(|b| *b == b'}').count();
                return Ok(Some(at + braces.min(opening.max(2))));
            }
            _ => {}
        }
    }
    match quote {
        Some((_, opened)) => wrong(opened, "this quote is never closed", "write the same sign after the last word"),
        None => Ok(None),
    }
}

fn name(text: &str) -> &str {
    let text = text.trim_start();
    text.split(|c: char| c.is_whitespace() || matches!(c, '}' | '~' | '(')).next().unwrap_or(text)
}

fn nesting(tag: &str, start: usize) -> Result<(), Fault> {
    let mut depth = 0_usize;
    for byte in tag.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let message = format!("brackets are nested more than {MAX_DEPTH} deep");
            return Err(fault(start, tag, message, None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_closes_is_fine() {
        for source in [
            "",
            "plain } {",
            "{{a}} {{{b}}} {{~c~}} {{!}} {{! } }} {{!-- }} {{#if --}}",
            "{{#if a}}x{{else if b}}y{{else}}z{{/if}}",
            "{{#> layout title=\"a }} b\"}}{{#unless (eq a 'b')}}{{/unless}}{{/layout}}",
            r"\{{#if a}} stays",
            "<style>@media x{a{b:c}}</style>",
        ] {
            assert_eq!(scan(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn what_does_not_close_is_named_at_its_place() {
        let cases = [
            ("a {{b", 2, "never closed"),
            ("a {{b }c {{d}}", 2, "never closed"),
            ("{{!-- }}", 0, "never closed"),
            ("x{{#if a}}", 1, "`if` is opened here"),
            ("{{#if a}}\n{{/unless}}", 10, "closes `if`, which was opened on line 1"),
            ("{{/if}}", 0, "not open"),
            ("{{#> layout}}{{/button}}", 13, "closes `layout`"),
        ];
        for (source, at, message) in cases {
            let fault = scan(source).unwrap_err();
            assert!(fault.at == at && fault.message.contains(message), "{source}: {fault:?}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_tag_is_named_with_what_to_write() {
        let cases = [
            ("{{#> layout title=”Go now”}}", 18, "typographic", "`\"`"),
            ("a {{#if “b”}}{{/if}}", 8, "typographic", "`\"`"),
            ("{{\u{a0}reset_link\u{a0}}}", 2, "U+00A0", "`{{reset_link}}`"),
            ("{{reset_\u{200b}link}}", 8, "U+200B", "`{{reset_link}}`"),
            ("{{> button\u{3000}label=\"x\"}}", 10, "U+3000", "`{{> button label=\"x\"}}`"),
            ("{{#if a == \"b c\"}}{{/if}}", 0, "`==`", "`{{#if (eq a \"b c\")}}`"),
            ("{{#if a}}{{else if a != b}}{{/if}}", 9, "`!=`", "`{{else if (ne a b)}}`"),
            ("{{#unless a && b}}{{/unless}}", 0, "`&&`", "`{{#unless (and a b)}}`"),
            ("{{#if a || b || c}}{{/if}}", 0, "`||`", "`(or a b)`"),
            ("{{#if !a}}{{/if}}", 0, "`!a`", "`{{#if (not a)}}`"),
            ("{{#> a title='Don't wait'}}{{/a}}", 17, "a word follows", "that hold a `'`"),
            ("{{> a title=\"a \"new\" b\"}}", 15, "a word follows", "that hold a `\"`"),
            ("{{> a title=b\"c\"}}", 13, "right after a word", "that hold a `\"`"),
            ("{{> a title=\"a}} {{b}}", 12, "never closed", "the same sign"),
            ("{{> a title=\"a}}", 12, "never closed", "the same sign"),
            ("{{> a title=\"Hi {{b}}\"}}", 16, "no placeholders", "without quotes"),
            ("{{a}}x{{/a}}", 6, "not open", "open it with `{{#> a}}` on line 1"),
            ("{{#> b}}\n{{> a}}x{{/a}}{{/b}}", 17, "closes `b`", "open it with `{{#> a}}` on line 2"),
            ("{{if a}}x{{/if}}", 9, "not open", "open it with `{{#if …}}` on line 1"),
        ];
        for (source, at, message, help) in cases {
            let fault = scan(source).unwrap_err();
            assert!(fault.at == at && fault.message.contains(message), "{source}: {fault:?}");
            assert!(fault.help.as_deref().is_some_and(|given| given.contains(help)), "{source}: {fault:?}");
        }
        for source in [
            "{{> a b=\"Don’t “go”\" c='x \"y\" z' d=\"\"}}",
            "{{! “a” == }}",
            "{{#if (eq a \"==\")}}{{/if}}",
            "x == “y”",
        ] {
            assert_eq!(scan(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn words_are_what_stands_outside_of_tags() {
        let all: Vec<_> = words("a {{b}} c\\{{d}} e {{! f }}{{> g}}").into_iter().map(|(_, words)| words).collect();
        assert_eq!(all, ["a ", " c\\", " e ", "", ""]);
    }

    #[test]
    fn depth_is_bounded() {
        let blocks = format!("{}{}", "{{#if a}}".repeat(30_000), "{{/if}}".repeat(30_000));
        assert!(scan(&blocks).unwrap_err().message.contains("nested"));
        let brackets = format!("{{{{#if {}}}}}", "(not ".repeat(30_000));
        assert!(scan(&brackets).unwrap_err().message.contains("nested"));
    }
}
