//! From text and seconds to what the transformer takes.
//!
//! References: `StableAudioProjectionModel` and `StableAudioPipeline.encode_prompt`, diffusers 0.42.1,
//! `pipelines/stable_audio/` (Apache-2.0); `T5Conditioner` and `NumberConditioner`, stable-audio-tools 0.0.19,
//! `models/conditioners.py` (MIT). Differs: text encoder and projections always compute in 32 bits, not in 16.

use std::f32::consts::PI;

use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor, TensorData},
};

use super::{StableAudio, StableAudioConfig, config::ProjectionConfig};
use crate::{
    checkpoint::{LoadError, Rows, Weights},
    hooks::Hooks,
    models::t5::TokenIds,
    nn::Linear,
};

/// Bands of the seconds' features where no checkpoint says how many: the default of both references.
const BANDS: usize = 128;

/// What a batch is to become.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// Text, start and total, one below the other: `[prompt, token, conditioning_dim]`.
    pub cross: Tensor<3>,
    /// The same with the negative text; `None`: nothing, all zeros.
    pub negative: Option<Tensor<3>>,
    /// Start and total side by side: `[prompt, 1, 2 · conditioning_dim]`.
    pub global: Tensor<3>,
    /// Rows of each prompt, next to each other.
    pub copies: usize,
}

impl Conditioning {
    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.cross.dims()[0] * self.copies
    }

    /// Every row `times` times, copies next to each other. What they share is computed once.
    #[must_use]
    pub fn repeat(mut self, times: usize) -> Self {
        self.copies *= times;
        self
    }
}

/// Projections of text and seconds.
#[derive(Module, Debug)]
pub(super) struct Conditioners {
    /// `None` if the widths agree.
    text: Option<Linear>,
    start: NumberConditioner,
    total: NumberConditioner,
}

/// `linear([x, sin(2π x w), cos(2π x w)])` of a number scaled to 0 … 1.
#[derive(Module, Debug)]
struct NumberConditioner {
    #[module(skip)]
    frequencies: Vec<f32>,
    linear: Linear,
    #[module(skip)]
    range: (f32, f32),
}

impl Conditioners {
    pub(super) fn load(config: &ProjectionConfig, weights: &Weights) -> Result<Self, LoadError> {
        // Of what all steps begin with, as the text encoder: in 32 bits.
        let weights = &weights.wide();
        let number = |name: &str| NumberConditioner::load(config, &weights.sub(name).sub("time_positional_embedding"));
        let (from, to) = (config.text_encoder_dim, config.conditioning_dim);
        let text = &weights.sub("text_projection");
        Ok(Self {
            text: if from == to { None } else { Some(Linear::load(text, from, to, true)?) },
            start: number("start_number_conditioner")?,
            total: number("end_number_conditioner")?,
        })
    }
}

impl NumberConditioner {
    fn load(config: &ProjectionConfig, weights: &Weights) -> Result<Self, LoadError> {
        let bands = weights.sub(0);
        let count = bands.shape("weights").and_then(|shape| shape.first().copied()).unwrap_or(BANDS);
        Ok(Self {
            frequencies: bands.values("weights", &[count])?,
            linear: Linear::load(&weights.sub(1), 2 * count + 1, config.conditioning_dim, true)?,
            range: (config.min_value as f32, config.max_value as f32),
        })
    }

    /// `[row, 1, conditioning_dim]`
    fn forward(&self, numbers: &[f32], device: &Device) -> Tensor<3> {
        let (least, most) = self.range;
        let mut features = vec![];
        for number in numbers {
            let x = (number.clamp(least, most) - least) / (most - least);
            let angles = || self.frequencies.iter().map(|frequency| x * frequency * 2.0 * PI);
            features.push(x);
            features.extend(angles().map(f32::sin));
            features.extend(angles().map(f32::cos));
        }
        let shape = [numbers.len(), 1, 2 * self.frequencies.len() + 1];
        self.linear.forward_rows(upload(features, shape, device, DType::F32), Rows::Steps)
    }
}

/// `values` on `device`, in the type `float`.
pub(super) fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device, float: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), (device, float))
}

impl StableAudio {
    /// Conditions of a batch, one row per prompt. A list of no ids is no text: all of its tokens are zeros.
    ///
    /// `negative` is what guidance leads away from, the same for all rows. Hooks see the text encoder on `prompts` alone.
    ///
    /// # Panics
    /// If a text has more tokens than [`StableAudioConfig::text_tokens`], which the tokenizer refuses.
    pub fn condition(
        &self,
        hooks: &mut Hooks,
        prompts: &[TokenIds],
        negative: Option<&TokenIds>,
        seconds_start: f32,
        seconds_total: f32,
    ) -> Conditioning {
        self.condition_each(hooks, prompts, negative, &vec![(seconds_start, seconds_total); prompts.len()])
    }

    /// As [`Self::condition`], with start and total in seconds for each prompt.
    ///
    /// # Panics
    /// As [`Self::condition`], and if there are not as many seconds as prompts.
    pub fn condition_each(
        &self,
        hooks: &mut Hooks,
        prompts: &[TokenIds],
        negative: Option<&TokenIds>,
        seconds: &[(f32, f32)],
    ) -> Conditioning {
        assert_eq!(prompts.len(), seconds.len(), "seconds for each prompt");
        let device = self.device();
        let starts: Vec<f32> = seconds.iter().map(|(start, _)| *start).collect();
        let totals: Vec<f32> = seconds.iter().map(|(_, total)| *total).collect();
        let start = self.conditioners.start.forward(&starts, &device);
        let total = self.conditioners.total.forward(&totals, &device);
        let below = |text: Tensor<3>| Tensor::cat(vec![text, start.clone(), total.clone()], 1);
        let cross = below(self.encode_text(hooks, prompts));
        let negative = negative.map(|ids| {
            let text = self.encode_text(&mut Hooks::none(), std::slice::from_ref(ids));
            let [_, tokens, width] = text.dims();
            below(text.expand([prompts.len(), tokens, width]))
        });
        Conditioning { cross, negative, global: Tensor::cat(vec![start, total], 2), copies: 1 }
    }

    /// Projected states of texts, padded, zero where there is no token: `[row, token, conditioning_dim]`.
    fn encode_text(&self, hooks: &mut Hooks, prompts: &[TokenIds]) -> Tensor<3> {
        let StableAudioConfig { text_tokens: tokens, text_encoder, .. } = self.config();
        let tokens = *tokens;
        let (mut ids, mut mask) = (vec![], vec![]);
        for prompt in prompts {
            assert!(prompt.len() <= tokens, "{} tokens, of {tokens} at most", prompt.len());
            let padded = prompt.iter().copied().chain(std::iter::repeat(text_encoder.pad_token_id));
            ids.extend(padded.take(tokens).map(i64::from));
            mask.extend((0..tokens).map(|token| i64::from(token < prompt.len())));
        }
        let device = self.device();
        let shape = [prompts.len(), tokens];
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
        let mask = Tensor::<2, Int>::from_data(TensorData::new(mask, shape), &device);
        let states = self.text_encoder.forward(hooks, ids, mask.clone());
        let states = match &self.conditioners.text {
            Some(projection) => projection.forward(states),
            None => states,
        };
        let kept = mask.float().cast(states.dtype()).unsqueeze_dim::<3>(2);
        states * kept
    }
}
