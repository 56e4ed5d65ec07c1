//! CLAP: sound and text as vectors of one space.
//!
//! Reference: `ClapModel`, transformers 5.23.0, `models/clap/modeling_clap.py` (Apache-2.0); the model is that of Wu et al.,
//! "Large-scale contrastive language-audio pretraining", 2023. Differs: what is not a sound or a text is an error; nothing
//! is drawn at random, see [`FrontEnd`].

mod attention;
mod audio;
mod check;
mod config;
mod fusion;
#[cfg(not(target_arch = "wasm32"))]
mod laion;
#[cfg(not(target_arch = "wasm32"))]
mod load;
mod mel;
mod order;
mod parts;
mod stretch;
mod swin;
mod text;

use burn::tensor::{DType, Device, ExecutionError, Tensor, TensorData};

pub use audio::AudioTower;
pub use check::{CHECKED_TEXTS, Tower};
pub use config::{ClapAudioConfig, ClapConfig, ClapTextConfig, HiddenAct};
#[cfg(not(target_arch = "wasm32"))]
pub use load::ClapFiles;
pub use mel::{FeatureConfig, Features, FrontEnd, Padding, Truncation};
pub use text::{TextStates, TextTower};

use self::parts::Projection;
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::Hooks,
    models::t5::TokenIds,
};

/// Texts are padded to a multiple of this many tokens, so that a text's numbers do not depend on its neighbours.
const TOKEN_BLOCK: usize = 16;

/// Sound or text that cannot be embedded, or a model that cannot embed.
#[derive(Debug, thiserror::Error)]
pub enum ClapError {
    /// A clip without samples.
    #[error("clip {clip} has no samples")]
    Empty {
        /// Index of the clip.
        clip: usize,
    },
    /// A sample that is NaN or infinite.
    #[error("clip {clip} is not a number at sample {sample}")]
    NotFinite {
        /// Index of the clip.
        clip: usize,
        /// Index of the first such sample.
        sample: usize,
    },
    /// A text without tokens.
    #[error("text {text} is empty")]
    NoText {
        /// Index of the text.
        text: usize,
    },
    /// An embedding that is not a number: the range of the activations' type is too small.
    #[error("the embedding of input {input} is not a number")]
    Overflow {
        /// Index of the clip or text.
        input: usize,
    },
    /// A tower that embeds everything alike.
    #[error("the {tower} tower of this checkpoint is degenerate: {reason}")]
    Degenerate {
        /// Which tower.
        tower: Tower,
        /// What was seen.
        reason: String,
    },
    /// The device failed.
    #[error("the device failed while embedding")]
    Device(#[source] ExecutionError),
}

/// Front end, both towers, and their projections.
#[derive(Debug, Clone)]
pub struct Clap {
    config: ClapConfig,
    front_end: FrontEnd,
    audio_model: AudioTower,
    audio_projection: Projection,
    text_model: TextTower,
    text_projection: Projection,
    logit_scale: f64,
    device: Device,
}

impl Clap {
    /// Takes its tensors from `weights` under the names of transformers.
    ///
    /// # Errors
    /// [`LoadError`] if a configuration contradicts itself or the other, or a tensor is missing or of another shape;
    /// left-over ones are found by [`Weights::finish`].
    pub fn load(config: &ClapConfig, features: &FeatureConfig, weights: &Weights) -> Result<Self, LoadError> {
        let (audio, text, shared) = (&config.audio_config, &config.text_config, config.projection_dim);
        if let Some(reason) = config.contradiction().or_else(|| features.contradiction()) {
            return Err(LoadError::Config { path: "CLAP".into(), reason });
        }
        if let Some(reason) = disagreement(audio, features) {
            return Err(LoadError::Config { path: "preprocessor_config.json".into(), reason });
        }
        let [audio_weights, text_weights] = ["audio_model.audio_encoder", "text_model"].map(|name| weights.sub(name));
        let projection =
            |name: &str, from| Projection::load(&weights.sub(name), from, shared, config.projection_hidden_act);
        // That of the text only weighs texts against each other for a given sound, which is never asked here.
        weights.ignore("logit_scale_t");
        Ok(Self {
            front_end: FrontEnd::new(features),
            audio_model: AudioTower::load(audio, features.frames(), &audio_weights)?,
            audio_projection: projection("audio_projection", audio.hidden_size)?,
            text_model: TextTower::load(text, &text_weights)?,
            text_projection: projection("text_projection", text.hidden_size)?,
            logit_scale: f64::from(weights.values("logit_scale_a", &[])?[0]).exp(),
            device: weights.device().clone(),
            config: config.clone(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &ClapConfig {
        &self.config
    }

    /// The front end.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// The tower of audio, with its hook points.
    pub fn audio(&self) -> &AudioTower {
        &self.audio_model
    }

    /// The tower of text, with its hook points.
    pub fn text(&self) -> &TextTower {
        &self.text_model
    }

    /// Width of an embedding.
    pub fn width(&self) -> usize {
        self.config.projection_dim
    }

    /// What a cosine is multiplied with before a softmax over texts.
    pub fn logit_scale(&self) -> f64 {
        self.logit_scale
    }

    /// Spectrograms of clips, and which of them are to be fused.
    ///
    /// # Shapes and units
    /// - `clips`: mono, −1 to 1, at the front end's sample rate
    /// - result: `[clip, channel, frame, band]`, in the device's default float type
    ///
    /// # Panics
    /// If a clip has no sample.
    pub fn spectrograms(&self, clips: &[&[f32]]) -> (Tensor<4>, Vec<bool>) {
        let features: Vec<Features> = clips.iter().map(|clip| self.front_end.features(clip)).collect();
        let config = self.front_end.config();
        let shape = [clips.len(), config.channels(), config.frames(), config.feature_size];
        let mel: Vec<f32> = features.iter().flat_map(|of| of.mel.iter().copied()).collect();
        let data = TensorData::new(mel, shape).convert_dtype(self.device.settings().float_dtype.into());
        (Tensor::from_data(data, &self.device), features.iter().map(|of| of.is_longer).collect())
    }

    /// What the audio tower says, in the space of both, not normalised yet: `[row, hidden_size]` → `[row, width]`.
    pub fn project_audio(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.audio_projection.forward(pooled)
    }

    /// As [`Self::project_audio`], of what the text tower says.
    pub fn project_text(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.text_projection.forward(pooled)
    }

    /// Embeddings of clips: vectors of length 1, as transformers' `get_audio_features` gives them.
    ///
    /// All clips go through the network together. Of one that is longer than the model hears, see [`FrontEnd`].
    ///
    /// # Errors
    /// [`ClapError`] if a clip is empty or not finite, an embedding is not a number, or the device fails.
    pub async fn embed_audio(&self, clips: &[&[f32]]) -> Result<Vec<Vec<f32>>, ClapError> {
        for (clip, samples) in clips.iter().enumerate() {
            if samples.is_empty() {
                return Err(ClapError::Empty { clip });
            }
            if let Some(sample) = samples.iter().position(|sample| !sample.is_finite()) {
                return Err(ClapError::NotFinite { clip, sample });
            }
        }
        finite(self.audio_vectors(clips).await?)
    }

    /// Embeddings of texts, as [`Self::embed_audio`].
    ///
    /// # Errors
    /// [`ClapError`] if a text has no tokens, an embedding is not a number, or the device fails.
    pub async fn embed_text(&self, texts: &[TokenIds]) -> Result<Vec<Vec<f32>>, ClapError> {
        if let Some(text) = texts.iter().position(Vec::is_empty) {
            return Err(ClapError::NoText { text });
        }
        finite(self.text_vectors(texts).await?)
    }

    async fn audio_vectors(&self, clips: &[&[f32]]) -> Result<Vec<Vec<f32>>, ClapError> {
        if clips.is_empty() {
            return Ok(vec![]);
        }
        let (mel, is_longer) = self.spectrograms(clips);
        let pooled = self.audio_model.forward(&mut Hooks::none(), mel, &is_longer);
        unit_vectors(self.project_audio(pooled)).await
    }

    async fn text_vectors(&self, texts: &[TokenIds]) -> Result<Vec<Vec<f32>>, ClapError> {
        if texts.is_empty() {
            return Ok(vec![]);
        }
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = longest.next_multiple_of(TOKEN_BLOCK).min(self.config.text_config.most_tokens());
        let states = self.text_model.forward(&mut Hooks::none(), texts, tokens);
        unit_vectors(self.project_text(states.pooled)).await
    }
}

/// Where the front end does not make what the audio tower takes.
fn disagreement(audio: &ClapAudioConfig, features: &FeatureConfig) -> Option<String> {
    if features.feature_size != audio.num_mel_bins {
        return Some(format!(
            "`feature_size` is {}, the model takes {} bands",
            features.feature_size, audio.num_mel_bins
        ));
    }
    if features.frames() > audio.frames() {
        return Some(format!("a clip has {} frames, the model takes at most {}", features.frames(), audio.frames()));
    }
    let fuses = features.truncation == Truncation::Fusion;
    (fuses != audio.enable_fusion).then(|| {
        let [makes, takes] = [fuses, audio.enable_fusion].map(|fuses| if fuses { "four spectrograms" } else { "one" });
        format!("`truncation` makes {makes} of a clip, the model takes {takes}")
    })
}

/// Rows of length 1; a row of zeros stays one. The lengths are taken in 64 bit.
async fn unit_vectors(rows: Tensor<2>) -> Result<Vec<Vec<f32>>, ClapError> {
    let width = rows.dims()[1];
    let data = rows.cast(DType::F32).into_data_async().await.map_err(ClapError::Device)?;
    let values: Vec<f32> = data.try_to_vec().expect("the tensor was cast to 32 bit");
    let unit = |row: &[f32]| {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|&value| (f64::from(value) / length) as f32).collect()
    };
    Ok(values.chunks(width).map(unit).collect())
}

fn finite(rows: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, ClapError> {
    match rows.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        Some(input) => Err(ClapError::Overflow { input }),
        None => Ok(rows),
    }
}
