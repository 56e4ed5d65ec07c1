//! Shape of a MusicGen, as its `config.json` and `generation_config.json` state it.

use serde::{Deserialize, Serialize};

use crate::models::{encodec::EncodecConfig, t5::T5Config};

/// Shape of a [`MusicGen`](super::MusicGen); fields are named as in the checkpoint's `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MusicgenConfig {
    /// Must be `musicgen`.
    pub model_type: String,
    /// The text encoder.
    pub text_encoder: T5Config,
    /// The audio codec.
    pub audio_encoder: EncodecConfig,
    /// The decoder.
    pub decoder: DecoderConfig,
}

/// Shape of a [`Decoder`](super::Decoder).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Tokens that each codebook's head can choose; the embeddings have one more, for padding.
    pub vocab_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width of the MLP.
    pub ffn_dim: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Non-linearity of the MLP.
    pub activation_function: DecoderActivation,
    /// Whether embeddings are multiplied by the root of the width.
    pub scale_embedding: bool,
    /// Codebooks; in stereo left and right alternate.
    pub num_codebooks: usize,
    /// 1 mono, 2 stereo.
    #[serde(default = "mono")]
    pub audio_channels: usize,
    /// Token that fills the delay pattern and begins every sequence.
    pub pad_token_id: u32,
}

/// What configurations from before stereo leave out.
fn mono() -> usize {
    1
}

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderActivation {
    /// With the error function, not its approximation.
    Gelu,
    /// `max(x, 0)`
    Relu,
}

impl DecoderConfig {
    /// Width of one head.
    pub fn d_head(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Checks what the fields owe to each other.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.num_attention_heads == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !matches!(self.audio_channels, 1 | 2) || !self.num_codebooks.is_multiple_of(self.audio_channels) {
            return Err(format!(
                "`num_codebooks` {} for `audio_channels` {}: expected 1 or 2 channels with equally many codebooks",
                self.num_codebooks, self.audio_channels
            ));
        }
        if self.pad_token_id as usize != self.vocab_size {
            return Err(format!(
                "`pad_token_id` {} is not `vocab_size` {}, the one row that the heads cannot choose",
                self.pad_token_id, self.vocab_size
            ));
        }
        Ok(())
    }
}

/// What the checkpoint's `generation_config.json` says about generating, where it is silent audiocraft's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// Weight of the prompt; 1: no guidance.
    pub guidance_scale: f64,
    /// Candidates that are kept when sampling.
    pub top_k: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// Length of the music that the model was trained on, seconds; not known of published checkpoints, which do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_seconds: Option<f64>,
}

impl Default for GenerationConfig {
    /// Defaults of audiocraft 1.3.0, models/musicgen.py, `set_generation_params`.
    fn default() -> Self {
        Self { guidance_scale: 3.0, top_k: 250, temperature: 1.0, trained_seconds: None }
    }
}
