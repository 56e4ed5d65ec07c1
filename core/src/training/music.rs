//! A language model of codes, told what to play: `MusicGen`, with its text encoder.
//!
//! Source: J. Copet et al., "Simple and Controllable Music Generation", 2023, sections 2 and 3. Differs: the text encoder
//! learns along, since it begins at nothing.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};

use super::{Outcome, StepKey, Task};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::Hooks,
    models::{
        musicgen::{Columns, DecoderState, DelayPattern, MusicGen, MusicgenConfig},
        t5::TokenIds,
    },
};

/// Clips and what they are called.
#[derive(Debug, Clone)]
pub struct MusicBatch {
    /// Token ids per clip; none where the text is left out, for guidance.
    pub texts: Vec<TokenIds>,
    /// `[clip][codebook][frame]`
    pub codes: Vec<Vec<Vec<u32>>>,
}

/// The next codes, out of those before and a text.
#[derive(Debug, Clone)]
pub struct MusicTask {
    config: MusicgenConfig,
}

impl MusicTask {
    /// A model of this shape; the codec within is not trained.
    pub fn new(config: MusicgenConfig) -> Self {
        Self { config }
    }

    /// Shape of the model.
    pub fn config(&self) -> &MusicgenConfig {
        &self.config
    }
}

impl Task for MusicTask {
    type Batch = MusicBatch;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        MusicGen::load(&self.config, &weights)?;
        Ok(weights.taken())
    }

    fn trains(&self, name: &str) -> bool {
        !name.starts_with("audio_encoder.")
    }

    fn loss(&self, weights: &Weights, batch: &MusicBatch, _: StepKey) -> Result<Outcome, LoadError> {
        let model = MusicGen::load(&self.config, weights)?;
        let decoder = &self.config.decoder;
        let mut hooks = Hooks::none();
        let text = model.encode_text(&mut hooks, &batch.texts);
        let [rows, frames] = [batch.codes.len(), batch.codes[0][0].len()];
        let pattern = DelayPattern { codebooks: decoder.num_codebooks, channels: decoder.audio_channels, frames };
        let time = pattern.columns() - 1;
        let (mut seen, mut wanted, mut counts) = (vec![], vec![], vec![]);
        for codes in &batch.codes {
            let columns: Vec<Vec<u32>> =
                (0..=time).map(|column| pattern.column(codes, column, decoder.pad_token_id)).collect();
            for codebook in 0..pattern.codebooks {
                seen.extend(columns[..time].iter().map(|column| i64::from(column[codebook])));
                for (column, tokens) in columns.iter().enumerate().skip(1) {
                    let is_token = pattern.frame(codebook, column).is_some();
                    wanted.push(if is_token { i64::from(tokens[codebook]) } else { 0 });
                    counts.push(f32::from(u8::from(is_token)));
                }
            }
        }
        let device = weights.device();
        let shape = [rows, pattern.codebooks, time];
        let seen = Tensor::<3, Int>::from_data(TensorData::new(seen, shape), device);
        let wanted = Tensor::<3, Int>::from_data(TensorData::new(wanted, shape), device);
        let per_codebook = (rows * frames) as f64;
        let counts = Tensor::<3>::from_data(TensorData::new(counts, shape), device);
        let mut state = DecoderState::new(model.decoder(), &mut hooks, &text, false, time);
        let logits = model.decoder().forward(&mut hooks, &mut state, seen, Columns::All);
        let chosen = log_softmax(logits, 3).gather(3, wanted.unsqueeze_dim::<4>(3)).reshape(shape);
        let surprise = (chosen * counts).neg().sum_dim(2).sum_dim(0).reshape([pattern.codebooks]) / per_codebook;
        let terms = (0..pattern.codebooks)
            .map(|codebook| (format!("surprise_{codebook}"), surprise.clone().narrow(0, codebook, 1)))
            .collect();
        Ok(Outcome { loss: surprise.mean(), terms, upkeep: vec![] })
    }
}
