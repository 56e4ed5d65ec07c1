//! A model that puts sounds beside what they are called: `CLAP`.
//!
//! Source: Y. Wu et al., "Large-scale contrastive language-audio pretraining with feature fusion and keyword-to-caption
//! augmentation", 2023, section 2. Differs: the temperature stays as it begins; equal captions of a batch count as one.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, activation::log_softmax};

use super::{Outcome, StepKey, Task};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::Hooks,
    models::{
        clap::{Clap, ClapConfig, FeatureConfig},
        t5::TokenIds,
    },
};

/// What a cosine is divided by before the softmax over a batch.
const TEMPERATURE: f32 = 0.07;
/// Keeps a vector of zeros from being divided by nothing.
const LEAST_LENGTH: f64 = 1e-8;

/// Sounds and what they are called.
#[derive(Debug, Clone)]
pub struct ContrastBatch {
    /// `[row, 1, frame, band]`, as the front end makes it, without autodiff.
    pub mel: Tensor<4>,
    /// Token ids per row.
    pub texts: Vec<TokenIds>,
}

/// Mean and variance of every band of the spectrograms, over sounds such as will be heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bands {
    /// In dB.
    pub mean: Vec<f32>,
    /// In dB².
    pub variance: Vec<f32>,
}

impl Bands {
    /// Of spectrograms `[…, band]`.
    pub fn of(mel: &[f32], bands: usize) -> Self {
        let count = (mel.len() / bands).max(1) as f64;
        let sum = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0.0; bands];
            for row in mel.chunks_exact(bands) {
                for (band, &value) in row.iter().enumerate() {
                    sums[band] += of(band, f64::from(value));
                }
            }
            sums.into_iter().map(|sum| sum / count).collect()
        };
        let mean = sum(&|_, value| value);
        let variance = sum(&|band, value| (value - mean[band]).powi(2));
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Self { variance: single(variance), mean: single(mean) }
    }
}

/// Each sound nearer to its own caption than to others, and each caption to its own sound.
#[derive(Debug, Clone)]
pub struct ContrastTask {
    config: ClapConfig,
    features: FeatureConfig,
    bands: Bands,
}

impl ContrastTask {
    /// A model of this shape, whose first layer normalises by `bands`.
    pub fn new(config: ClapConfig, features: FeatureConfig, bands: Bands) -> Self {
        Self { config, features, bands }
    }
}

/// Whether `name` is kept as it begins: what normalises the bands, and the temperature.
fn is_kept(name: &str) -> bool {
    name.contains(".batch_norm.") || name == "logit_scale_a"
}

impl Task for ContrastTask {
    type Batch = ContrastBatch;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        Clap::load(&self.config, &self.features, &weights)?;
        Ok(weights.taken())
    }

    fn trains(&self, name: &str) -> bool {
        !is_kept(name)
    }

    fn initial(&self, name: &str, shape: &[usize], _: u64) -> Option<Vec<f32>> {
        let count = shape.iter().product();
        match name.rsplit_once(".batch_norm.") {
            Some((_, "running_mean")) => Some(self.bands.mean.clone()),
            Some((_, "running_var")) => Some(self.bands.variance.clone()),
            Some((_, "weight")) => Some(vec![1.0; count]),
            Some(_) => Some(vec![0.0; count]),
            None if name == "logit_scale_a" => Some(vec![(1.0 / TEMPERATURE).ln()]),
            None => name.ends_with("relative_position_bias_table").then(|| vec![0.0; count]),
        }
    }

    fn loss(&self, weights: &Weights, batch: &ContrastBatch, _: StepKey) -> Result<Outcome, LoadError> {
        let clap = Clap::load(&self.config, &self.features, weights)?;
        let rows = batch.texts.len();
        let hooks = &mut Hooks::none();
        let heard = clap.project_audio(clap.audio().forward(hooks, batch.mel.clone(), &vec![false; rows]));
        let longest = batch.texts.iter().map(Vec::len).max().unwrap_or(0);
        let read = clap.project_text(clap.text().forward(hooks, &batch.texts, longest).pooled);
        let scores = unit(heard).matmul(unit(read).transpose()) * clap.logit_scale();
        // Which captions are right for a row: all that are equal to its own share the blame.
        let mut right = vec![0.0f32; rows * rows];
        for (row, text) in right.chunks_exact_mut(rows).zip(&batch.texts) {
            let equal = batch.texts.iter().filter(|other| *other == text).count() as f32;
            for (weight, other) in row.iter_mut().zip(&batch.texts) {
                *weight = if other == text { 1.0 / equal } else { 0.0 };
            }
        }
        let right = Tensor::<2>::from_data(TensorData::new(right, [rows, rows]), weights.device());
        let surprise = |axis| (log_softmax(scores.clone(), axis) * right.clone()).sum().neg() / rows as f64;
        let (of_texts, of_sounds) = (surprise(1), surprise(0));
        let loss = (of_texts.clone() + of_sounds.clone()) / 2.0;
        let terms = vec![("text_surprise".to_owned(), of_texts), ("sound_surprise".to_owned(), of_sounds)];
        Ok(Outcome { loss, terms, upkeep: vec![] })
    }
}

/// Rows of length 1.
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = ((rows.clone() * rows.clone()).sum_dim(1) + LEAST_LENGTH).sqrt();
    rows / length
}
