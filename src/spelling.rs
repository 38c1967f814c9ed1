//! "Did you mean …?": which of the right names is spelled most like a wrong one.

/// Below this a suggestion confuses more than it helps.
pub const ALIKE: f64 = 0.75;

/// The one of `names` that is spelled most like `word`, if any is alike at all.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    most_alike(names, |name| likeness(word, name)).filter(|(_, likeness)| *likeness >= ALIKE).map(|(name, _)| name)
}

/// What can be said of a name that is not among these: the one that was meant, and all of them.
pub fn choice(word: &str, names: &[&str]) -> String {
    let all = names.join(", ");
    match nearest(word, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? There are: {all}"),
        None => format!("there are: {all}"),
    }
}

/// The one of `names` that `likeness` puts first, and its likeness.
pub fn most_alike<'a>(
    names: impl IntoIterator<Item = &'a str>,
    likeness: impl Fn(&str) -> f64,
) -> Option<(&'a str, f64)> {
    names.into_iter().map(|name| (name, likeness(name))).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// How much a word is spelled like a name, from 0 to 1, whatever their case and between their words.
pub fn likeness(word: &str, name: &str) -> f64 {
    let whole = strsim::jaro_winkler(&plain(word), &plain(name));
    match name.rsplit_once('.') {
        // `username` for `user.username`: the right word without its group, which loses against the same likeness to a whole name.
        Some((_, last)) if !word.contains('.') => whole.max(0.95 * strsim::jaro_winkler(&plain(word), &plain(last))),
        _ => whole,
    }
}

fn plain(text: &str) -> String {
    text.to_lowercase().replace(['_', '-', ' '], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let names = ["user.username", "user.display_name", "reset_link", "site.name", "expires_at"];
        for (word, meant) in [
            ("user.displayname", Some("user.display_name")),
            ("displayName", Some("user.display_name")),
            ("username", Some("user.username")),
            ("reset_lnk", Some("reset_link")),
            ("resetLink", Some("reset_link")),
            ("expire_at", Some("expires_at")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }

    #[test]
    fn a_choice_begins_with_what_was_meant() {
        assert_eq!(choice("nort", &["default", "north"]), "did you mean `north`? There are: default, north");
        assert_eq!(choice("xyz", &["default", "north"]), "there are: default, north");
    }
}
