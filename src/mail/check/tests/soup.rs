//! Whatever a person can type.

use proptest::prelude::*;

use super::compile;

/// Bits of a template, in any order.
fn soup() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "{{user.username}}",
        "{{#if request_ip}}",
        "{{#with user}}",
        "{{/with}}",
        "{{/if}}",
        "{{else}}",
        "{{else if x}}",
        "{{^}}",
        "{{#each user}}",
        "{{/each}}",
        "{{> heading}}",
        "{{#> heading}}",
        "{{/heading}}",
        "{{> @partial-block}}",
        "{{../x}}",
        "{{@root.x}}",
        "{{",
        "}}",
        "{{{",
        "}}}",
        "{{{{",
        "}}}}",
        "{{~",
        "~}}",
        "{{!",
        "{{!--",
        "--}}",
        "\"",
        "'",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "|",
        "as",
        "=",
        "#",
        "/",
        ">",
        "&",
        "*",
        "^",
        "!",
        ".",
        "@",
        "é",
        " ",
        "\n",
        "if",
        "else",
        "x",
        "1",
        "\u{feff}",
        "\0",
    ]);
    prop::collection::vec(bits, 0..16).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    /// A template may be anything that a person can type: the check says so, it does not fall over.
    #[test]
    fn nothing_that_is_typed_makes_the_check_panic(source in soup()) {
        if let Err(problems) = compile(&source) {
            prop_assert!(problems.iter().all(|p| p.line > 0 && !p.message.is_empty()));
        }
    }
}
