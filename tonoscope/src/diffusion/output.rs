//! What a Stable Audio has made.

use std::ops::Deref;

use burn::tensor::Tensor;

use crate::{Audio, outcome::one_piece};

/// Sound, the latents that it was decoded from, and what was heard on the way. It stands for its [`Audio`].
#[derive(Debug, Clone)]
pub struct Diffused {
    pub(super) audio: Audio,
    pub(super) latents: Tensor<3>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) prompt: String,
    pub(super) unseen_tokens: usize,
}

/// The model's estimate of the clean sound at one denoising step.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Denoising step, from 0.
    pub step: usize,
    /// How it sounds.
    pub audio: Audio,
    /// `[1, channel, length]`
    pub latents: Tensor<3>,
}

one_piece!(Diffused);

impl Diffused {
    /// The sound.
    pub fn audio(&self) -> &Audio {
        &self.audio
    }

    /// `[1, channel, length]`, on the model's device.
    pub fn latents(&self) -> &Tensor<3> {
        &self.latents
    }

    /// The estimates that were asked for, in the order of their steps.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// What it was made for.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// Tokens at the end of the prompt that the model did not see: it takes a fixed number.
    pub fn unseen_tokens(&self) -> usize {
        self.unseen_tokens
    }
}

impl Deref for Diffused {
    type Target = Audio;

    fn deref(&self) -> &Audio {
        &self.audio
    }
}

impl AsRef<Audio> for Diffused {
    fn as_ref(&self) -> &Audio {
        &self.audio
    }
}

impl AsRef<Audio> for Snapshot {
    fn as_ref(&self) -> &Audio {
        &self.audio
    }
}
