//! EnCodec: audio to codes and back.
//!
//! Reference: `EncodecModel`, transformers 5.23.0, `models/encodec/modeling_encodec.py` (Apache-2.0), as the 32 kHz
//! model of MusicGen uses it.
//! Differs: weight norm is folded when loading; time comes before channels inside; no causal convolutions, no
//! convolution in the skip, no normalisation by loudness, no encoding in windows: a configuration that asks for one is
//! refused.

mod config;
mod lstm;
mod quantizer;
mod seanet;
mod sound;
mod stream;

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor},
};

pub use config::{EncodecConfig, PadMode};
use quantizer::Quantizer;
use seanet::Seanet;
pub use sound::SoundError;
pub(crate) use sound::waveforms;
pub use stream::AudioStream;

use crate::{
    checkpoint::{LoadError, Weights},
    nn::as_type,
};

/// `codes = quantizer.encode(encoder(wave))`, `wave = decoder(quantizer.decode(codes))`
#[derive(Module, Debug)]
pub struct Encodec {
    encoder: Seanet,
    quantizer: Quantizer,
    decoder: Seanet,
    #[module(skip)]
    config: EncodecConfig,
}

impl Encodec {
    /// Takes its tensors from `weights`; within a MusicGen checkpoint they lie under `audio_encoder`.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape, or if `config` asks for what is not built.
    pub fn load(config: &EncodecConfig, weights: &Weights) -> Result<Self, LoadError> {
        config.check().map_err(|reason| LoadError::Config { path: "config.json".into(), reason })?;
        // Of 16 bits, sound would have the noise of 8 or 11.
        let weights = &weights.wide();
        Ok(Self {
            encoder: Seanet::encoder(config, &weights.sub("encoder"))?,
            quantizer: Quantizer::load(config, &weights.sub("quantizer"))?,
            decoder: Seanet::decoder(config, &weights.sub("decoder"))?,
            config: config.clone(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &EncodecConfig {
        &self.config
    }

    /// Audio of codes.
    ///
    /// # Shapes
    /// - `codes`: `[batch, codebook, frame]`, each below `codebook_size`; fewer codebooks than the model has are a
    ///   coarser version of the same audio
    /// - result: `[batch, channel, frame · hop_length]`
    ///
    /// # Panics
    /// If there are no frames, no codebooks, or more codebooks than the model has.
    pub fn decode(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        self.decoder.forward(self.dequantize(codes)).swap_dims(1, 2)
    }

    /// As [`Self::decode`], with the convolutions computed for `chunk_frames` frames at a time, so that the memory for
    /// long audio stays that of one chunk.
    ///
    /// Every chunk sees all that its samples depend on: the result differs from that of [`Self::decode`] by the
    /// rounding of matrix products of other sizes at most, below `1e-6` of the largest sample.
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn decode_chunked(&self, codes: Tensor<3, Int>, chunk_frames: usize) -> Tensor<3> {
        self.decoder.forward_chunked(self.dequantize(codes), chunk_frames).swap_dims(1, 2)
    }

    /// Audio of codes of which every `channels`-th codebook belongs to the same channel, as in MusicGen's stereo
    /// models: left, right, left, right. Each channel is decoded on its own.
    ///
    /// # Shapes
    /// - `codes`: `[batch, codebook · channels, frame]`; result: `[batch, channels, frame · hop_length]`
    ///
    /// # Panics
    /// As [`Self::decode`]; if the codebooks do not divide by `channels`, or the model itself is not mono.
    pub fn decode_channels(&self, codes: Tensor<3, Int>, channels: usize, chunk_frames: usize) -> Tensor<3> {
        let batch = codes.dims()[0];
        joined(self.decode_chunked(by_channel(codes, channels), chunk_frames), batch, channels)
    }

    /// What each layer of the decoder puts out, the audio last.
    ///
    /// # Shapes
    /// - `codes`: as in [`Self::decode`]; results: `[batch, channel, time]`
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn decode_layers(&self, codes: Tensor<3, Int>) -> Vec<Tensor<3>> {
        layers(&self.decoder, self.dequantize(codes))
    }

    /// The vectors that codes stand for, which the decoder starts from.
    ///
    /// # Shapes
    /// - `codes`: as in [`Self::decode`]; result: `[batch, frame, hidden_size]`
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn dequantize(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        let [_, codebooks, frames] = codes.dims();
        let all = self.quantizer.len();
        assert!(frames > 0, "codes to decode have no frames");
        assert!((1..=all).contains(&codebooks), "codes to decode have {codebooks} codebooks, the model has {all}");
        self.quantizer.decode(codes)
    }

    /// Codes of audio.
    ///
    /// # Shapes
    /// - `wave`: `[batch, channel, sample]`, −1 to 1, at `sampling_rate`
    /// - result: `[batch, codebook, frame]`, `⌈sample / hop_length⌉` frames
    ///
    /// # Panics
    /// If there are no samples, or the channels are not the model's.
    pub fn encode(&self, wave: Tensor<3>) -> Tensor<3, Int> {
        assert!(wave.dims()[2] > 0, "audio to encode has no samples");
        let vectors = self.encode_vectors(wave);
        self.quantizer.encode(vectors, self.config.encoded_quantizers())
    }

    /// Codes of audio whose channels are encoded each on its own; the inverse of [`Self::decode_channels`].
    ///
    /// # Shapes
    /// - `wave`: `[batch, channel, sample]`; result: `[batch, codebook · channel, frame]`, the channel varying fastest
    ///
    /// # Panics
    /// As [`Self::encode`], or if the model itself is not mono.
    pub fn encode_channels(&self, wave: Tensor<3>) -> Tensor<3, Int> {
        let [batch, channels, samples] = wave.dims();
        let codes = self.encode(wave.reshape([batch * channels, 1, samples]));
        let [_, codebooks, frames] = codes.dims();
        let codes = codes.reshape([batch, channels, codebooks, frames]).swap_dims(1, 2);
        codes.reshape([batch, codebooks * channels, frames])
    }

    /// What is quantised, before it is.
    ///
    /// # Shapes
    /// - `wave`: as in [`Self::encode`]; result: `[batch, frame, hidden_size]`
    pub fn encode_vectors(&self, wave: Tensor<3>) -> Tensor<3> {
        self.encoder.forward(as_type(wave, DType::F32).swap_dims(1, 2))
    }

    /// Audio of vectors, such as [`Self::dequantize`] makes.
    ///
    /// # Shapes
    /// - `vectors`: `[batch, frame, hidden_size]`; result: `[batch, channel, frame · hop_length]`
    pub fn decode_vectors(&self, vectors: Tensor<3>) -> Tensor<3> {
        self.decoder.forward(as_type(vectors, DType::F32)).swap_dims(1, 2)
    }

    /// What each layer of the encoder puts out; the last is what is quantised.
    ///
    /// # Shapes
    /// - `wave`: as in [`Self::encode`]; results: `[batch, channel, time]`
    pub fn encode_layers(&self, wave: Tensor<3>) -> Vec<Tensor<3>> {
        layers(&self.encoder, as_type(wave, DType::F32).swap_dims(1, 2))
    }
}

/// Outputs of all layers with the axes in the order of the reference.
fn layers(stack: &Seanet, x: Tensor<3>) -> Vec<Tensor<3>> {
    stack.outputs(x).into_iter().map(|output| output.swap_dims(1, 2)).collect()
}

/// Codes of several channels as those of a larger batch.
fn by_channel(codes: Tensor<3, Int>, channels: usize) -> Tensor<3, Int> {
    if channels == 1 {
        return codes;
    }
    let [batch, codebooks, frames] = codes.dims();
    let codes = codes.reshape([batch, codebooks / channels, channels, frames]).swap_dims(1, 2);
    codes.reshape([batch * channels, codebooks / channels, frames])
}

/// Undoes [`by_channel`] for audio.
fn joined(audio: Tensor<3>, batch: usize, channels: usize) -> Tensor<3> {
    if channels == 1 {
        return audio;
    }
    let samples = audio.dims()[2];
    audio.reshape([batch, channels, samples])
}
