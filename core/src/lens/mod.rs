//! `DecoderLens`: what each layer of the decoder already knows.
//!
//! [`early_exit`] lets the model stop after a layer and go on by itself, so that every depth writes its own music.
//! [`ResidualStreams`] reads every layer of one run, along the tokens of the whole model, through the final norm and heads
//! (teacher-forced); with [`Translators`] it is the tuned lens. A *layer* is counted by how many have run: 1 to all.
//!
//! Sources: Vélez Vásquez et al., "Exploring the Inner Mechanisms of Large Generative Music Models", ISMIR 2024, section 3;
//! Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023.

mod logit;
mod read;
mod similarity;
mod translate;
#[cfg(not(target_arch = "wasm32"))]
mod tune;

use std::ops::ControlFlow;

use burn::tensor::ExecutionError;

pub use logit::{ReadsOut, lens_spec, logit_lens};
/// [`ResidualStreams`] by its former name.
pub use read::ResidualStreams as Streams;
pub use read::{LayerReading, ResidualStreams, TokenReading};
pub use similarity::self_similarity;
pub use translate::{Origin, TranslatorFile, Translators};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{TuneError, Tuning};

use crate::{
    hooks::{HookError, Hooks},
    models::musicgen::{
        Generate, GenerateError, Generation, MusicGen, Progress, RowSharing, Sequence, SequenceKey, Text,
    },
};

/// Layers that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LensError {
    /// A layer that the model does not have.
    #[error("layer {asked} of {layers}: layers are counted by how many have run, from 1")]
    Layer {
        /// What was asked for.
        asked: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// Music longer than the model sees at once.
    #[error("{frames} frames are more than the {window} that the model sees at once")]
    TooLong {
        /// Frames of the music.
        frames: usize,
        /// Frames of the window.
        window: usize,
    },
    /// Translators of another model.
    #[error("the translators are for {found} layers of width {found_width}, the model has {layers} of width {width}")]
    Translators {
        /// Layers that they are for.
        found: usize,
        /// Their width.
        found_width: usize,
        /// Layers of the model.
        layers: usize,
        /// Its width.
        width: usize,
    },
    /// The residual stream could not be recorded.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] ExecutionError),
}

/// Checks that every one of `layers` is between 1 and all.
///
/// # Errors
/// [`LensError::Layer`] names the first that is not.
pub fn check_layers(model: &MusicGen, layers: &[usize]) -> Result<(), LensError> {
    let all = model.config().decoder.num_hidden_layers;
    match layers.iter().find(|&&layer| layer == 0 || layer > all) {
        Some(&asked) => Err(LensError::Layer { asked, layers: all }),
        None => Ok(()),
    }
}

/// Generates every text once for each of `layers`, stopping after that layer: sequence `text · layers.len() + index`.
///
/// All depths of a text share its encoding, its keys and values, one pass over the weights per step, and the random
/// numbers of `keys[text]`, so that the deepest one is the plain generation.
///
/// # Errors
/// [`GenerateError`].
///
/// # Panics
/// If there are not as many keys as texts.
pub async fn early_exit(
    model: &MusicGen,
    text: &Text,
    keys: &[SequenceKey],
    layers: &[usize],
    how: &Generate,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Generation, GenerateError> {
    assert_eq!(keys.len(), text.mask.len(), "one key per text");
    let mut sequences = Vec::with_capacity(keys.len() * layers.len());
    for (text, key) in keys.iter().enumerate() {
        for &depth in layers {
            let lane = RowSharing { text, depth, ..RowSharing::alone(sequences.len(), depth) };
            sequences.push(Sequence { lane, key: key.clone(), start: vec![] });
        }
    }
    model.generate_sequences(&mut Hooks::none(), text, &sequences, how, watch).await
}
