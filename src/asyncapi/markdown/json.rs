//! JSON for people: what fits on a line stays on one.

use serde_json::Value;

/// Columns that an example may have before it scrolls sideways.
const WIDTH: usize = 96;

/// A value, over as many lines as it needs.
pub fn pretty(value: &Value) -> String {
    written(value, 0, 0)
}

/// `depth`: how far it is indented; `before`: what stands before it on its line.
fn written(value: &Value, depth: usize, before: usize) -> String {
    let short = one_line(value);
    if depth > 0 && before + short.chars().count() <= WIDTH || !is_long(value) {
        return short;
    }
    let indent = "  ".repeat(depth + 1);
    let (open, close, lines): (_, _, Vec<String>) = match value {
        Value::Object(fields) => {
            let line = |(name, value): (&String, &Value)| {
                let name = Value::from(name.as_str());
                let start = format!("{indent}{name}: ");
                format!("{start}{}", written(value, depth + 1, start.chars().count() + 1))
            };
            ('{', '}', fields.iter().map(line).collect())
        }
        Value::Array(items) => {
            let line = |item: &Value| format!("{indent}{}", written(item, depth + 1, indent.len() + 1));
            ('[', ']', items.iter().map(line).collect())
        }
        _ => return short,
    };
    format!("{open}\n{}\n{}{close}", lines.join(",\n"), "  ".repeat(depth))
}

/// What is worth more than one line at the outermost level.
fn is_long(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), one_line(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_things_stay_on_a_line() {
        let value = json!({ "user": { "id": "ada" }, "list": ["x".repeat(60), "y".repeat(60)], "empty": {} });
        let (x, y) = ("x".repeat(60), "y".repeat(60));
        let text = format!(
            "{{\n  \"user\": {{ \"id\": \"ada\" }},\n  \"list\": [\n    \"{x}\",\n    \"{y}\"\n  ],\n  \"empty\": {{}}\n}}"
        );
        assert_eq!(pretty(&value), text);
        assert_eq!(pretty(&json!({})), "{}");
    }
}
