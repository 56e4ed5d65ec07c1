//! What music that is heard later has passed through.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Tensor;
use tonoscope_core::{checkpoint::Placement, models::oobleck::Oobleck};

use super::PLAYED_RATE;
use crate::{
    commands::train::{autoencoder, values},
    failure::Misuse,
};

/// An autoencoder that was trained before.
pub(super) struct Through {
    model: Oobleck,
    /// The file of its weights.
    pub(super) file: PathBuf,
}

impl Through {
    pub(super) fn open(folder: &Path, placement: &Placement) -> Result<Self> {
        let (config, model) = autoencoder::open(folder, placement.clone())?;
        if config.sampling_rate != PLAYED_RATE || config.audio_channels != 1 {
            let what = format!("`{}` is not of {PLAYED_RATE} samples per second and one channel", folder.display());
            return Err(Misuse::new(what).into());
        }
        Ok(Self { model, file: folder.join(autoencoder::WEIGHTS) })
    }

    /// Sounds `[clip, 1, sample]` after it, as long as they were.
    pub(super) fn pass(&self, sound: Tensor<3>) -> Result<Vec<Vec<f32>>> {
        let length = sound.dims()[2];
        let decoded = self.model.decode(self.model.encode(sound).mean);
        let made = decoded.dims()[2];
        let cut = |clip: &[f32]| {
            let mut clip = clip.to_vec();
            clip.resize(length, 0.0);
            clip
        };
        Ok(values(decoded)?.chunks_exact(made).map(cut).collect())
    }
}
