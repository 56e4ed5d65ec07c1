//! Codecs alone: EnCodec between sound and codes, Oobleck between sound and latents.

use std::sync::Arc;

use burn::tensor::{self, DType, Tensor, TensorData};
use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::models::{encodec, oobleck};

use crate::{
    Audio, Error, MusicGen, Result, StableAudio,
    load::{Builder, Found, Origin, Pretrained, Search},
};

/// Latent frames that are coded in one piece: bounds the memory, changes no sample.
const TILE: usize = 128;

/// The EnCodec of a MusicGen checkpoint on a device, without the rest of the model. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let codec = Encodec::from_pretrained("musicgen-nano")?;
/// let tone = (0..16_000).map(|sample| (sample as f32 * 0.05).sin() * 0.5).collect();
/// let codes = codec.encode(&Audio::new(vec![tone], 32_000)?)?;
/// assert_eq!((codes.len(), codes[0].len()), (4, 25)); // [codebook][frame], 50 frames per second
/// assert_eq!(codec.decode(&codes)?.samples().len(), 16_000);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Encodec {
    shared: Arc<Shared<encodec::Encodec>>,
    channels: usize,
}

/// The Oobleck autoencoder of a Stable Audio checkpoint on a device, without the rest of the model. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let codec = Oobleck::from_pretrained("stable-audio-nano")?;
/// let tone: Vec<f32> = (0..44_100).map(|sample| (sample as f32 * 0.05).sin() * 0.5).collect();
/// let latents = codec.encode(&Audio::new(vec![tone], 44_100)?)?;
/// let audio = codec.decode(&latents)?;
/// assert_eq!(audio.sample_rate(), codec.sample_rate());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Oobleck {
    shared: Arc<Shared<oobleck::Oobleck>>,
}

#[derive(Debug)]
struct Shared<M> {
    model: M,
    device: tensor::Device,
    info: DeviceInfo,
    origin: Origin,
}

impl Pretrained for Encodec {
    type Parts = <MusicGen as Pretrained>::Parts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let Found { parts, origin } = MusicGen::find(search)?;
        Ok(Found { parts, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts, origin } = found;
        let channels = parts.files.config.decoder.audio_channels;
        let model = parts.files.load_audio_encoder(opened.placement.clone())?;
        let (device, info) = (opened.placement.device.clone(), opened.info.clone());
        Ok(Self { shared: Arc::new(Shared { model, device, info, origin }), channels })
    }
}

impl Pretrained for Oobleck {
    type Parts = <StableAudio as Pretrained>::Parts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let Found { parts, origin } = StableAudio::find(search)?;
        Ok(Found { parts, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts, origin } = found;
        let model = parts.files.load_vae(opened.placement.clone())?;
        let (device, info) = (opened.placement.device.clone(), opened.info.clone());
        Ok(Self { shared: Arc::new(Shared { model, device, info, origin }) })
    }
}

impl Encodec {
    /// The codec of the MusicGen `name`: see [`MusicGen::from_pretrained`].
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// A codec that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// Codes of a recording `[codebook][frame]`, after it was brought to the codec's rate and channels.
    ///
    /// # Errors
    /// [`Error::Sound`] if that cannot be done, or the device fails.
    pub fn encode(&self, recording: &Audio) -> Result<Vec<Vec<u32>>> {
        pollster::block_on(self.encode_async(recording))
    }

    /// [`Self::encode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn encode_async(&self, recording: &Audio) -> Result<Vec<Vec<u32>>> {
        let Shared { model, device, .. } = &*self.shared;
        Ok(model.encode_recording(recording.waveform().clone(), self.channels, device).await?)
    }

    /// Sound of codes, `[codebook][frame]`; fewer codebooks than the codec has are a coarser version of the same sound.
    ///
    /// # Errors
    /// [`Error::Request`] if they are not of this codec, [`Error::Sound`] if the device fails.
    pub fn decode(&self, codes: &[Vec<u32>]) -> Result<Audio> {
        pollster::block_on(self.decode_async(codes))
    }

    /// [`Self::decode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub async fn decode_async(&self, codes: &[Vec<u32>]) -> Result<Audio> {
        let Shared { model, device, .. } = &*self.shared;
        let frames = codes.first().map_or(0, Vec::len);
        let most = model.config().encoded_quantizers() * self.channels;
        let even = codes.iter().all(|row| row.len() == frames) && codes.len().is_multiple_of(self.channels);
        let known = codes.iter().flatten().all(|&code| (code as usize) < model.config().codebook_size);
        if frames == 0 || codes.len() > most || !even || !known {
            let what = format!("these codes are not of this codec, which has {most} codebooks");
            return Err(Error::request(what, "pass `[codebook][frame]`, all codebooks of one length"));
        }
        Ok(model.sound(codes, self.channels, device).await?.into())
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.shared.model.config().sampling_rate
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle.
    pub fn core(&self) -> &encodec::Encodec {
        &self.shared.model
    }
}

impl Oobleck {
    /// The autoencoder of the Stable Audio `name`: see [`StableAudio::from_pretrained`].
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// An autoencoder that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// Mean of the latents of a recording, `[1, channel, length]`, after it was brought to the model's rate and channels.
    ///
    /// # Errors
    /// [`Error::Request`] if the recording is shorter than one latent, [`Error::Audio`] if it does not fit the model.
    pub fn encode(&self, recording: &Audio) -> Result<Tensor<3>> {
        let Shared { model, device, .. } = &*self.shared;
        let config = model.config();
        let wave = recording.waveform().clone().with_channels(config.audio_channels)?.resample(config.sampling_rate)?;
        let [channels, samples] = [config.audio_channels, wave.samples()];
        if samples < model.hop() {
            let what = format!("{samples} samples are fewer than the {} of one latent", model.hop());
            return Err(Error::request(what, "pass a longer recording"));
        }
        let flat: Vec<f32> = wave.channels().iter().flatten().copied().collect();
        let float: DType = device.settings().float_dtype.into();
        let data = TensorData::new(flat, [1, channels, samples]).convert_dtype(float);
        Ok(model.encode_tiled(Tensor::from_data(data, device), TILE).mean)
    }

    /// Sound of latents, `[1, channel, length]`.
    ///
    /// # Errors
    /// [`Error::Request`] if they are not of this model, [`Error::Execution`] if the device fails.
    pub fn decode(&self, latents: &Tensor<3>) -> Result<Audio> {
        pollster::block_on(self.decode_async(latents))
    }

    /// [`Self::decode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub async fn decode_async(&self, latents: &Tensor<3>) -> Result<Audio> {
        let config = self.shared.model.config();
        let ([rows, channels, length], expected) = (latents.dims(), config.decoder_input_channels);
        if rows != 1 || channels != expected || length == 0 {
            let what = format!("latents of shape [{rows}, {channels}, {length}], expected [1, {expected}, length]");
            return Err(Error::request(what, "pass the latents of one recording"));
        }
        let audio = self.shared.model.decode_tiled(latents.clone(), TILE);
        let samples = audio.dims()[2];
        let flat = crate::values_async(&audio).await?;
        Audio::new(flat.chunks(samples).map(<[f32]>::to_vec).collect(), config.sampling_rate)
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.shared.model.config().sampling_rate
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle.
    pub fn core(&self) -> &oobleck::Oobleck {
        &self.shared.model
    }
}
