//! Why a test failed, said again below what its daemons logged: whoever reads only the end of a long output misses the reason.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static REASON: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers from now on why a thread panics.
pub(super) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            REASON.set(panic.to_string());
            default(panic);
        }));
    });
}

/// Says it again below the end of these logs.
pub(super) fn tell(logs: &str) {
    let lines: Vec<&str> = logs.lines().collect();
    let shown = &lines[lines.len().saturating_sub(200)..];
    let reason = REASON.take();
    eprintln!("the last {} of {} lines that daemons logged:\n{}\n{reason}", shown.len(), lines.len(), shown.join("\n"));
}
