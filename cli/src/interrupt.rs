//! Ctrl-C: the first ends the work at the next step and leaves no half file, the second ends the program.

use std::{
    error::Error,
    ops::ControlFlow,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use tonoscope_core::models::musicgen::GenerateError;
use tonoscope_hub::HubError;

use crate::llm::LlmError;

static ASKED: AtomicBool = AtomicBool::new(false);
static SET_UP: Once = Once::new();

/// Exit status of a program that Ctrl-C has ended: 128 and the number of the signal.
pub(crate) const STATUS: u8 = 130;

/// Work that Ctrl-C has stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupted {
    /// Work whose results would have been written at its end.
    #[error("interrupted: nothing was written")]
    NothingWritten,
    /// Work that resumes. Whoever knows how much of it is finished says so with [`Interrupted::finished`].
    #[error("interrupted: run the same command again to resume")]
    Resumable,
    /// Work of which some is finished.
    #[error("interrupted: {finished} of {all} {what} are finished; run the same command again to resume")]
    Finished {
        /// How many.
        finished: usize,
        /// Of how many.
        all: usize,
        /// Of what, such as `prompts`.
        what: &'static str,
    },
}

impl Interrupted {
    /// `error`, which says how much is finished if Ctrl-C is its cause.
    pub(crate) fn finished(error: anyhow::Error, finished: usize, all: usize, what: &'static str) -> anyhow::Error {
        if error.chain().any(is_cause) { Self::Finished { finished, all, what }.into() } else { error }
    }
}

/// Whether `error` is Ctrl-C.
pub(crate) fn is_cause(error: &(dyn Error + 'static)) -> bool {
    error.is::<Interrupted>()
        || matches!(error.downcast_ref(), Some(GenerateError::Cancelled))
        || matches!(error.downcast_ref(), Some(HubError::Cancelled))
        || matches!(error.downcast_ref(), Some(LlmError::Interrupted))
}

/// From now on Ctrl-C is remembered instead of obeyed.
pub(crate) fn listen() {
    SET_UP.call_once(|| {
        let set = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(STATUS));
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
