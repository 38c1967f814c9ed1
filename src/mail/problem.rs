//! What is wrong with a template, said as a good compiler would.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::locate::Variant;

/// What a template must keep to. The name stands in brackets at the end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Handlebars cannot read it.
    Syntax,
    /// A construct of Handlebars that templates may not use.
    Unsupported,
    /// A name that this template has no placeholder for.
    UnknownPlaceholder,
    /// A placeholder that both bodies must show in every case.
    MissingPlaceholder,
    /// What looks like a tag and is mailed as it stands.
    NotATag,
    /// A value that may be missing, outside of every condition.
    Unguarded,
    /// A placeholder used as what it is not: a group or a yes-or-no shown as text, a text as a list.
    PlaceholderMisuse,
    /// A helper that does not exist, or may not be used.
    UnknownHelper,
    /// A helper with too few, too many or wrong parameters.
    HelperMisuse,
    /// A partial that does not exist.
    UnknownPartial,
    /// Partials that include each other.
    PartialCycle,
    /// `{{{…}}}` or `{{&…}}` in HTML.
    Unescaped,
    /// A value in a place of the HTML where escaping does not protect it.
    UnsafePlace,
    /// A link made of something that is no link.
    Link,
    /// A link that is not encrypted.
    InsecureLink,
    /// An image or style that would be fetched when the mail is opened.
    RemoteContent,
    /// HTML whose elements do not close, or that mail programs do not take.
    Html,
    /// HTML so large that mail programs cut it off.
    Clipped,
    /// A one-time link or code in a subject, which is kept in the history.
    SecretInSubject,
    /// A subject of more than one line.
    SubjectLineBreak,
    /// A subject longer than an inbox shows.
    SubjectTooLong,
    /// HTML in a text body or a subject.
    Markup,
    /// A file that can come out empty.
    Empty,
    /// A file that is larger than it may be, or becomes so by its partials.
    TooLarge,
    /// A subject or body that no file provides.
    MissingFile,
    /// A file that nothing uses.
    UnknownFile,
    /// A directory that is no template, or a template that does not exist.
    UnknownTemplate,
    /// A directory in `sites/` for a site that is not configured.
    UnknownSite,
    /// A directory in a template that is no language tag.
    UnknownLocale,
    /// A file that cannot be read, or is not UTF-8.
    Unreadable,
    /// A `template.toml` that is not TOML or has unknown keys.
    Settings,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 31] = [
        Self::Syntax,
        Self::Unsupported,
        Self::UnknownPlaceholder,
        Self::MissingPlaceholder,
        Self::NotATag,
        Self::Unguarded,
        Self::PlaceholderMisuse,
        Self::UnknownHelper,
        Self::HelperMisuse,
        Self::UnknownPartial,
        Self::PartialCycle,
        Self::Unescaped,
        Self::UnsafePlace,
        Self::Link,
        Self::InsecureLink,
        Self::RemoteContent,
        Self::Html,
        Self::Clipped,
        Self::SecretInSubject,
        Self::SubjectLineBreak,
        Self::SubjectTooLong,
        Self::Markup,
        Self::Empty,
        Self::TooLarge,
        Self::MissingFile,
        Self::UnknownFile,
        Self::UnknownTemplate,
        Self::UnknownSite,
        Self::UnknownLocale,
        Self::Unreadable,
        Self::Settings,
    ];

    /// Whether an email that breaks it is sent all the same.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::InsecureLink | Self::Unguarded | Self::Markup)
    }

    /// The name, as it stands in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Unsupported => "unsupported",
            Self::UnknownPlaceholder => "unknown-placeholder",
            Self::MissingPlaceholder => "missing-placeholder",
            Self::NotATag => "not-a-tag",
            Self::Unguarded => "unguarded",
            Self::PlaceholderMisuse => "placeholder-misuse",
            Self::UnknownHelper => "unknown-helper",
            Self::HelperMisuse => "helper-misuse",
            Self::UnknownPartial => "unknown-partial",
            Self::PartialCycle => "partial-cycle",
            Self::Unescaped => "unescaped",
            Self::UnsafePlace => "unsafe-place",
            Self::Link => "link",
            Self::InsecureLink => "insecure-link",
            Self::RemoteContent => "remote-content",
            Self::Html => "html",
            Self::Clipped => "clipped",
            Self::SecretInSubject => "secret-in-subject",
            Self::SubjectLineBreak => "subject-line-break",
            Self::SubjectTooLong => "subject-too-long",
            Self::Markup => "markup",
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
            Self::MissingFile => "missing-file",
            Self::UnknownFile => "unknown-file",
            Self::UnknownTemplate => "unknown-template",
            Self::UnknownSite => "unknown-site",
            Self::UnknownLocale => "unknown-locale",
            Self::Unreadable => "unreadable",
            Self::Settings => "settings",
        }
    }
}

/// A section for each rule.
const PAGES: &str = include_str!("../../docs/template-rules.md");

impl Rule {
    /// What its section of `docs/template-rules.md` says: Markdown.
    #[must_use]
    pub fn page(self) -> &'static str {
        let heading = format!("\n### {self}\n\n");
        // A test sees to it that every rule has a section.
        let Some((_, after)) = PAGES.split_once(&heading) else { return "" };
        let end = [after.find("\n### "), after.find("\n## ")].into_iter().flatten().min();
        end.map_or(after, |end| &after[..end]).trim()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A fault in a template.
///
/// `{}` writes one line, `{:#}` also the line of the file with a mark under the place, and the help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The rule that is broken.
    pub rule: Rule,
    /// The file, relative to the templates directory (a directory, where a file is missing).
    pub file: PathBuf,
    /// The line, from 1; 0 when the fault is of the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 when the fault is of the file as a whole.
    pub column: usize,
    /// How many characters from there are meant; 0 when unknown.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The line of the file.
    pub excerpt: Option<String>,
    /// The emails that cannot be sent as long as this lasts. Empty for a file that no email uses.
    pub affects: BTreeSet<Variant>,
}

impl Problem {
    /// A fault of a whole file, or of a directory.
    pub(super) fn of(rule: Rule, file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            rule,
            file: file.into(),
            line: 0,
            column: 0,
            length: 0,
            message: message.into(),
            help: None,
            excerpt: None,
            affects: BTreeSet::new(),
        }
    }

    /// The same at a place in the file whose text is `source`.
    pub(super) fn at(mut self, source: &str, line: usize, column: usize, length: usize) -> Self {
        (self.line, self.column, self.length) = (line, column, length);
        self.excerpt = source.lines().nth(line.saturating_sub(1)).map(str::to_owned);
        self
    }

    /// The same with a word on how to mend it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Where the fault is, for sorting: by file, then by place.
    pub(super) fn place(&self) -> (&Path, usize, usize, Rule) {
        (&self.file, self.line, self.column, self.rule)
    }

    /// The line with a mark under the place, cut to what fits a terminal.
    fn write_excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters before and after the place that are shown of a long line.
        const AROUND: usize = 60;
        let Some(line) = &self.excerpt else { return Ok(()) };
        let start = self.column.saturating_sub(1).saturating_sub(AROUND);
        let shown: String = line
            .chars()
            .skip(start)
            .take(2 * AROUND)
            // A tab is as wide as the terminal likes, which would displace the mark.
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = self.column.saturating_sub(1) - start;
        let length = self.length.clamp(1, (2 * AROUND - before).max(1));
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n {margin} |\n {number} | {}", shown.trim_end())?;
        write!(f, "\n {margin} | {}{}", " ".repeat(before), "^".repeat(length))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Forward slashes, whatever the system, so that the output can be compared and clicked.
        let file = self.file.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>();
        write!(f, "{}", file.join("/"))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if f.alternate() {
            write!(f, " [{}]", self.rule)?;
            self.write_excerpt(f)?;
            if let Some(help) = &self.help {
                write!(f, "\n  = help: {help}")?;
            }
            return Ok(());
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        write!(f, " [{}]", self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_or_several() {
        let problem = Problem::of(Rule::UnknownPlaceholder, "invite/body.txt.hbs", "unknown `x`")
            .at("a\n  Hello {{x}}\n", 2, 11, 1)
            .help("did you mean `y`?");
        assert_eq!(
            problem.to_string(),
            "invite/body.txt.hbs:2:11: unknown `x`; did you mean `y`? [unknown-placeholder]"
        );
        let expected = "\
invite/body.txt.hbs:2:11: unknown `x` [unknown-placeholder]
   |
 2 |   Hello {{x}}
   |           ^
  = help: did you mean `y`?";
        assert_eq!(format!("{problem:#}"), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("{}{{{{x}}}}{}", "é".repeat(5000), "z".repeat(5000));
        let problem = Problem::of(Rule::Syntax, "f", "m").at(&source, 1, 5003, 1);
        let shown = format!("{problem:#}");
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[2].chars().count() < 140, "{shown}");
        let mark = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().nth(mark), Some('x'), "{shown}");
    }

    #[test]
    fn every_rule_has_its_place_in_the_documentation() {
        for rule in Rule::ALL {
            assert!(PAGES.contains(&format!("\n### {rule}\n\n")), "docs/template-rules.md has no section `{rule}`");
            assert!(PAGES.contains(&format!("[`{rule}`](#{rule})")), "docs/template-rules.md does not list `{rule}`");
        }
        let sections = PAGES.lines().filter(|line| line.starts_with("### ")).count();
        assert_eq!(sections, Rule::ALL.len(), "a section of a rule that does not exist");
    }

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Rule::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
    }
}
