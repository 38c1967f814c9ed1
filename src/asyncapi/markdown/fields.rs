//! Schemas as tables of fields.

use std::fmt::Write as _;

use serde_json::Value;

use crate::asyncapi::contract::Contract;
use crate::asyncapi::schemas::COMPONENTS;

/// The fields of an object, in its order.
pub fn names(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// All fields.
pub fn table(schema: &Value) -> String {
    table_of(schema, &names(schema))
}

/// Some fields.
pub fn table_of(schema: &Value, names: &[&str]) -> String {
    format!("| field | type | |\n| --- | --- | --- |\n{}", rows_of(schema, names, ""))
}

/// Rows of a table; optional fields have a question mark. Objects that have no name of their own are taken apart.
pub fn rows_of(schema: &Value, names: &[&str], path: &str) -> String {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = String::new();
    for name in names {
        let field = &schema["properties"][*name];
        let optional = !required.contains(name);
        let mark = if optional { "?" } else { "" };
        let kind = kind(field, optional);
        let _ = writeln!(rows, "| `{path}{name}`{mark} | {kind} | {} |", explanation(field));
        for (inner, step) in nested(field) {
            let below = self::names(inner);
            rows.push_str(&rows_of(inner, &below, &format!("{path}{name}{step}.")));
        }
    }
    rows
}

/// A reply's `result`: one table, or one for each form that it may have.
pub fn result(contract: &Contract, schema: &Value) -> String {
    if let Some(forms) = forms(schema) {
        let mut text = String::new();
        for form in forms {
            let form = contract.resolve(form);
            let _ =
                writeln!(text, "{}\n\n{}", form["description"].as_str().map(one_line).unwrap_or_default(), table(form));
        }
        return text;
    }
    if names(schema).is_empty() { "No fields.\n".to_owned() } else { table(schema) }
}

/// What a named type is.
pub fn definition(schema: &Value) -> String {
    if schema.get("properties").is_some() {
        return table(schema);
    }
    let Some(forms) = forms(schema) else { return format!("{}\n", kind(schema, false)) };
    forms.into_iter().fold("One of:\n\n".to_owned(), |mut text, form| {
        let about = form["description"].as_str().map(|about| format!(": {}", one_line(about))).unwrap_or_default();
        let inside: Vec<String> = names(form)
            .into_iter()
            .map(|name| format!("\"{name}\": {}", kind(&form["properties"][name], false)))
            .collect();
        let what = if inside.is_empty() { kind(form, false) } else { format!("{{ {} }}", inside.join(", ")) };
        let _ = writeln!(text, "- {what}{about}");
        text
    })
}

/// A type, in a few words. Of what may be left out, that it may be null too is not worth a word.
fn kind(schema: &Value, optional: bool) -> String {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    if let Some(name) = text("$ref").and_then(|to| to.strip_prefix(COMPONENTS)) {
        return format!("[{name}](#{name})");
    }
    if let Some([only]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        return kind(only, optional);
    }
    if let Some(value) = schema.get("const") {
        return word(value);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = values.iter().filter(|value| !(optional && value.is_null())).map(word).collect();
        return words.join(", ");
    }
    if let Some(forms) = forms(schema) {
        let kinds: Vec<String> =
            forms.into_iter().filter(|form| !(optional && is_null(form))).map(|form| kind(form, false)).collect();
        let words = kinds.iter().all(|kind| kind.starts_with('`'));
        // Many words, each with a meaning, stand where the meanings are.
        return match meanings(schema).len() {
            0..=4 => kinds.join(if words { ", " } else { " or " }),
            _ => "one of these words".to_owned(),
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kinds: Vec<String> =
        types.into_iter().filter(|kind| !(optional && *kind == "null")).map(|kind| plain(kind, schema)).collect();
    if kinds.is_empty() { "anything".to_owned() } else { kinds.join(" or ") }
}

fn plain(kind: &str, schema: &Value) -> String {
    let number = |name: &str| schema.get(name).and_then(Value::as_i64);
    match (kind, schema.get("format").and_then(Value::as_str)) {
        ("string", Some("date-time")) => "time".to_owned(),
        ("string", Some("uuid")) => "UUID".to_owned(),
        ("string", _) => format!("string{}", between(number("minLength"), number("maxLength"))),
        ("integer", _) => format!("integer{}", between(number("minimum"), number("maximum"))),
        ("array", _) => {
            let of = self::kind(&schema["items"], false);
            // Its fields are the rows below.
            let of = if of == "object" { String::new() } else { format!(" of {of}") };
            format!("array{}{of}", between(number("minItems"), number("maxItems")))
        }
        (other, _) => other.to_owned(),
    }
}

fn between(min: Option<i64>, max: Option<i64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!(" ({min} to {max})"),
        (None, Some(max)) => format!(" (at most {max})"),
        _ => String::new(),
    }
}

/// A value as a word.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("`{value}`"), |text| format!("`{text}`"))
}

/// What a field is for; and, where its values have a meaning each, those.
fn explanation(field: &Value) -> String {
    let mut text = field["description"].as_str().map(one_line).unwrap_or_default();
    for (value, meaning) in meanings(field) {
        let _ = write!(text, "<br>{}: {}", word(value), one_line(meaning));
    }
    if let Some(default) = field.get("default").filter(|default| !default.is_null()) {
        let _ = write!(text, " Default: `{default}`.");
    }
    text.trim().replace('|', "\\|")
}

/// What each value means, where the schema says it.
fn meanings(schema: &Value) -> Vec<(&Value, &str)> {
    let all = forms(schema).into_iter().flatten().chain(forms(&schema["items"]).into_iter().flatten());
    all.filter_map(|form| Some((form.get("const")?, form["description"].as_str()?))).collect()
}

/// The alternatives, if the schema is nothing but alternatives.
fn forms(schema: &Value) -> Option<Vec<&Value>> {
    if schema.get("properties").is_some() {
        return None;
    }
    let forms = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    Some(forms.iter().collect())
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null"
}

/// Objects without a name inside a field, and how their fields' path goes on.
fn nested(field: &Value) -> Vec<(&Value, &'static str)> {
    let direct = [(field, ""), (&field["items"], "[]")].into_iter();
    let inside = forms(field).into_iter().flatten().map(|form| (form, ""));
    let elements = forms(&field["items"]).into_iter().flatten().map(|form| (form, "[]"));
    direct.chain(inside).chain(elements).filter(|(schema, _)| schema.get("properties").is_some()).collect()
}

/// Doc comments are broken into lines where the source is.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
