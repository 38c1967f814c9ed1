//! Every shipped email in every language as people get it, kept in `tests/golden/` so that a change of words or of the
//! frame is seen in review. After a wanted change: `INSTA_UPDATE=always cargo test golden`.

use super::*;
use crate::mail::context;

#[test]
fn every_email_in_every_language_is_as_it_was_reviewed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = TemplateSet::load(&directory.join("email_templates"), &["default"]).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory.join("tests/golden"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (variant, _) in set.variants() {
            let (template, locale) = (variant.template, variant.locale.as_ref().map_or("en", Locale::as_str));
            let mail = set.render(template, "default", Some(locale), &context::sample(template)).unwrap();
            let text = format!("Subject: {}\n\n{}", mail.subject, mail.text);
            insta::assert_snapshot!(format!("{template}.{locale}.txt"), text);
            insta::assert_snapshot!(format!("{template}.{locale}.html"), mail.html);
        }
    });
}
