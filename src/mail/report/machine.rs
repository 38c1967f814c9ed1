//! The outcome of `regrant templates check` for programs.

use std::path::Path;

use serde_json::{Value, json};

use crate::mail::locate::Variant;
use crate::mail::problem::{Problem, Rule};
use crate::mail::render::Loaded;

/// JSON: `ok`, the `directory`, how many `emails` there are in all languages and for all sites, every problem, and warnings.
#[must_use]
pub fn json(directory: &Path, loaded: &Loaded) -> Value {
    let off = super::disabled_but_awaited(&loaded.set);
    let off = off.iter().map(|variant| json!({ "email": variant, "message": super::switched_off(variant) }));
    let found = loaded.warnings.iter().map(|warning| json!({ "email": null, "message": warning.to_string() }));
    let warnings: Vec<Value> = off.chain(found).collect();
    json!({
        "ok": loaded.problems.is_empty(),
        "directory": directory.display().to_string(),
        "emails": loaded.set.variants().len(),
        "problems": loaded.problems,
        "warnings": warnings,
        "error": null,
    })
}

/// The same where nothing could be read: `error` says why.
#[must_use]
pub fn unread_json(reason: &str) -> Value {
    json!({ "ok": false, "directory": null, "emails": 0, "problems": [], "warnings": [], "error": reason })
}

/// SARIF 2.1.0 (OASIS), the format in which code review takes the findings of checkers. Paths are as the configuration
/// has them: relative ones where `templates.directory` is relative, so that they fit the repository.
#[must_use]
pub fn sarif(directory: &Path, loaded: &Loaded) -> Value {
    let faults = loaded.problems.iter().map(|problem| result(directory, problem, "error"));
    let warnings = loaded.warnings.iter().map(|warning| result(directory, warning, "warning"));
    run(&faults.chain(warnings).collect::<Vec<_>>(), &json!({ "executionSuccessful": true }))
}

/// The same where nothing could be read: the tool did not run to its end, and says why.
#[must_use]
pub fn unread_sarif(reason: &str) -> Value {
    let notification = json!({ "level": "error", "message": { "text": reason } });
    run(&[], &json!({ "executionSuccessful": false, "toolExecutionNotifications": [notification] }))
}

fn run(results: &[Value], invocation: &Value) -> Value {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| {
            let page = rule.page();
            let short = page.split("\n\n").next().unwrap_or_default().replace('\n', " ");
            json!({
                "id": rule,
                "shortDescription": { "text": short },
                "help": { "text": page, "markdown": page },
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": { "name": "regrant", "version": env!("CARGO_PKG_VERSION"), "rules": rules },
            },
            "invocations": [invocation],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(directory: &Path, problem: &Problem, level: &str) -> Value {
    let mut text = problem.message.clone();
    if let Some(help) = &problem.help {
        text = format!("{text}; {help}");
    }
    let affected: Vec<String> = problem.affects.iter().map(Variant::to_string).collect();
    let mut place = json!({ "artifactLocation": { "uri": uri(&directory.join(&problem.file)) } });
    if problem.line > 0 {
        place["region"] = json!({
            "startLine": problem.line,
            "startColumn": problem.column.max(1),
            "endColumn": problem.column.max(1) + problem.length.max(1),
        });
    }
    json!({
        "ruleId": problem.rule,
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == problem.rule),
        "level": level,
        "message": { "text": text },
        "locations": [{ "physicalLocation": place }],
        "properties": { "affects": affected },
    })
}

/// An absolute path as a `file:` URI, a relative one as a relative reference (RFC 3986).
fn uri(path: &Path) -> String {
    if let Ok(uri) = url::Url::from_file_path(path) {
        return uri.into();
    }
    // The base lends its rules of percent-encoding, and is taken off again.
    let rooted = Path::new("/").join(path);
    url::Url::from_file_path(rooted)
        .map_or_else(|()| path.display().to_string(), |uri| uri.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::check::tests::Directory;

    fn broken() -> (Directory, Loaded) {
        let directory = Directory::shipped();
        directory.write("invite/body.txt.hbs", "Hé {{user.usernme}}\n{{invite_link}} {{user.username}} {{web_url}}\n");
        directory.write("invite/my text.hbs", "x").write("invite/notes.txt", "x");
        directory.write("invite/template.toml", "enabled = false\n");
        let loaded = directory.read();
        (directory, loaded)
    }

    #[test]
    fn json_has_each_problem_with_its_place_and_the_mails_that_it_stops() {
        let (directory, loaded) = broken();
        let json = json(directory.path(), &loaded);
        assert_eq!(json["ok"], false);
        let problems = json["problems"].as_array().unwrap();
        let typo = problems.iter().find(|p| p["rule"] == "unknown-placeholder").unwrap();
        assert_eq!(
            (&typo["file"], &typo["line"], &typo["column"], &typo["length"]),
            (&json!("invite/body.txt.hbs"), &json!(1), &json!(6), &json!(12)),
        );
        assert!(typo["help"].as_str().unwrap().contains("user.username"), "{typo}");
        assert_eq!(typo["affects"][0], json!({ "template": "invite", "site": null, "locale": null }));
        assert!(problems.iter().any(|p| p["rule"] == "unknown-file"), "{problems:?}");
        assert!(!problems.iter().any(|p| p["file"] == "invite/notes.txt"), "{problems:?}");
        assert!(json["warnings"][0]["message"].as_str().unwrap().starts_with("invite/notes.txt: "), "{json:#}");

        let sound = super::json(Path::new("email_templates"), &Directory::shipped().read());
        assert_eq!((&sound["ok"], &sound["directory"]), (&json!(true), &json!("email_templates")));
        assert_eq!((&sound["problems"], &sound["warnings"]), (&json!([]), &json!([])));
        assert_eq!(sound["emails"], Directory::shipped().read().set.variants().len());
    }

    #[test]
    fn sarif_is_what_its_schema_says() {
        let (_directory, loaded) = broken();
        let sarif = sarif(Path::new("email_templates"), &loaded);
        // The schema of the standard (OASIS), as it is published.
        let mut schema: Value = serde_json::from_str(include_str!("../../../tests/schemas/sarif-2.1.0.json")).unwrap();
        // A pattern of something that we do not write, with a bracket too many.
        for of in ["run", "toolComponent"] {
            schema["definitions"][of]["properties"]["language"].as_object_mut().unwrap().remove("pattern");
        }
        let validator = jsonschema::validator_for(&schema).unwrap();
        let unread = unread_sarif("cannot read email_templates");
        for document in [&sarif, &unread] {
            let faults: Vec<String> =
                validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert_eq!(faults, Vec::<String>::new());
        }
        let said = &unread["runs"][0]["invocations"][0];
        assert_eq!(said["executionSuccessful"], false);
        assert_eq!(said["toolExecutionNotifications"][0]["message"]["text"], "cannot read email_templates");
        assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), Rule::ALL.len());
        let results = &sarif["runs"][0]["results"];
        let typo = results.as_array().unwrap().iter().find(|r| r["ruleId"] == "unknown-placeholder").unwrap();
        let place = &typo["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "email_templates/invite/body.txt.hbs");
        assert_eq!(place["region"], json!({ "startLine": 1, "startColumn": 6, "endColumn": 18 }));
        let stray = results.as_array().unwrap().iter().find(|r| r["ruleId"] == "unknown-file").unwrap();
        let place = &stray["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "email_templates/invite/my%20text.hbs");
        assert!(place.get("region").is_none(), "the file as a whole");
        let levels: Vec<_> = results.as_array().unwrap().iter().map(|r| r["level"].as_str().unwrap()).collect();
        assert_eq!(levels.iter().filter(|level| **level == "warning").count(), 1, "what is no fault: {levels:?}");
    }

    #[test]
    fn every_rule_brings_its_page() {
        for rule in Rule::ALL {
            let page = rule.page();
            assert!(page.len() > 40 && !page.starts_with('#') && !page.contains("\n## "), "{rule}: {page}");
        }
        assert_eq!(uri(Path::new("/etc/regrant/a b")), "file:///etc/regrant/a%20b");
    }
}
