//! JSON as YAML for people: blocks instead of braces. Every scalar is written as JSON writes it, which YAML 1.2 reads the
//! same; only plain words go without quotes.

use std::fmt::Write as _;

use serde_json::Value;

/// A document.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let _ = write!(out, "{:depth$}{}:", "", scalar(name), depth = depth * 2);
                below(value, depth + 1, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = write!(out, "{:depth$}-", "", depth = depth * 2);
                if let Value::Object(fields) = item
                    && !fields.is_empty()
                {
                    // The first field stands beside the dash.
                    let mut nested = String::new();
                    block(item, depth + 1, &mut nested);
                    out.push(' ');
                    out.push_str(nested.trim_start());
                } else {
                    below(item, depth + 1, out);
                }
            }
        }
        _ => {}
    }
}

/// What follows `name:` or `-`.
fn below(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        Value::String(text) => {
            let _ = writeln!(out, " {}", scalar(text));
        }
        other => {
            let _ = writeln!(out, " {other}");
        }
    }
}

fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-$".contains(c);
    // Words that YAML, in one version or another, takes for something else.
    let odd = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
        && text.chars().all(plain)
        && !odd.contains(&text.to_ascii_lowercase().as_str());
    if is_word { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_indented_and_doubtful_words_quoted() {
        let value = json!({
            "a": "plain",
            "b.c": ["yes", "1.0", "x: y", { "d": null, "e": [] }, [1, [true]]],
            "empty": {},
            "two words": "line\nbreak",
        });
        assert_eq!(
            text(&value),
            r#"a: plain
b.c:
  - "yes"
  - "1.0"
  - "x: y"
  - d: null
    e: []
  -
    - 1
    -
      - true
empty: {}
"two words": "line\nbreak"
"#
        );
    }
}
