//! Names: what they mean, what was meant by a wrong one, and where in its tag one stands.

use super::super::scope::Meaning;
use super::{Expander, Tag, did_you_mean};
use crate::mail::catalogue::Template;
use crate::mail::locate::FileId;
use crate::mail::piece::At;
use crate::mail::problem::Rule;
use crate::spelling::nearest;

impl Expander<'_> {
    /// What a name means. Says so when it means nothing.
    pub(super) fn resolve(&mut self, name: &str, tag: Tag) -> Meaning {
        let unknown = match self.scope.resolve(name) {
            Ok(meaning) => return meaning,
            Err(unknown) => unknown,
        };
        let Some(template) = self.scope.template() else { return Meaning::Unknown };
        let bare = unknown.trim_start_matches("../");
        let elsewhere: Vec<_> = Template::ALL.into_iter().filter(|t| t.placeholder(bare).is_some()).collect();
        let message = match elsewhere.as_slice() {
            [] => format!("unknown placeholder `{unknown}`"),
            _ if elsewhere.contains(&template) => format!("`{unknown}` means nothing here"),
            _ => {
                let list: Vec<_> = elsewhere.iter().map(|t| t.as_str()).collect();
                format!("`{bare}` is a placeholder of {}, not of {template}", list.join(", "))
            }
        };
        let help = self.suggest(name, &unknown, template);
        self.report(Rule::UnknownPlaceholder, tag, Some(name), message, help);
        Meaning::Unknown
    }

    fn suggest(&self, written: &str, unknown: &str, template: Template) -> Option<String> {
        let bare = unknown.trim_start_matches("../");
        let inner = bare.rsplit('.').next().unwrap_or(bare);
        // Inside `{{#with user}}`, what lies outside has to be asked for by its whole name.
        if let Some(help) = block_word(written) {
            return Some(help);
        }
        if self.sources.partial(written, self.form, self.place).is_some() {
            return Some(format!(
                "a partial is included by `{{{{> {written}}}}}`, or `{{{{#> {written}}}}}…{{{{/{written}}}}}`"
            ));
        }
        for name in [bare, written, inner] {
            if template.placeholder(name).is_some() {
                return Some(format!("write `@root.{name}`"));
            }
        }
        let known = template.placeholders().map(|p| p.name).chain(self.scope.names());
        let near = nearest(bare, known);
        // One word of several that stand without quotes: no name, or an article, which is a bit like many names.
        if let Some(parameter) = &self.giving
            && (near.is_none() || bare.len() < 3)
        {
            return Some(match parameter.as_str() {
                "" => format!("words stand between quotes: `\"… {written} …\"`"),
                parameter => format!("words stand between quotes: `{parameter}=\"{written} …\"`"),
            });
        }
        let mut help = near.map(|name| match template.placeholder(name) {
            Some(p) => format!("did you mean `{name}` ({}, e.g. \"{}\")?", p.about, p.sample),
            None => format!("did you mean the parameter `{name}`?"),
        });
        if self.including.len() > 1 {
            let from = |id: &FileId| self.sources.file(*id).path.display().to_string();
            let chain: Vec<_> = self.including[..self.including.len() - 1].iter().rev().map(from).collect();
            let hint = format!("included from {}", chain.join(", from "));
            help = Some(help.map_or_else(
                || format!("{hint}; a parameter is given as `{{{{> partial {written}=…}}}}`"),
                |help| format!("{help} ({hint})"),
            ));
        }
        help.or_else(|| Some(format!("`regrant templates list` shows what {template} may use")))
    }

    /// What belongs to a group, for a message.
    pub(super) fn members(&self, group: &str) -> String {
        let group = group.rsplit(['.', '/']).next().unwrap_or(group);
        let prefix = format!("{group}.");
        let names: Vec<_> = self
            .scope
            .template()
            .into_iter()
            .flat_map(Template::placeholders)
            .map(|p| p.name)
            .filter(|name| name.starts_with(&prefix))
            .collect();
        match names.as_slice() {
            [] => "name one placeholder".to_owned(),
            names => format!("write one of `{}`", names.join("`, `")),
        }
    }

    pub(super) fn unknown_partial(&mut self, name: &str, tag: Tag) {
        let ending = match self.form {
            super::Form::Html => "html.hbs",
            super::Form::Text => "txt.hbs",
        };
        let message = format!("there is no partial `{name}`");
        let help = did_you_mean(name, self.sources.partial_names(self.form, self.place)).unwrap_or_else(|| {
            format!("it would be partials/{name}.{ending}, or partials/{name}.hbs for text and HTML")
        });
        self.report(Rule::UnknownPartial, tag, Some(name), message, Some(help));
    }
}

/// What was meant by the parts of a block as other languages write them.
pub(super) fn block_word(written: &str) -> Option<String> {
    let meant = match written.to_ascii_lowercase().as_str() {
        "else" => "{{else}}",
        "elsif" | "elif" | "else_if" => "{{else if …}}",
        "end" | "endif" | "end_if" | "fi" => "{{/if}}",
        _ => return None,
    };
    Some(format!("write `{meant}`"))
}

/// The place of a name in the tag at `start` (line and column), or of the tag itself. The parser does
/// not keep the places of `{{else if …}}`: those are looked for in the else tags that follow.
pub(super) fn place(source: &str, start: (usize, usize), is_else: bool, name: Option<&str>, file: FileId) -> At {
    let (line, column) = start;
    let begin = offset(source, line, column);
    let mut from = begin;
    while let Some(tag) = next_tag(source, from) {
        let text = &source[tag.clone()];
        from = tag.end;
        let inner = text.trim_start_matches(['{', '~', ' ']);
        if is_else && !(inner.starts_with("else") || inner.starts_with('^')) {
            continue;
        }
        let found = match name {
            Some(name) => find_name(text, name).map(|at| (at, name.chars().count())),
            None => Some((0, text.lines().next().unwrap_or_default().chars().count())),
        };
        if let Some((at, length)) = found {
            let (line, column) = line_column(source, tag.start + at);
            return At { file, line, column, length };
        }
        if !is_else {
            break;
        }
    }
    At { file, line, column, length: 0 }
}

/// The bytes of the first tag at or after a place.
fn next_tag(source: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + source.get(from..)?.find("{{")?;
    let end = start + source[start..].find("}}")? + 2;
    let more = source[end..].bytes().take_while(|b| *b == b'}').count();
    Some(start..end + more)
}

/// Where a name stands in a tag, not as a part of another name.
fn find_name(tag: &str, name: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '$');
    tag.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = tag[..*at].chars().next_back();
        let after = tag[at + name.len()..].chars().next();
        // `link=link` gives a parameter its value: the name is the second.
        !before.is_some_and(is_part) && !after.is_some_and(|c| is_part(c) || c == '=')
    })
}

/// The byte at a line and column, both from 1.
pub(in crate::mail::check) fn offset(source: &str, line: usize, column: usize) -> usize {
    let start: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
}

/// The line and column of a byte, both from 1.
pub(in crate::mail::check) fn line_column(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    (line, before[start..].chars().count() + 1)
}
