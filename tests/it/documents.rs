//! The documents for people: links lead somewhere, and what they show of the shell is what the shell says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::copy;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A document without its fenced blocks.
fn prose(document: &str) -> String {
    let mut fenced = false;
    let lines = document.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that places can be reached by: of headings, as GitHub makes them, and those that are written out.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = prose(document);
    let headings =
        headings.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    let written = document.split(" id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned());
    headings.map(anchor).chain(written).collect()
}

fn links(document: &str) -> Vec<String> {
    let text = prose(document).replace('\n', " ");
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

fn documents() -> Vec<PathBuf> {
    let mut all =
        ["README.md", "ARCHITECTURE.md", "email_templates/README.md", "examples/README.md"].map(PathBuf::from).to_vec();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            all.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    all
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&root().join(&document));
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, a)| (file, Some(a)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let target = root().join(target);
            let leads = target.exists()
                && anchor.is_none_or(|anchor| target.is_file() && anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What a document does before it shows a command: `<!-- edit FILE: OLD => NEW -->` or `<!-- write FILE: TEXT -->`.
enum Step {
    Edit {
        file: String,
        old: String,
        new: String,
    },
    Write {
        file: String,
        text: String,
    },
    /// A command and what it prints; a line `…` stands for any number of lines.
    Run {
        command: String,
        printed: Vec<String>,
    },
}

fn steps(document: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = document.lines().map(str::trim_end).peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if let Some(edit) = line.trim().strip_prefix("<!-- edit ").and_then(|rest| rest.strip_suffix(" -->")) {
            let (file, change) = edit.split_once(": ").unwrap();
            let (old, new) = change.split_once(" => ").unwrap();
            steps.push(Step::Edit { file: file.to_owned(), old: old.to_owned(), new: new.to_owned() });
        } else if let Some(write) = line.trim().strip_prefix("<!-- write ").and_then(|rest| rest.strip_suffix(" -->")) {
            let (file, text) = write.split_once(": ").unwrap();
            steps.push(Step::Write { file: file.to_owned(), text: format!("{text}\n") });
        } else if line.trim() == "```console" {
            let command = lines.next().unwrap().trim().strip_prefix("$ ").unwrap().to_owned();
            let printed = lines.by_ref().take_while(|line| line.trim() != "```");
            let printed = printed.map(|line| line.get(indent..).unwrap_or_default().to_owned()).collect();
            steps.push(Step::Run { command, printed });
        }
    }
    steps
}

/// Whether lines are as expected, of which `…` stands for any number.
fn fits(printed: &[&str], expected: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=printed.len()).any(|n| fits(&printed[n..], rest)),
        Some((first, rest)) => printed.split_first().is_some_and(|(line, others)| line == first && fits(others, rest)),
    }
}

#[test]
fn the_template_editors_page_shows_what_the_shell_says() {
    let home = tempfile::tempdir().unwrap();
    let templates = home.path().join("email_templates");
    copy(&root().join("email_templates"), &templates);
    std::fs::write(
        home.path().join("send.toml"),
        "[mail]\ntransport = \"file\"\n[sites.default]\nname = \"Example\"\n",
    )
    .unwrap();
    let mut ran = 0;
    for step in steps(&read(&root().join("docs/templates.md"))) {
        match step {
            Step::Edit { file, old, new } => {
                let path = templates.join(&file);
                let text = read(&path);
                assert!(text.contains(&old), "{file} has no `{old}`");
                std::fs::write(path, text.replace(&old, &new)).unwrap();
            }
            Step::Write { file, text } => {
                let path = templates.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            // It would go on until Ctrl-C; tests/preview tries it.
            Step::Run { command, .. } if command.contains("preview") => {}
            Step::Run { command, printed } => {
                let mut words = command.split(' ');
                assert_eq!(words.next(), Some("regrant"), "{command}");
                let mut shell = Command::new(env!("CARGO_BIN_EXE_regrant"));
                for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REGRANT_")) {
                    shell.env_remove(name);
                }
                if command.contains("templates send") {
                    shell.args(["--config", "send.toml"]);
                }
                let output = shell.args(words).current_dir(home.path()).output().unwrap();
                let out = String::from_utf8(output.stdout).unwrap();
                let lines: Vec<_> = out.lines().collect();
                let wanted = printed.join("\n");
                assert!(fits(&lines, &printed), "$ {command}\n{out}\ninstead of\n{wanted}\n{:?}", output.stderr);
                ran += 1;
            }
        }
    }
    assert!(ran >= 6, "only {ran} commands");
}
