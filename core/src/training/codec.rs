//! A neural audio codec: `EnCodec`, its codebooks kept up by running means.
//!
//! Source: A. Défossez et al., "High Fidelity Neural Audio Compression", 2022, section 3; codebooks as in N. Zeghidour et al.,
//! "`SoundStream`", 2021, section III-C. Differs: no adversary, no loss balancer, convolutions without weight norm in training.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::{NamedTensor, Outcome, Spectra, StepKey, Task, parameters::weight_normed};
use crate::{
    checkpoint::{LoadError, Weights},
    models::encodec::{Encodec, EncodecConfig},
};

/// What the loss of a [`CodecTask`] is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecWeights {
    /// Of the mean absolute difference of the samples.
    pub wave: f64,
    /// Of the difference in mel bands.
    pub spectral: f64,
    /// Of the distance between a vector and its codebook entries.
    pub commitment: f64,
    /// Windows of the mel bands, samples.
    pub windows: Vec<usize>,
    /// Share of a codebook's running means that stays in a step.
    pub codebook_decay: f64,
    /// Entries that are used less than this share of the mean are put where sound is.
    pub revive_below: f64,
    /// Steps at the start in which nothing is quantised.
    pub continuous_steps: usize,
}

/// Codes that keep a sound.
#[derive(Debug, Clone)]
pub struct CodecTask {
    config: EncodecConfig,
    how: CodecWeights,
    spectra: Spectra,
}

impl CodecTask {
    /// A codec of this shape.
    pub fn new(config: EncodecConfig, how: CodecWeights, device: &Device) -> Self {
        let spectra = Spectra::new(&how.windows, config.sampling_rate, device);
        Self { config, how, spectra }
    }

    /// Shape of the codec.
    pub fn config(&self) -> &EncodecConfig {
        &self.config
    }

    /// Vectors through the codebooks: what they become, its commitment loss, and the codebooks' upkeep and perplexities.
    fn quantise(&self, weights: &Weights, vectors: &Tensor<3>, key: StepKey) -> Result<Quantised, LoadError> {
        let [batch, frames, width] = vectors.dims();
        let rows = batch * frames;
        let entries = self.config.codebook_size;
        let live = vectors.clone().reshape([rows, width]);
        let fixed = live.clone().inner();
        let device = fixed.device();
        let mut sum = Tensor::<2>::zeros([rows, width], &device);
        let mut found =
            Quantised { vectors: vectors.clone(), commitment: vec![], upkeep: vec![], perplexities: vec![] };
        let mut random = key.random("codebooks");
        for layer in 0..self.config.num_quantizers() {
            let name = |part: &str| format!("quantizer.layers.{layer}.codebook.{part}");
            let table = weights.tensor::<2>(&name("embed"), [entries, width])?.inner();
            let rest = fixed.clone() - sum.clone();
            let lengths = (table.clone() * table.clone()).sum_dim(1).transpose();
            let distances = lengths - rest.clone().matmul(table.clone().transpose()) * 2.0;
            let nearest = distances.argmin(1);
            let chosen = table.select(0, nearest.clone().reshape([rows]));
            let off = live.clone() - (sum.clone() + chosen.clone());
            found.commitment.push((off.clone() * off).mean());
            sum = sum + chosen;
            let all = Tensor::<1, Int>::arange(0..entries as i64, &device).reshape([1, entries]);
            let is_chosen = nearest.expand([rows, entries]).equal(all.expand([rows, entries])).float();
            let counts = is_chosen.clone().sum_dim(0).reshape([entries]);
            let sums = is_chosen.transpose().matmul(rest.clone());
            let decay = self.how.codebook_decay;
            let blend = |old: Tensor<1>, new: Tensor<1>| old * decay + new * (1.0 - decay);
            let sizes = blend(weights.tensor::<1>(&name("cluster_size"), [entries])?.inner(), counts);
            let means = weights.tensor::<2>(&name("embed_avg"), [entries, width])?.inner();
            let means = means * decay + sums * (1.0 - decay);
            // Entries that nobody uses begin anew at vectors of this batch.
            let usual = rows as f64 / entries as f64;
            let dead = sizes.clone().lower_elem(usual * self.how.revive_below);
            let picks: Vec<i64> = (0..entries).map(|_| (random.next_u64() % rows as u64) as i64).collect();
            let picks = Tensor::<1, Int>::from_data(TensorData::new(picks, [entries]), &device);
            let fresh = rest.select(0, picks);
            let dead_rows = dead.clone().reshape([entries, 1]).expand([entries, width]);
            let sizes = sizes.mask_fill(dead, usual);
            let means = means.mask_where(dead_rows, fresh * usual);
            let table = means.clone() / sizes.clone().reshape([entries, 1]);
            let share = sizes.clone() / sizes.clone().sum();
            found.perplexities.push((share.clone() * (share + 1e-10).log()).sum().neg().exp());
            found.upkeep.push((name("inited"), Tensor::ones([1], &device)));
            found.upkeep.push((name("cluster_size"), sizes));
            found.upkeep.push((name("embed_avg"), means.reshape([entries * width])));
            found.upkeep.push((name("embed"), table.reshape([entries * width])));
        }
        // Straight through: the codebooks' vectors forwards, the encoder's gradient backwards.
        found.vectors = vectors.clone() + (sum - fixed).reshape([batch, frames, width]);
        Ok(found)
    }
}

struct Quantised {
    vectors: Tensor<3>,
    commitment: Vec<Tensor<1>>,
    upkeep: Vec<(String, Tensor<1>)>,
    perplexities: Vec<Tensor<1>>,
}

impl Task for CodecTask {
    /// `[batch, 1, sample]`, −1 to 1, whole frames of codes.
    type Batch = Tensor<3>;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        Encodec::load(&self.config, &weights)?;
        let mut names = weights.taken();
        let EncodecConfig { codebook_size: entries, hidden_size: width, .. } = self.config;
        for layer in 0..self.config.num_quantizers() {
            let codebook = format!("quantizer.layers.{layer}.codebook");
            names.insert(format!("{codebook}.inited"), vec![1]);
            names.insert(format!("{codebook}.cluster_size"), vec![entries]);
            names.insert(format!("{codebook}.embed_avg"), vec![entries, width]);
        }
        Ok(names)
    }

    fn trains(&self, name: &str) -> bool {
        !name.starts_with("quantizer.")
    }

    fn loss(&self, weights: &Weights, wave: &Tensor<3>, key: StepKey) -> Result<Outcome, LoadError> {
        let codec = Encodec::load(&self.config, weights)?;
        let vectors = codec.encode_vectors(wave.clone());
        let quantised = if key.step < self.how.continuous_steps {
            Quantised { vectors, commitment: vec![], upkeep: vec![], perplexities: vec![] }
        } else {
            self.quantise(weights, &vectors, key)?
        };
        let heard = codec.decode_vectors(quantised.vectors);
        let [batch, channels, samples] = wave.dims();
        let flat = |x: Tensor<3>| x.reshape([batch * channels, samples]);
        let (heard, wanted) = (flat(heard), flat(wave.clone()));
        let spectral = self.spectra.distance(&heard, &wanted);
        let off = (heard - wanted).abs().mean();
        let mut loss = off.clone() * self.how.wave + spectral.clone() * self.how.spectral;
        let mut terms = vec![("wave".to_owned(), off), ("spectral".to_owned(), spectral)];
        if let Some(commitment) = quantised.commitment.into_iter().reduce(|sum, next| sum + next) {
            loss = loss + commitment.clone() * self.how.commitment;
            terms.push(("commitment".to_owned(), commitment));
        }
        let perplexities = quantised.perplexities.into_iter().enumerate();
        terms.extend(perplexities.map(|(layer, perplexity)| (format!("perplexity_{layer}"), perplexity)));
        Ok(Outcome { loss, terms, upkeep: quantised.upkeep })
    }
}

impl CodecTask {
    /// The tensors under the names of transformers: each convolution's weight as a direction and its lengths.
    pub fn exported(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
        weight_normed(tensors, |name| {
            let place = format!("{}.conv.parametrizations.weight", name.strip_suffix(".conv.weight")?);
            Some([format!("{place}.original0"), format!("{place}.original1")])
        })
    }
}
