//! A tagger of sound: `PaSST`.
//!
//! Source: K. Koutini et al., "Efficient Training of Audio Transformers with Patchout", 2022, section 3. Differs: no patchout
//! and no mixing of clips, since no clip is heard twice.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, activation::relu};

use super::{Outcome, StepKey, Task};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::Hooks,
    models::passt::{PasstConfig, Vit},
};

/// Sounds and what is in them.
#[derive(Debug, Clone)]
pub struct TagBatch {
    /// `[row, 1, band, frame]`, as `MelFrontEnd` makes it.
    pub mel: Tensor<4>,
    /// 1 where the class is heard, else 0: `[row, class]`.
    pub tags: Tensor<2>,
}

/// What is heard in a sound, of many classes several.
#[derive(Debug, Clone)]
pub struct TagTask {
    config: PasstConfig,
    taught: usize,
}

impl TagTask {
    /// A tagger of this shape. `taught` of its classes are ever heard, which only scales the loss.
    pub fn new(config: PasstConfig, taught: usize) -> Self {
        Self { config, taught }
    }

    /// Shape of the tagger.
    pub fn config(&self) -> &PasstConfig {
        &self.config
    }
}

impl Task for TagTask {
    type Batch = TagBatch;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        Vit::load(&self.config, &weights)?;
        Ok(weights.taken())
    }

    fn trains(&self, _: &str) -> bool {
        true
    }

    fn loss(&self, weights: &Weights, batch: &TagBatch, _: StepKey) -> Result<Outcome, LoadError> {
        let tagger = Vit::load(&self.config, weights)?;
        let logits = tagger.forward(&mut Hooks::none(), batch.mel.clone()).logits;
        // −ln p of a class that is heard, −ln (1 − p) of one that is not; p is the logit's sigmoid.
        let surprise =
            relu(logits.clone()) - logits.clone() * batch.tags.clone() + (logits.abs().neg().exp() + 1.0).log();
        let loss = surprise.sum_dim(1).mean() / self.taught as f64;
        Ok(Outcome { loss, terms: vec![], upkeep: vec![] })
    }
}
