use serde_json::{Value, json};

use super::*;
use crate::commands::testing::{Bed, GOOD};

fn judged(config: &Config, profile: Option<&Profile>, password: &str, blocklisted: bool) -> Value {
    let policy = config.password.policy.rules;
    let assessment = policy.assess(password, &personal(profile, None), &site_name(config, profile), blocklisted);
    serde_json::to_value(Answer::from(assessment)).unwrap()
}

#[test]
fn every_broken_rule_is_told_with_its_sentence_and_the_strength() {
    let bed = Bed::default();
    let answer = judged(&bed.config, None, "short", false);
    assert_eq!((&answer["acceptable"], &answer["strength"]), (&json!(false), &json!(0)));
    let rules: Vec<&str> =
        answer["violations"].as_array().unwrap().iter().map(|v| v["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["min_length", "require_uppercase", "require_digit", "require_special", "min_strength"]);
    assert_eq!(answer["violations"][0]["message"], "Use at least 12 characters.");
    let answer = judged(&bed.config, None, GOOD, false);
    assert_eq!(answer, json!({ "acceptable": true, "violations": [], "strength": 4 }));
    assert_eq!(judged(&bed.config, None, GOOD, true)["violations"][0]["rule"], "blocklist_file");
}

#[test]
fn a_known_person_must_leave_their_own_names_out() {
    let mut bed = Bed::default();
    bed.person("ada", "north", "member").profile.display_name = Some("Ada Lovelace".to_owned());
    bed.config.sites.get_mut("north").unwrap().name = "Northwind Traders".to_owned();
    let profile = bed.account("ada").profile.clone();
    let own = "Lovelace-Weaves-7-Numbers";
    assert_eq!(judged(&bed.config, None, own, false)["acceptable"], true);
    assert_eq!(judged(&bed.config, Some(&profile), own, false)["violations"][0]["rule"], "forbid_personal");
    assert_eq!(site_name(&bed.config, Some(&profile)), "Northwind Traders");
    assert_eq!(site_name(&bed.config, None), "Example");
}

#[test]
fn what_the_form_names_must_be_left_out_whether_anybody_is_called_so_or_not() {
    let policy = Bed::default().config.password.policy.rules;
    for (user, password, broken) in [
        (json!({ "email": "Lovelace@example.com" }), "Lovelace-Weaves-7-Numbers", true),
        (json!({ "username": "lovelace" }), "Lovelace-Weaves-7-Numbers", true),
        (json!({ "email": "ada@lovelace.example" }), "Lovelace-Weaves-7-Numbers", false),
        (json!({ "id": "lovelace" }), "Lovelace-Weaves-7-Numbers", false),
    ] {
        let given: UserName = serde_json::from_value(user.clone()).unwrap();
        let violations = policy.violations(password, &personal(None, Some(&given)), "Example", false);
        assert_eq!(violations.iter().any(|v| v.rule == "forbid_personal"), broken, "{user}");
    }
}

#[test]
fn debug_shows_no_password() {
    let check: Check = serde_json::from_value(json!({ "new_password": GOOD })).unwrap();
    assert!(!format!("{check:?}").contains(GOOD));
}
