//! Between codes and sound on the host.

use burn::tensor::{DType, Device, ExecutionError, Int, Tensor, TensorData};

use super::Encodec;
use crate::{
    audio::{AudioError, Waveform},
    hooks::read_floats,
};

/// Frames that are decoded in one piece: bounds the memory.
const DECODED_AT_ONCE: usize = 500;

/// Codes that cannot become sound, or a recording that cannot become codes.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The decoded samples are no sound, such as NaN.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The recording does not fit the model.
    #[error("cannot bring the recording to the model's rate and channels")]
    Recording(#[source] AudioError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] ExecutionError),
}

impl Encodec {
    /// Codes of a recording `[codebook][frame]`, after it was brought to the codec's rate and to `channels` channels, each
    /// encoded on its own.
    ///
    /// # Errors
    /// [`SoundError`].
    pub async fn encode_recording(
        &self,
        recording: Waveform,
        channels: usize,
        device: &Device,
    ) -> Result<Vec<Vec<u32>>, SoundError> {
        let recording = recording
            .with_channels(channels)
            .and_then(|recording| recording.resample(self.config.sampling_rate))
            .map_err(SoundError::Recording)?;
        let samples = recording.samples();
        let flat: Vec<f32> = recording.channels().iter().flatten().copied().collect();
        let float: DType = device.settings().float_dtype.into();
        let wave = Tensor::<3>::from_data(TensorData::new(flat, [1, channels, samples]).convert_dtype(float), device);
        let codes = self.encode_channels(wave);
        let [_, codebooks, frames] = codes.dims();
        let data = codes.into_data_async().await?.convert_dtype(DType::I64);
        let unread = |error| ExecutionError::WithContext { reason: format!("codes were not read back: {error}") };
        let codes: Vec<i64> = data.try_to_vec().map_err(unread)?;
        let row = |codebook: usize| codes[codebook * frames..(codebook + 1) * frames].iter().map(|&code| code as u32);
        Ok((0..codebooks).map(|codebook| row(codebook).collect()).collect())
    }

    /// Sound of codes `[codebook][frame]`, of which every `channels`-th codebook belongs to the same channel.
    ///
    /// # Errors
    /// [`SoundError`].
    ///
    /// # Panics
    /// As [`Self::decode_channels`].
    pub async fn sound(&self, codes: &[Vec<u32>], channels: usize, device: &Device) -> Result<Waveform, SoundError> {
        let shape = [1, codes.len(), codes[0].len()];
        let flat: Vec<i64> = codes.iter().flatten().map(|&code| i64::from(code)).collect();
        let codes = Tensor::<3, Int>::from_data(TensorData::new(flat, shape), device);
        let audio = self.decode_channels(codes, channels, DECODED_AT_ONCE);
        Ok(waveforms(audio, self.config.sampling_rate).await?.remove(0))
    }
}

/// Audio `[piece, channel, sample]`, read back from the device.
pub(crate) async fn waveforms(audio: Tensor<3>, sample_rate: u32) -> Result<Vec<Waveform>, SoundError> {
    let [_, channels, samples] = audio.dims();
    let flat = read_floats(audio).await?;
    let split = |piece: &[f32]| piece.chunks(samples).map(<[f32]>::to_vec).collect();
    flat.chunks(channels * samples).map(split).map(|piece| Ok(Waveform::new(piece, sample_rate)?)).collect()
}
