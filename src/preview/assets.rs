//! The files of the page, built into the program.

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Where the page finds it.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// What is in it.
    pub text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $type:expr, $file:literal) => {
        Asset { path: $path, content_type: $type, text: include_str!(concat!("assets/", $file)) }
    };
}

/// All of them.
pub static ALL: [Asset; 10] = [
    asset!("/", HTML, "index.html"),
    asset!("/assets/style.css", CSS, "style.css"),
    asset!("/assets/mail.css", CSS, "mail.css"),
    asset!("/assets/icon.svg", PICTURE, "icon.svg"),
    asset!("/assets/app.js", SCRIPT, "app.js"),
    asset!("/assets/dom.js", SCRIPT, "dom.js"),
    asset!("/assets/gallery.js", SCRIPT, "gallery.js"),
    asset!("/assets/mail.js", SCRIPT, "mail.js"),
    asset!("/assets/frame.js", SCRIPT, "frame.js"),
    asset!("/assets/problems.js", SCRIPT, "problems.js"),
];
