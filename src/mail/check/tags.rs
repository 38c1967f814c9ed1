//! A first look at a template, before Handlebars reads it: are tags closed, do blocks match, is nothing
//! nested so deep that a recursive parser would run out of stack? Handlebars' own messages name rules of
//! its grammar; these name what the editor typed.

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
                    let help = format!("write `{{{{/{opened}}}}}`, or close the inner block first");
                    return Err(fault(start, tag, message, Some(help)));
                }
                None => {
                    let message = format!("`{{{{/{closes}}}}}` closes a block that is not open");
                    return Err(fault(start, tag, message, None));
                }
            }
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
        close(rest)
    };
    if let Some(end) = end {
        return Ok(&rest[..end]);
    }
    let help = if rest.starts_with("{{!--") { "end it with `--}}`" } else { "end it with `}}`" };
    Err(fault(start, &rest[..2], "this tag is never closed".to_owned(), Some(help.to_owned())))
}

/// The end of a tag: its closing braces, outside of quotes. A new `{{` before them means that they were
/// forgotten.
fn close(rest: &str) -> Option<usize> {
    let opening = rest.bytes().take_while(|b| *b == b'{').count();
    let mut quote = None;
    let mut bytes = rest.bytes().enumerate().skip(opening).peekable();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => drop(bytes.next()),
            (Some(q), b) if q == b => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') if rest.as_bytes().get(at + 1) == Some(&b'{') => return None,
            (None, b'}') if rest.as_bytes().get(at + 1) == Some(&b'}') => {
                let braces = rest[at..].bytes().take_while(|b| *b == b'}').count();
                return Some(at + braces.min(opening.max(2)));
            }
            _ => {}
        }
    }
    None
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
    fn depth_is_bounded() {
        let blocks = format!("{}{}", "{{#if a}}".repeat(30_000), "{{/if}}".repeat(30_000));
        assert!(scan(&blocks).unwrap_err().message.contains("nested"));
        let brackets = format!("{{{{#if {}}}}}", "(not ".repeat(30_000));
        assert!(scan(&brackets).unwrap_err().message.contains("nested"));
    }
}
