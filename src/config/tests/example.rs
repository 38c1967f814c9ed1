//! `config show`, and the example file.

use super::{
    super::{Config, visit::Schema},
    Place, SITE, load,
};

#[test]
fn show_says_where_values_came_from_and_is_toml() {
    let text = format!(
        "{SITE}[publishers.\"*\"]\ncommands = [\"password.reset.request\"]\n[sites.north]\n[login]\nmax_failures = 5\n"
    );
    let place = Place::new(&text);
    let config = place.load(&[("REGRANT__LOGIN__LOCKOUT", "90s")]).unwrap();
    let shown = config.to_toml().replace(&format!("{}/", place.0.path().display()), "");
    for line in [
        "# configuration file: regrant.toml\n",
        "[broker]\nurl = \"amqp://[hidden]@127.0.0.1:5672/%2f\"  # default\nprefix = \"regrant\"  # default\n",
        "[login]\nmax_failures = 5  # regrant.toml:13\nlockout = \"90s\"  # environment variable REGRANT__LOGIN__LOCKOUT\n",
        "[publishers.\"*\"]\ncommands = [\"password.reset.request\"]  # regrant.toml:10\nassert_actor = false  # default\n",
        "[sites.north]\nname = \"Example\"  # from sites.default\n",
        "# reply_to is not set\n",
        "# [mail.dkim] is not set\n",
    ] {
        assert!(shown.contains(line), "{line}\n---\n{shown}");
    }
    load(&shown.replace("[hidden]@", ""), &[]).unwrap();
}

const EXAMPLE: &str = include_str!("../../../regrant.example.toml");

#[test]
fn the_example_holds_the_defaults() {
    let own = |text: &str| -> Vec<String> {
        let mut table = String::new();
        let mut lines = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if line.starts_with('[') {
                line.clone_into(&mut table);
            }
            if !["[sites", "[publishers", "[roles"].iter().any(|start| table.starts_with(start)) {
                lines.push(line.split("  # ").next().unwrap_or_default().to_owned());
            }
        }
        lines
    };
    let example = load(EXAMPLE, &[]).unwrap();
    example.validate_for_run().unwrap();
    assert_eq!(own(&example.to_toml()), own(&Config::default().to_toml()));
}

#[test]
fn the_example_names_every_key_and_its_comments_are_right() {
    // All that is commented out but prose; `*_file` contradicts the key above it.
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| {
            let key = line.strip_prefix("# ").filter(|line| {
                let bare = |c: char| c.is_ascii_lowercase() || c == '_';
                (line.starts_with('[') && line.ends_with(']'))
                    || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(bare))
            });
            match key {
                Some(key) if !key.starts_with("url_file") => format!("{key}\n"),
                _ => format!("{line}\n"),
            }
        })
        .collect();
    let config = load(&uncommented, &[]).unwrap();
    assert!(config.mail.dkim.is_some() && config.sites.contains_key("north"));

    let mut named = Vec::new();
    let mut table = String::new();
    for line in EXAMPLE.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut table);
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push(format!("{table}.{key}"));
        }
    }
    for key in Schema::of::<Config>().keys {
        let path = key
            .join(".")
            .replace("sites.*", "sites.default")
            .replace("publishers.*", "publishers.shop")
            .replace("roles.*", "roles.support");
        assert!(named.contains(&path), "{path} is not in regrant.example.toml");
    }
}
