//! A body as somebody types it: one JSON object, or `a.b=value` pairs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::asyncapi::contract::Contract;

/// The body of this command.
///
/// # Errors
/// What is neither, and what is given twice.
pub fn body(command: &str, words: &[String]) -> Result<Map<String, Value>, String> {
    if let [one] = words
        && one.trim_start().starts_with('{')
    {
        return serde_json::from_str(one).map_err(|e| format!("the body is not a JSON object: {e}"));
    }
    let contract = Contract::gather();
    let schema = contract.commands.iter().find(|known| known.spec.name == command).map(|known| &known.body);
    let mut body = Map::new();
    for word in words {
        let (path, text) =
            word.split_once('=').ok_or_else(|| format!("`{word}`: write key=value, or one JSON object"))?;
        let names: Vec<&str> = path.split('.').collect();
        let mut kinds = BTreeSet::new();
        if let Some(schema) = schema {
            kinds_at(&contract, schema, &names, &mut kinds);
        }
        put(&mut body, &names, read(text, &kinds)).map_err(|name| format!("`{name}` is given twice"))?;
    }
    Ok(body)
}

/// What the schema takes at a path, as its `type` says; nothing if it knows no such field.
fn kinds_at<'a>(contract: &'a Contract, schema: &'a Value, path: &[&str], kinds: &mut BTreeSet<&'a str>) {
    let schema = contract.resolve(schema);
    for group in ["oneOf", "anyOf", "allOf"] {
        for alternative in schema[group].as_array().into_iter().flatten() {
            kinds_at(contract, alternative, path, kinds);
        }
    }
    match path.split_first() {
        Some((first, rest)) => {
            if let Some(inner) = schema["properties"].get(first) {
                kinds_at(contract, inner, rest, kinds);
            }
        }
        None => match &schema["type"] {
            Value::Array(several) => kinds.extend(several.iter().filter_map(Value::as_str)),
            one => kinds.extend(one.as_str()),
        },
    }
}

/// JSON where it is of a kind that is wanted; else text, where text is wanted: `12345678` may be a password.
fn read(text: &str, kinds: &BTreeSet<&str>) -> Value {
    let Ok(json) = serde_json::from_str::<Value>(text) else { return text.into() };
    let is_wanted = match &json {
        // In quotes, as JSON has it.
        Value::String(_) => true,
        Value::Null => kinds.contains("null"),
        Value::Bool(_) => kinds.contains("boolean"),
        Value::Number(_) => kinds.contains("integer") || kinds.contains("number"),
        Value::Array(_) => kinds.contains("array"),
        Value::Object(_) => kinds.contains("object"),
    };
    if !is_wanted && kinds.contains("string") { text.into() } else { json }
}

/// On failure the name that has a value already.
fn put(map: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<(), String> {
    let Some((head, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        return map.insert((*head).to_owned(), value).map_or(Ok(()), |_| Err((*head).to_owned()));
    }
    let inner = map.entry(*head).or_insert_with(|| Value::Object(Map::new()));
    let inner = inner.as_object_mut().ok_or_else(|| (*head).to_owned())?;
    put(inner, rest, value).map_err(|name| format!("{head}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(command: &str, words: &[&str]) -> Result<Value, String> {
        body(command, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).map(Value::Object)
    }

    #[test]
    fn bodies_are_json_or_pairs() {
        let get = |words: &[&str]| read("user.get", words);
        assert_eq!(get(&[]).unwrap(), json!({}));
        assert_eq!(get(&[r#"{"user": {"id": "ada"}}"#]).unwrap(), json!({ "user": { "id": "ada" } }));
        assert_eq!(
            read("user.put", &["user.id=ada", "user.email_verified=true", "reason=lost phone", r#"user.roles=["a"]"#])
                .unwrap(),
            json!({ "user": { "id": "ada", "email_verified": true, "roles": ["a"] }, "reason": "lost phone" })
        );
        assert!(get(&["user"]).unwrap_err().contains("key=value"));
    }

    #[test]
    fn what_looks_like_a_number_is_one_only_where_a_number_is_wanted() {
        for (command, word, expected) in [
            ("session.login", "password=12345678", json!({ "password": "12345678" })),
            ("session.login", "user.id=1", json!({ "user": { "id": "1" } })),
            ("session.login", r#"user.id="1""#, json!({ "user": { "id": "1" } })),
            ("session.login", "password=true", json!({ "password": "true" })),
            ("session.login", r#"password={"sealed":"x"}"#, json!({ "password": { "sealed": "x" } })),
            ("session.login", "context.user_agent=7", json!({ "context": { "user_agent": "7" } })),
            ("password.reset.complete", "code=48201736", json!({ "code": "48201736" })),
            ("user.block", "actor.id=1", json!({ "actor": { "id": "1" } })),
            ("user.block", "actor=system", json!({ "actor": "system" })),
            ("user.block", "reason=1e3", json!({ "reason": "1e3" })),
            ("user.block", "reason=null", json!({ "reason": null })),
            ("user.put", "user.id=7", json!({ "user": { "id": "7" } })),
            ("user.put", "user.username=12", json!({ "user": { "username": "12" } })),
            ("user.search", "limit=5", json!({ "limit": 5 })),
            ("user.search", "include_disabled=true", json!({ "include_disabled": true })),
            ("user.search", "q=2026", json!({ "q": "2026" })),
            ("session.force_logout", r#"users=[{"id":"ada"}]"#, json!({ "users": [{ "id": "ada" }] })),
            // What the daemon will refuse by name is left as it is.
            ("user.block", "colour=5", json!({ "colour": 5 })),
            ("user.block", "user=1", json!({ "user": 1 })),
        ] {
            assert_eq!(read(command, &[word]).unwrap(), expected, "{command} {word}");
        }
    }

    #[test]
    fn nothing_is_taken_twice() {
        for (words, named) in [
            (["user.id=ada", "user.id=bob"], "`user.id` is given twice"),
            (["reason=a", "reason=b"], "`reason` is given twice"),
            (["user=1", "user.id=a"], "`user` is given twice"),
            (["user.id=a", r#"user={"id":"b"}"#], "`user` is given twice"),
        ] {
            assert_eq!(read("user.block", &words).unwrap_err(), named);
        }
    }
}
