//! Training of the small models: on the same types as the published ones, into the same checkpoint layouts.
//!
//! [`Parameters`] are named tensors, as a checkpoint has them. For every step they are handed to a model's own constructor
//! through [`Weights::given`](crate::checkpoint::Weights::given), so what the model computes is differentiable by them, and
//! saving a model is writing them down. A [`Task`] says what a model's loss is; a [`Trainer`] does the rest. What a step
//! draws at random depends on its number and the seed alone: a training that goes on where it stopped takes the steps of
//! one that never did.

mod autoencoder;
mod codec;
mod contrast;
mod diffusion;
mod harmonics;
mod music;
mod parameters;
mod spectra;
mod tagger;
mod tokenizer;
mod trainer;

pub use autoencoder::{AutoencoderTask, AutoencoderWeights};
pub use codec::{CodecTask, CodecWeights};
pub use contrast::{Bands, ContrastBatch, ContrastTask};
pub use diffusion::{DiffusionBatch, DiffusionTask};
pub use harmonics::{Clip, harmonics};
pub use music::{MusicBatch, MusicTask};
pub use parameters::{NamedTensor, Parameters, TrainState, Update, half_bytes};
pub use spectra::Spectra;
pub use tagger::{TagBatch, TagTask};
pub use tokenizer::word_tokenizer;
pub use trainer::{Optimiser, Outcome, StepKey, StepReport, Task, Trainer};

use crate::checkpoint::LoadError;

/// A training that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model cannot be made of the parameters.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device failed.
    #[error("the device fails: {0}")]
    Device(String),
    /// A loss or gradient that is not a number.
    #[error("step {step}: {what} is {value}")]
    NotFinite {
        /// The step.
        step: usize,
        /// What is not finite.
        what: String,
        /// What it is.
        value: f64,
    },
    /// A saved state that does not belong to this training.
    #[error("the saved training does not fit: {0}")]
    State(String),
}
