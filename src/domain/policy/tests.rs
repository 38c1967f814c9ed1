use super::*;
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;

const ADA: Personal<'static> =
    Personal { username: "ada_l", email: "countess@example.com", display_name: "Ada King-Noel Lovelace" };

fn policy() -> Policy {
    Policy::default()
}

fn lenient() -> Policy {
    Policy {
        min_length: 1,
        require_uppercase: false,
        require_lowercase: false,
        require_digit: false,
        require_special: false,
        min_strength: 0,
        forbid_personal: false,
        ..policy()
    }
}

fn broken(policy: &Policy, password: &str) -> Vec<&'static str> {
    policy.violations(password, &ADA, "Example", false).iter().map(|violation| violation.rule).collect()
}

#[test]
fn good_passwords_are_accepted() {
    for password in [
        "Correct-Horse-7-Battery",
        "Tr0ub4dor-And-Three!",
        "Grüne Äpfel rollen 3 mal",
        "私の猫は毎朝5時に鳴く、困る",
        "πράσινο Μήλο 42!",
    ] {
        assert_eq!(broken(&policy(), password), [""; 0], "{password}");
    }
}

#[test]
fn all_broken_rules_are_listed_in_order() {
    assert_eq!(
        broken(&policy(), "short"),
        ["min_length", "require_uppercase", "require_digit", "require_special", "min_strength"]
    );
    assert_eq!(
        broken(&policy(), ""),
        ["min_length", "require_uppercase", "require_lowercase", "require_digit", "require_special", "min_strength"]
    );
    let all = policy().violations("ada_l\t", &ADA, "Example", true);
    let rules: Vec<_> = all.iter().map(|violation| violation.rule).collect();
    assert_eq!(
        rules,
        [
            "min_length",
            "characters",
            "require_uppercase",
            "require_digit",
            "min_strength",
            "forbid_personal",
            "blocklist_file"
        ]
        .into_iter()
        .collect::<Vec<_>>()
    );
}

#[test]
fn messages_can_be_shown_as_they_stand() {
    let messages: Vec<_> =
        policy().violations("password", &ADA, "Example", true).into_iter().map(|v| v.message).collect();
    assert_eq!(
        messages,
        [
            "Use at least 12 characters.",
            "Add an uppercase letter.",
            "Add a digit.",
            "Add a special character, such as a hyphen, a space or an exclamation mark.",
            "Choose something that is harder to guess. This is a top-10 common password. Add another word or two. Uncommon words are better.",
            "This password is widely known. Choose another one.",
        ]
    );
    assert_eq!(Violation::history(3).message, "Choose a password that is not one of your last 3.");
    assert_eq!(Violation::history(1).message, "Choose a password other than your current one.");
    assert_eq!(serde_json::to_value(Violation::history(1)).unwrap()["rule"], "history");
}

#[test]
fn characters_are_counted_as_they_are_read() {
    let lenient = Policy { min_length: 4, max_length: 5, ..lenient() };
    assert_eq!(broken(&lenient, "äöü"), ["min_length"]);
    assert_eq!(broken(&lenient, "a\u{308}o\u{308}u\u{308}"), ["min_length"], "decomposed, they are still three");
    assert_eq!(broken(&lenient, "äöüßé"), [""; 0]);
    assert_eq!(broken(&lenient, "äöüßéx"), ["max_length"]);
    assert_eq!(broken(&Policy { min_length: 0, ..lenient }, ""), ["min_length"], "no password is none");
}

#[test]
fn letters_and_digits_are_those_of_every_script() {
    let only = |rule: &str| Policy {
        require_uppercase: rule == "upper",
        require_lowercase: rule == "lower",
        require_digit: rule == "digit",
        require_special: rule == "special",
        ..lenient()
    };
    for (rule, good, bad) in [
        ("upper", ["Äpfel", "Жук", "猫", "שלום", "हिन्दी"], ["äpfel", "жук", "12-3", "😀", " "]),
        ("lower", ["ÄPFELs", "ЖУк", "猫", "สวัสดี", "ß"], ["ÄPFEL", "ЖУК", "12-3", "😀", " "]),
        ("digit", ["a1", "٣", "３", "九9", "²"], ["a", "九", "-", "😀", "Ä"]),
        ("special", ["a b", "a-b", "😀", "、", "€"], ["ab1", "猫", "Äß", "٣", "\u{7}a"]),
    ] {
        for password in good {
            assert!(!broken(&only(rule), password).iter().any(|r| r.contains(rule)), "{rule} {password}");
        }
        for password in bad {
            assert!(broken(&only(rule), password).iter().any(|r| r.contains(rule)), "{rule} {password}");
        }
    }
}

#[test]
fn control_characters_are_refused() {
    for password in ["a\0b", "a\nb", "a\u{1b}b", "a\u{7f}b", "a\u{85}b"] {
        assert_eq!(broken(&lenient(), password), ["characters"], "{password:?}");
    }
    assert_eq!(broken(&lenient(), "👩\u{200d}💻 می\u{200c}خواهم"), [""; 0], "joiners belong to writing");
}

#[test]
fn personal_words_are_found_in_any_case() {
    let policy = Policy { forbid_personal: true, ..lenient() };
    for password in ["x-ADA_L-1", "TheCountess!", "lovelace", "king-noel7", "adamant"] {
        assert_eq!(broken(&policy, password), ["forbid_personal"], "{password}");
    }
    for password in ["King of Noel", "example.com", "Correct-Horse-7-Battery"] {
        assert_eq!(broken(&policy, password), [""; 0], "{password}");
    }
    let tanaka = Personal { username: "a", email: "", display_name: "田中 花子" };
    assert_eq!(policy.violations("猫と田中と", &tanaka, "", false).len(), 1);
    let short = |username| Personal { username, ..Personal::default() };
    for (username, found) in [("Eve", 1), ("Al", 0), ("Жук", 1), ("Юл", 0), ("花", 0)] {
        assert_eq!(
            policy.violations("seven also жуки юла 花見", &short(username), "", false).len(),
            found,
            "{username}"
        );
    }
    assert_eq!(policy.violations("abc", &Personal::default(), "", false), []);
    assert_eq!(
        policy.violations("GRU\u{308}NWALD1", &Personal { display_name: "Jo Grünwald", ..tanaka }, "", false).len(),
        1
    );
}

#[test]
fn what_is_known_of_the_person_and_the_site_is_easy_to_guess() {
    let policy = policy();
    let stranger = policy.assess("Zyxomatic Frobnitz", &Personal::default(), "Example", false);
    let known = Personal { username: "frobnitz", ..Personal::default() };
    let own = policy.assess("Zyxomatic Frobnitz", &known, "Zyxomatic", false);
    assert!(own.strength < stranger.strength, "{} {}", own.strength, stranger.strength);
}

#[test]
fn the_description_names_what_holds() {
    let described = Policy { require_digit: false, ..policy() }.describe(false);
    let rules: Vec<_> = described.rules.iter().map(|rule| rule.rule).collect();
    assert_eq!(
        rules,
        [
            "min_length",
            "max_length",
            "require_uppercase",
            "require_lowercase",
            "require_special",
            "min_strength",
            "forbid_personal",
            "history"
        ]
    );
    assert_eq!(described.rules[0].message, "Use at least 12 characters.");
    let with_list = policy().describe(true);
    assert_eq!(with_list.rules.last().map(|rule| rule.rule), Some("blocklist_file"));
    let shown = serde_json::to_value(&described).unwrap();
    assert_eq!((&shown["min_length"], &shown["require_digit"]), (&12.into(), &false.into()));
}

#[test]
fn long_passwords_count_by_their_strongest_part() {
    let strength = |password: &str| lenient().assess(password, &Personal::default(), "Example", false).strength;
    assert_eq!(strength(&"a".repeat(256)), 0);
    assert_eq!(strength(&format!("{}kX9#mQ2vL7@pR4!zt", "a".repeat(64))), 4, "in the last window that counts");
    assert_eq!(strength(&format!("{}kX9#mQ2vL7@pR4!zt", "a".repeat(96))), 0, "behind it");
    assert_eq!(strength(&"猫".repeat(256)), strength(&"猫".repeat(96)), "characters are counted, not bytes");
    // zxcvbn alone takes more than a second for this one.
    assert_eq!(strength(&"4@8({[<369&#!1/|0$5+7%2".repeat(6)), 4);
    assert_eq!(strength(""), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_panics_and_form_does_not_matter(password in "\\PC{0,40}", any: String, name in "\\PC{0,20}") {
        let personal = Personal { username: &name, email: &any, display_name: &name };
        for password in [&password, &any] {
            let nfd: String = password.nfd().collect();
            let nfc: String = password.nfc().collect();
            prop_assert_eq!(policy().assess(&nfd, &personal, &name, false), policy().assess(&nfc, &personal, &name, false));
        }
    }
}
