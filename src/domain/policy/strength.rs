//! How hard a password is to guess.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use zxcvbn::zxcvbn;

use super::Personal;

/// Characters that are scored at once.
const WINDOW: usize = 32;
/// Windows that are scored at most.
const WINDOWS: usize = 3;

/// The zxcvbn score, and what to do about it.
///
/// The time that zxcvbn takes grows with more than the square of the length: a random password of 100 characters costs it half
/// a second, a hostile one more than a second. So no more than [`WINDOW`] characters are given to it at once, and nothing more
/// once a part has the highest score: a password is at least as hard to guess as its strongest part. Of a longer one that is
/// weak all along, the first [`WINDOWS`] windows count.
pub(super) fn strength(password: &str, personal: &Personal<'_>, site_name: &str) -> (u8, Cow<'static, str>) {
    let words = guessable_words(personal, site_name);
    let found = estimate(password, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let advice = found.feedback().map(|feedback| {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let suggestion = feedback.suggestions().first().map(ToString::to_string);
        [warning, suggestion].into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let advice = match advice.filter(|advice| !advice.is_empty()) {
        Some(advice) => format!("Choose something that is harder to guess. {advice}").into(),
        None => "Choose something that is harder to guess: a few uncommon words, for example.".into(),
    };
    (u8::from(found.score()), advice)
}

fn estimate(password: &str, words: &[&str]) -> zxcvbn::Entropy {
    // Most passwords that are costly to score are random, and show it early.
    let (beginning, rest) = split(password, WINDOW / 2);
    let quick = zxcvbn(beginning, words);
    if rest.is_empty() || quick.score() == zxcvbn::Score::Four {
        return quick;
    }
    let (window, mut rest) = split(password, WINDOW);
    let mut best = zxcvbn(window, words);
    for _ in 1..WINDOWS {
        if rest.is_empty() || best.score() == zxcvbn::Score::Four {
            break;
        }
        let (window, after) = split(rest, WINDOW);
        let found = zxcvbn(window, words);
        if found.score() > best.score() {
            best = found;
        }
        rest = after;
    }
    best
}

/// The first `characters` characters, and what follows.
fn split(text: &str, characters: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at))
}

/// Words that an attacker who knows the person and the site would try first.
fn guessable_words(personal: &Personal<'_>, site_name: &str) -> Vec<String> {
    let whole = [personal.username, personal.email, personal.display_name, site_name];
    let parts = whole.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let words = whole.iter().copied().chain(parts).filter(|word| (3..=128).contains(&word.len()));
    // Each word costs time, and a hostile profile could have hundreds.
    words.take(32).map(|word| word.nfc().collect::<String>().to_lowercase()).collect()
}
