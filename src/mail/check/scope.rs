//! What a name means at a place in a template: the placeholders of the email, what `{{#with}}` stands on,
//! and the parameters that partials were given.

use crate::mail::catalogue::Template;
use crate::mail::piece::{At, Operand};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// All placeholders.
    Root,
    /// Those that share the first part of their name: `user`, `site`.
    Group(&'static str),
    /// Something that can be shown or asked about.
    One(Operand),
    /// Nothing that is known, which was said already: no more complaints about what follows from it.
    Unknown,
}

/// What blocks and partials around a place have set.
#[derive(Debug)]
struct Frame {
    base: Meaning,
    names: Vec<(String, Meaning)>,
    /// The tag that gives the names.
    given: Option<At>,
}

/// The names at a place.
#[derive(Debug)]
pub(super) struct Scope {
    template: Option<Template>,
    frames: Vec<Frame>,
}

impl Scope {
    /// At the start of a file of that template; without one, every name may mean something.
    pub fn new(template: Option<Template>) -> Self {
        let base = if template.is_some() { Meaning::Root } else { Meaning::Unknown };
        Self { template, frames: vec![Frame { base, names: Vec::new(), given: None }] }
    }

    pub fn template(&self) -> Option<Template> {
        self.template
    }

    /// Enters a block that stands on `base`, or on the same as around it.
    pub fn enter(&mut self, base: Option<Meaning>, names: Vec<(String, Meaning)>) {
        let base = base.unwrap_or_else(|| self.base(0));
        self.frames.push(Frame { base, names, given: None });
    }

    /// Enters a partial, which was given parameters by a tag.
    pub fn enter_partial(&mut self, base: Option<Meaning>, parameters: Vec<(String, Meaning)>, given: At) {
        self.enter(base, parameters);
        if let Some(frame) = self.frames.last_mut() {
            frame.given = Some(given);
        }
    }

    /// The tag that gave a parameter.
    pub fn given(&self, name: &str) -> Option<At> {
        let mut frames = self.frames.iter().rev();
        frames.find(|frame| frame.names.iter().any(|(known, _)| known == name))?.given
    }

    /// Leaves the innermost block.
    pub fn leave(&mut self) {
        if self.frames.len() > 1 {
            self.frames.pop();
        }
    }

    /// The parameters and block names that can be seen.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().flat_map(|f| f.names.iter().map(|(name, _)| name.as_str()))
    }

    /// What a path as written means; the full dotted name when it means nothing.
    pub fn resolve(&self, path: &str) -> Result<Meaning, String> {
        let path = Path::parse(path);
        if path.is_data {
            // `@index`, `@key`: only inside a list, and there are no lists.
            let inside = matches!(self.base(0), Meaning::Unknown);
            return if inside { Ok(Meaning::Unknown) } else { Err(format!("@{}", path.parts.join("."))) };
        }
        let mut parts = path.parts.iter().map(String::as_str);
        let named = || {
            let first = path.parts.first().filter(|_| !path.from_root)?;
            let frames = self.frames.iter().rev();
            frames.flat_map(|f| &f.names).find(|(name, _)| name == first).map(|(_, m)| m.clone())
        };
        let mut full = Vec::new();
        let mut meaning = if let Some(meaning) = named() {
            full.extend(parts.next());
            meaning
        } else if path.from_root {
            self.frames[0].base.clone()
        } else if path.up >= self.frames.len() {
            return Err(format!("{}{}", "../".repeat(path.up), path.parts.join(".")));
        } else {
            self.base(path.up)
        };
        match &meaning {
            Meaning::Group(group) => full = vec![*group],
            Meaning::One(Operand::Placeholder(p)) => full = vec![p.name],
            _ => {}
        }
        for part in parts {
            full.push(part);
            meaning = match meaning {
                Meaning::Unknown => return Ok(Meaning::Unknown),
                Meaning::Root | Meaning::Group(_) => match self.placeholder(&full.join(".")) {
                    Some(meaning) => meaning,
                    None => return Err(full_name(&full, &path.parts)),
                },
                Meaning::One(_) => return Err(full_name(&full, &path.parts)),
            };
        }
        Ok(meaning)
    }

    fn base(&self, up: usize) -> Meaning {
        let at = self.frames.len().saturating_sub(up + 1);
        self.frames.get(at).map_or(Meaning::Unknown, |f| f.base.clone())
    }

    fn placeholder(&self, name: &str) -> Option<Meaning> {
        let template = self.template?;
        if let Some(placeholder) = template.placeholder(name) {
            return Some(Meaning::One(Operand::Placeholder(placeholder)));
        }
        let mut groups = template.placeholders().filter_map(|p| p.name.split_once('.'));
        groups.find(|(group, _)| *group == name).map(|(group, _)| Meaning::Group(group))
    }
}

/// The name as far as it was understood and what was written after it.
fn full_name(understood: &[&str], written: &[String]) -> String {
    let last = understood.last().copied().unwrap_or_default();
    let rest = written.iter().skip_while(|part| *part != last).skip(1).map(String::as_str);
    understood.iter().copied().chain(rest).collect::<Vec<_>>().join(".")
}

/// A path as Handlebars reads it: `user.name`, `user/name`, `this.name`, `../name`, `@root.name`.
struct Path {
    up: usize,
    from_root: bool,
    is_data: bool,
    parts: Vec<String>,
}

impl Path {
    fn parse(text: &str) -> Self {
        let mut path = Self { up: 0, from_root: false, is_data: false, parts: Vec::new() };
        let mut rest = text.strip_prefix("./").unwrap_or(text);
        if let Some(root) = rest.strip_prefix("@root").filter(|r| r.starts_with(['.', '/'])) {
            path.from_root = true;
            rest = &root[1..];
        } else if let Some(data) = rest.strip_prefix('@') {
            path.is_data = true;
            rest = data;
        }
        while let Some(outer) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("...")) {
            path.up += 1;
            rest = outer;
        }
        let parts = rest.split(['.', '/']).map(|part| part.trim_matches(['[', ']']));
        path.parts = parts.filter(|p| !p.is_empty() && *p != "this").map(str::to_owned).collect();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(scope: &Scope, path: &str) -> String {
        match scope.resolve(path) {
            Ok(Meaning::Root) => "root".to_owned(),
            Ok(Meaning::Group(group)) => format!("group {group}"),
            Ok(Meaning::One(Operand::Placeholder(p))) => p.name.to_owned(),
            Ok(Meaning::One(Operand::Text(text))) => format!("{text:?}"),
            Ok(Meaning::One(Operand::Flag(flag))) => flag.to_string(),
            Ok(Meaning::Unknown) => "?".to_owned(),
            Err(name) => format!("no {name}"),
        }
    }

    #[test]
    fn a_name_is_looked_for_where_it_stands() {
        let mut scope = Scope::new(Some(Template::Invite));
        for (path, meaning) in [
            ("web_url", "web_url"),
            ("./web_url", "web_url"),
            ("this.web_url", "web_url"),
            ("this", "root"),
            ("user", "group user"),
            ("user.username", "user.username"),
            ("user/username", "user.username"),
            ("user.[username]", "user.username"),
            ("@root.user.username", "user.username"),
            ("user.name", "no user.name"),
            ("user.username.length", "no user.username.length"),
            ("reset_link", "no reset_link"),
            ("nothing.at.all", "no nothing.at.all"),
            ("../web_url", "no ../web_url"),
            ("@index", "no @index"),
        ] {
            assert_eq!(shown(&scope, path), meaning, "{path}");
        }
        scope.enter(Some(Meaning::Group("user")), Vec::new());
        for (path, meaning) in [
            ("username", "user.username"),
            ("this.username", "user.username"),
            ("this", "group user"),
            ("web_url", "no user.web_url"),
            ("../web_url", "web_url"),
            ("@root.web_url", "web_url"),
        ] {
            assert_eq!(shown(&scope, path), meaning, "{path}");
        }
        let label = Meaning::One(Operand::Text("Go".to_owned()));
        scope.enter(Some(Meaning::Root), vec![("label".to_owned(), label)]);
        scope.enter(Some(Meaning::Group("site")), Vec::new());
        assert_eq!(shown(&scope, "label"), "\"Go\"");
        assert_eq!(shown(&scope, "label.x"), "no label.x");
        scope.leave();
        scope.leave();
        assert_eq!(shown(&scope, "username"), "user.username");
    }
}
