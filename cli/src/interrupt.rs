//! Ctrl-C: the first ends the work at the next step and leaves no half file, the second ends the program.

use std::{
    ops::ControlFlow,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

static ASKED: AtomicBool = AtomicBool::new(false);
static SET_UP: Once = Once::new();

/// From now on Ctrl-C is remembered instead of obeyed.
pub(crate) fn listen() {
    SET_UP.call_once(|| {
        let set = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
        // Without a handler Ctrl-C simply ends the program, and every file is still written whole or not at all.
        drop(set);
    });
}

/// Whether Ctrl-C was pressed.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Goes on unless Ctrl-C was pressed.
pub(crate) fn check() -> ControlFlow<()> {
    if asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
