//! Points at which tests end the process as a crash would. Without the feature `crash-points` there are none.

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
