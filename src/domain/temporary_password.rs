//! Temporary passwords: made by the daemon, read out by support, typed once.

use rand::{Rng, RngExt};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// How many characters one has: some 118 bits.
pub const LENGTH: usize = 20;

/// Letters, digits and signs that nobody takes for one another, on paper or on the telephone: without `0 O o`, `1 I l i` and
/// signs that look alike or, at the beginning of a spreadsheet's cell, make a formula of it.
const ALPHABET: &[u8; 61] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789!#$%*?";

/// A new one. It has letters of both cases, a digit and a special character, whatever the policy demands.
pub fn generate(rng: &mut impl Rng) -> SecretString {
    let mut password = Zeroizing::new(String::with_capacity(LENGTH));
    // Drawn again as a whole until every kind is there: so all such passwords are equally likely.
    while !has_every_kind(&password) {
        password.clear();
        password.extend((0..LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])));
    }
    std::mem::take(&mut *password).into()
}

fn has_every_kind(password: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| password.bytes().any(|byte| kind(&byte));
    has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_punctuation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Personal, Policy};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use secrecy::ExposeSecret;
    use std::collections::BTreeSet;

    fn many(count: usize) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(7);
        (0..count).map(|_| generate(&mut rng).expose_secret().to_owned()).collect()
    }

    #[test]
    fn it_has_twenty_characters_that_cannot_be_mistaken_for_one_another() {
        let all = many(2000);
        let used: BTreeSet<char> = all.iter().flat_map(|password| password.chars()).collect();
        assert_eq!(used, ALPHABET.iter().copied().map(char::from).collect(), "every character occurs");
        assert_eq!(used.len(), ALPHABET.len(), "no character is listed twice");
        assert!("0Oo1Ili|`'\"-_.,;:+=@".chars().all(|c| !used.contains(&c)), "{used:?}");
        assert!(all.iter().all(|password| password.chars().count() == LENGTH));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "no two are the same");
    }

    #[test]
    fn it_keeps_the_strictest_policy_that_twenty_characters_can() {
        let policy = Policy { min_length: 20, max_length: 20, min_strength: 4, ..Policy::default() };
        for password in many(200) {
            assert_eq!(policy.violations(&password, &Personal::default(), "Example", false), [], "{password}");
        }
    }

    #[test]
    fn characters_are_equally_likely() {
        let mut seen = std::collections::BTreeMap::new();
        for byte in many(5000).iter().flat_map(|password| password.bytes()) {
            *seen.entry(byte).or_insert(0_u32) += 1;
        }
        // The draw until every kind is there favours the rare kinds: so the kinds are looked at one by one.
        for kind in [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit, u8::is_ascii_punctuation] {
            let counts: Vec<f64> = seen.iter().filter(|(byte, _)| kind(byte)).map(|(_, n)| f64::from(*n)).collect();
            let degrees = f64::from(u32::try_from(counts.len() - 1).unwrap());
            let mean = counts.iter().sum::<f64>() / (degrees + 1.0);
            let chi: f64 = counts.iter().map(|n| (n - mean).powi(2) / mean).sum();
            // Four standard deviations of chi-squared; the input is fixed.
            assert!(chi < degrees + 4.0 * (2.0 * degrees).sqrt(), "{counts:?}: {chi}");
        }
    }
}
