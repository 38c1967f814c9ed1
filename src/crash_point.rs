//! Points at which tests end the process as a crash would, or let a message run into a bug. Without the feature `crash-points` there
//! are none.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("the feature `crash-points` is for tests; build a release without it");

/// Ends the process, without any tidying, if `REGRANT_CRASH_AT` names this point.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &str) {
    if std::env::var("REGRANT_CRASH_AT").is_ok_and(|at| at == name) {
        std::process::abort();
    }
}

/// Does nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
pub const fn crash_point(_name: &str) {}

/// Lets a message whose id begins with this point's name run into a bug here, if `REGRANT_PANICS` is set.
///
/// # Panics
/// Then.
#[cfg(feature = "crash-points")]
pub fn panic_point(name: &str, message_id: Option<&str>) {
    let here = message_id.is_some_and(|id| id.starts_with(name)) && std::env::var_os("REGRANT_PANICS").is_some();
    assert!(!here, "a test asks for it");
}

/// Does nothing: this build has no such points.
#[cfg(not(feature = "crash-points"))]
pub const fn panic_point(_name: &str, _message_id: Option<&str>) {}
