//! Stopping a run from elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Stops every run that was given a clone of it, at the next step.
///
/// ```
/// use tonoscope::{core::models::musicgen::GenerateError, prelude::*};
///
/// let model = MusicGen::from_pretrained("musicgen-nano")?;
/// let cancel = Cancel::new();
/// cancel.cancel(); // from another thread, as a rule
/// let error = model.generate("a slow piano melody").cancel(&cancel).run().unwrap_err();
/// assert!(matches!(error, Error::Generate(GenerateError::Cancelled)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the runs.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the runs are to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
