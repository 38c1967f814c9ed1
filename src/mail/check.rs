//! Finds every fault in a templates directory, all at once, before any of it is used.
//!
//! A file goes through `tags` (are tags and blocks closed?), `parse` (Handlebars itself), `expand`
//! (what does each name, helper and partial mean?) and `rules` (is all there that must be?). What comes
//! out is what will be rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::Template;
use super::locate::{FileId, Form, Part, Sources, Variant};
use super::piece::{Piece, join_texts};
use super::problem::{Problem, Rule};
use super::wording::Language;

mod expand;
mod html;
mod link_text;
mod lookalike;
mod page;
mod parse;
mod rules;
mod scope;
mod settings;
mod tags;
#[cfg(test)]
pub(in crate::mail) mod tests;

pub(super) use settings::Settings;

/// A subject or body that is ready to be rendered.
#[derive(Debug)]
pub(super) struct Body {
    pub pieces: Vec<Piece>,
    pub file: FileId,
    /// About how many bytes come out, without the values.
    pub size: usize,
}

/// An email that is ready to be rendered.
#[derive(Debug)]
pub(super) struct Mail {
    pub subject: Arc<Body>,
    pub text: Arc<Body>,
    pub html: Arc<Body>,
    pub settings: Arc<Settings>,
    /// The language of subject, text and HTML: that of the file that serves each.
    pub languages: [Language; 3],
}

/// What a check has found: each email, or none where it has faults, and the faults.
pub(super) struct Checked {
    pub mails: BTreeMap<Variant, Option<Mail>>,
    /// The partials that each subject and body includes, of those with faults as far as they could be read.
    pub partials: BTreeMap<(Variant, Part), Arc<BTreeSet<FileId>>>,
    pub problems: Vec<Problem>,
    /// What keeps no email from being used, but is hardly meant.
    pub warnings: Vec<Problem>,
}

/// Checks everything.
pub(super) fn check(sources: &Sources) -> Checked {
    let mut checker = Checker {
        sources,
        parser: parse::Parser::default(),
        bodies: BTreeMap::new(),
        settings: BTreeMap::new(),
        partials: BTreeMap::new(),
        problems: Problems::default(),
    };
    for problem in &sources.problems {
        checker.problems.add(problem.clone(), None);
    }
    let variants = sources.variants();
    let mut mails = BTreeMap::new();
    for variant in variants {
        let mail = checker.variant(&variant);
        mails.insert(variant, mail);
    }
    checker.unused_partials();
    let (warnings, problems) = checker.problems.sorted().into_iter().partition(|problem| problem.rule.is_warning());
    Checked { mails, partials: checker.partials, problems, warnings }
}

type Checkable<T> = (Option<Arc<T>>, Vec<Problem>);

/// A body that has been looked at.
struct Seen {
    /// None if it has faults.
    body: Option<Arc<Body>>,
    problems: Vec<Problem>,
    partials: Arc<BTreeSet<FileId>>,
}

struct Checker<'a> {
    sources: &'a Sources,
    parser: parse::Parser,
    /// Each file as part of a template, which may serve several locales; and sites, but for those with partials of
    /// their own.
    bodies: BTreeMap<(Template, Part, FileId, Option<String>), Seen>,
    settings: BTreeMap<FileId, Checkable<Settings>>,
    partials: BTreeMap<(Variant, Part), Arc<BTreeSet<FileId>>>,
    problems: Problems,
}

impl Checker<'_> {
    fn variant(&mut self, variant: &Variant) -> Option<Mail> {
        // All three, so that all their problems are found.
        let [subject, text, html] = Part::WRITTEN.map(|part| self.body(variant, part));
        let settings_file = self.sources.locate(variant, Part::Settings);
        let settings = match settings_file {
            Some(file) => self.settings(variant, file),
            None => Some(Arc::default()),
        };
        let (subject, text, html, settings) = (subject?, text?, html?, settings?);
        let language = |body: &Body| match &self.sources.file(body.file).locale {
            Some(locale) => Language::of(locale),
            None => settings.language.as_ref().map_or(Language::English, Language::of),
        };
        let languages = [language(&subject), language(&text), language(&html)];
        Some(Mail { subject, text, html, settings, languages })
    }

    fn body(&mut self, variant: &Variant, part: Part) -> Option<Arc<Body>> {
        let Some(file) = self.sources.locate(variant, part) else {
            let default = Variant { site: None, locale: None, ..variant.clone() };
            let path = Sources::directory(&default).join(part.file_name());
            let what = match part {
                Part::Subject => "subject",
                Part::Text => "plain text body",
                Part::Html => "HTML body",
                Part::Settings => "settings",
            };
            let message = format!("{} has no {what}", variant.template);
            let help = "every email needs a subject, a plain text body and an HTML body";
            let problem = Problem::of(Rule::MissingFile, path, message).help(help);
            self.problems.add(problem, Some(variant));
            return None;
        };
        let for_site = variant.site.as_deref().filter(|site| self.sources.has_partials(site));
        let key = (variant.template, part, file, for_site.map(str::to_owned));
        let (sources, parser) = (self.sources, &mut self.parser);
        let seen = self.bodies.entry(key).or_insert_with(|| {
            let form = if part == Part::Html { Form::Html } else { Form::Text };
            let expand::Expansion { pieces, mut problems, partials } =
                expand::expand(sources, parser, Some(variant.template), for_site, form, file);
            // What a file lacks can only be said of one that could be read to its end.
            let unread = [Rule::Syntax, Rule::Unreadable, Rule::TooLarge, Rule::UnknownPartial, Rule::PartialCycle];
            if !problems.iter().any(|p| unread.contains(&p.rule)) {
                let whole = is_sound(&problems);
                problems.extend(rules::check(sources, variant.template, part, file, &pieces));
                match part {
                    Part::Html => problems.extend(html::check(sources, variant.template, file, &pieces, whole)),
                    Part::Text => problems.extend(link_text::check(sources, &pieces)),
                    Part::Subject | Part::Settings => {}
                }
            }
            let body = is_sound(&problems).then(|| {
                let (_, size) = expand::size(&pieces);
                Body { pieces: join_texts(pieces), file, size }
            });
            Seen { body: body.map(Arc::new), problems, partials: Arc::new(partials) }
        });
        for problem in &seen.problems {
            self.problems.add(problem.clone(), Some(variant));
        }
        self.partials.insert((variant.clone(), part), Arc::clone(&seen.partials));
        seen.body.clone()
    }

    fn settings(&mut self, variant: &Variant, file: FileId) -> Option<Arc<Settings>> {
        let sources = self.sources;
        let (settings, problems) =
            self.settings.entry(file).or_insert_with(|| match settings::parse(sources.file(file)) {
                Ok(settings) => (Some(Arc::new(settings)), Vec::new()),
                Err(problem) => (None, vec![*problem]),
            });
        for problem in problems.iter() {
            self.problems.add(problem.clone(), Some(variant));
        }
        settings.clone()
    }

    /// Partials that no email includes: what is wrong with them whoever will include them.
    fn unused_partials(&mut self) {
        for (site, form, file) in self.sources.partials() {
            if self.parser.knows(file) {
                continue;
            }
            let found = expand::expand(self.sources, &mut self.parser, None, site, form, file);
            for problem in found.problems {
                self.problems.add(problem, None);
            }
        }
    }
}

/// Whether there is nothing that keeps a body from being used.
fn is_sound(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.rule.is_warning())
}

/// Problems, each once, with all the emails that it concerns.
#[derive(Default)]
struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, problem: Problem, variant: Option<&Variant>) {
        let affects: BTreeSet<_> = variant.cloned().into_iter().collect();
        let same = |other: &&mut Problem| other.place() == problem.place() && other.message == problem.message;
        match self.found.iter_mut().find(same) {
            Some(known) => known.affects.extend(affects),
            None => self.found.push(Problem { affects, ..problem }),
        }
    }

    fn sorted(mut self) -> Vec<Problem> {
        // Whoever edits an email has more likely made a mistake there than in a partial that it includes.
        let is_shared = |problem: &Problem| problem.file.iter().any(|part| part == "partials");
        self.found.sort_by(|a, b| (is_shared(a), a.place()).cmp(&(is_shared(b), b.place())));
        self.found
    }
}
