//! MusicGen: text encoder, decoder over delayed codes, and audio codec, as one model.

#[cfg(not(target_arch = "wasm32"))]
mod audiocraft;
mod config;
mod decoder;
mod generate;
mod lanes;
#[cfg(not(target_arch = "wasm32"))]
mod load;
mod pattern;
mod sampling;
mod settings;
mod sound;
mod state;
mod window;
#[cfg(not(target_arch = "wasm32"))]
mod xp_config;

use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor, TensorData},
};

pub use config::{DecoderActivation, DecoderConfig, GenerationConfig, MusicgenConfig};
pub use decoder::{Columns, Decoder};
pub use generate::{Generate, GenerateError, Generation, Progress, Prompt, Sequence, Step, Tie, Window};
pub use lanes::{Lane, RowSharing};
#[cfg(not(target_arch = "wasm32"))]
pub use load::{Beside, Layout, MusicgenFiles};
pub use pattern::DelayPattern;
pub use sampling::{Choice, Sampling, SequenceKey};
pub use settings::{MAX_SECONDS, SettingError};
pub use sound::SoundStream;
pub use state::{DecoderState, Text};
pub(crate) use window::guided;

use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{Component, HookPoint, Hooks},
    models::{
        encodec::{AudioStream, Encodec},
        t5::{T5Encoder, TokenIds},
    },
    nn::{Linear, as_type},
};

/// Prompts are padded to a multiple of this many tokens: sums over tokens then group alike whatever else is in the
/// batch, so that a prompt's numbers do not depend on its neighbours.
const TOKEN_BLOCK: usize = 16;

/// Frames that the codec decodes in one piece: bounds the memory, changes no sample beyond rounding.
const DECODED_AT_ONCE: usize = 500;

/// Text in, codes and audio out.
#[derive(Module, Debug)]
pub struct MusicGen {
    text_encoder: T5Encoder,
    /// From the width of the text to that of the decoder; `None` if they are the same.
    enc_to_dec_proj: Option<Linear>,
    decoder: Decoder,
    audio_encoder: Encodec,
    #[module(skip)]
    config: MusicgenConfig,
}

impl MusicGen {
    /// Takes its tensors from `weights` under the names of transformers.
    ///
    /// # Errors
    /// [`LoadError`] if the configuration contradicts itself, or a tensor is missing or of another shape; left-over
    /// ones are found by [`Weights::finish`].
    pub fn load(config: &MusicgenConfig, weights: &Weights) -> Result<Self, LoadError> {
        config.check().map_err(|reason| LoadError::Config { path: "config.json".into(), reason })?;
        let [text, width] = [config.text_encoder.d_model, config.decoder.hidden_size];
        let projection = weights.sub("enc_to_dec_proj");
        Ok(Self {
            text_encoder: T5Encoder::load(&config.text_encoder, &weights.sub("text_encoder"))?,
            enc_to_dec_proj: if text == width {
                None
            } else {
                Some(Linear::load(&projection.wide(), text, width, true)?)
            },
            decoder: Decoder::load(&config.decoder, &weights.sub("decoder"))?,
            audio_encoder: Encodec::load(&config.audio_encoder, &weights.sub("audio_encoder"))?,
            config: config.clone(),
        })
    }

    /// Shape of this model.
    pub fn config(&self) -> &MusicgenConfig {
        &self.config
    }

    /// The text encoder.
    pub fn text_encoder(&self) -> &T5Encoder {
        &self.text_encoder
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The audio codec.
    pub fn audio_encoder(&self) -> &Encodec {
        &self.audio_encoder
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// Every hook point, those of the text encoder first.
    pub fn points(&self) -> Vec<HookPoint> {
        points(&self.config)
    }

    /// Frames of codes per second.
    pub fn frame_rate(&self) -> usize {
        self.config.audio_encoder.frame_rate()
    }

    /// Encodes token ids for the decoder's cross-attention. An empty list of ids is no text: all of it is masked.
    ///
    /// # Shapes
    /// - result: states `[sequence, token, width]`
    pub fn encode_text(&self, hooks: &mut Hooks, prompts: &[TokenIds]) -> Text {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let tokens = longest.next_multiple_of(TOKEN_BLOCK);
        let pad = self.config.text_encoder.pad_token_id;
        let mut ids = Vec::with_capacity(prompts.len() * tokens);
        let mut mask = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            ids.extend(prompt.iter().copied().chain(std::iter::repeat(pad)).take(tokens).map(i64::from));
            mask.push((0..tokens).map(|token| token < prompt.len()).collect::<Vec<bool>>());
        }
        let device = self.device();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [prompts.len(), tokens]), &device);
        self.encode_ids(hooks, ids, mask)
    }

    /// As [`Self::encode_text`], of ids that are padded already.
    pub fn encode_ids(&self, hooks: &mut Hooks, ids: Tensor<2, Int>, mask: Vec<Vec<bool>>) -> Text {
        let shape = ids.dims();
        let flat: Vec<i64> = mask.iter().flatten().map(|&is_token| i64::from(is_token)).collect();
        let visible = Tensor::<2, Int>::from_data(TensorData::new(flat, shape), &self.device());
        let states = self.text_encoder.forward(hooks, ids, visible.clone());
        let states = match &self.enc_to_dec_proj {
            Some(projection) => projection.forward(states),
            None => states,
        };
        let dtype: DType = states.dtype();
        let states = states * visible.float().cast(dtype).unsqueeze_dim::<3>(2);
        Text { states: as_type(states, self.decoder.dtype()), mask }
    }

    /// Sequences of a batch, one for each of `prompts`, and their text: what [`Self::generate`] begins with.
    ///
    /// # Shapes
    /// - text: see [`Self::encode_text`]
    pub fn sequences(&self, hooks: &mut Hooks, prompts: &[Prompt]) -> (Text, Vec<Sequence>) {
        let ids: Vec<TokenIds> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let text = self.encode_text(hooks, &ids);
        let layers = self.config.decoder.num_hidden_layers;
        let sequence = |(index, prompt): (usize, &Prompt)| Sequence {
            lane: RowSharing::alone(index, layers),
            key: prompt.key.clone(),
            start: prompt.start.clone(),
        };
        (text, prompts.iter().enumerate().map(sequence).collect())
    }

    /// Audio of codes that are still being written, `frames` in all, see [`AudioStream`].
    pub fn audio_stream(&self, frames: usize) -> AudioStream<'_> {
        AudioStream::new(&self.audio_encoder, self.config.decoder.audio_channels, frames)
    }

    /// Audio of whole codes.
    ///
    /// # Shapes
    /// - `codes`: `[sequence][codebook][frame]`, all of one length
    /// - result: `[sequence, channel, sample]`, at the codec's sample rate
    pub fn decode_audio(&self, codes: &[Vec<Vec<u32>>]) -> Tensor<3> {
        let [codebooks, frames] = [self.config.decoder.num_codebooks, codes[0][0].len()];
        let flat: Vec<i64> = codes.iter().flatten().flatten().map(|&code| i64::from(code)).collect();
        let codes = TensorData::new(flat, [codes.len(), codebooks, frames]);
        let codes = Tensor::<3, Int>::from_data(codes, &self.device());
        self.audio_encoder.decode_channels(codes, self.config.decoder.audio_channels, DECODED_AT_ONCE)
    }
}

/// Every hook point of a model of this shape, those of the text encoder first, in the order of the computation.
pub fn points(config: &MusicgenConfig) -> Vec<HookPoint> {
    let encoder = HookPoint::all(Component::ENCODER, config.text_encoder.num_layers);
    let decoder = HookPoint::all(Component::DECODER, config.decoder.num_hidden_layers);
    encoder.into_iter().chain(decoder).collect()
}
