//! Between codes and sound on the host.

use burn::tensor::{Int, Tensor, TensorData};

use super::MusicGen;
use crate::{
    audio::Waveform,
    models::encodec::{AudioStream, SoundError, waveforms},
};

/// Pieces whose audio is decoded together: bounds the memory.
const DECODED_TOGETHER: usize = 8;

impl MusicGen {
    /// Sound of one piece, `[codebook][frame]`.
    ///
    /// # Errors
    /// [`SoundError`].
    ///
    /// # Panics
    /// If there are no frames, or not the model's number of codebooks.
    pub async fn sound(&self, codes: &[Vec<u32>]) -> Result<Waveform, SoundError> {
        let mut waves = self.sounds(&[codes.to_vec()]).await?;
        Ok(waves.remove(0))
    }

    /// Sound of several pieces of one length, `[piece][codebook][frame]`.
    ///
    /// # Errors
    /// [`SoundError`].
    ///
    /// # Panics
    /// As [`Self::sound`], and if the pieces differ in length.
    pub async fn sounds(&self, codes: &[Vec<Vec<u32>>]) -> Result<Vec<Waveform>, SoundError> {
        let mut waves = Vec::with_capacity(codes.len());
        for batch in codes.chunks(DECODED_TOGETHER) {
            waves.extend(self.waveforms(self.decode_audio(batch)).await?);
        }
        Ok(waves)
    }

    /// Audio of the codec, read back from the device.
    ///
    /// # Shapes
    /// - `audio`: `[piece, channel, sample]`, at the codec's sample rate
    ///
    /// # Errors
    /// [`SoundError`].
    pub async fn waveforms(&self, audio: Tensor<3>) -> Result<Vec<Waveform>, SoundError> {
        waveforms(audio, self.config().audio_encoder.sampling_rate).await
    }

    /// Codes of a recording `[codebook][frame]`, after it was brought to the model's rate and channels.
    ///
    /// # Errors
    /// [`SoundError`].
    pub async fn encode_recording(&self, recording: Waveform) -> Result<Vec<Vec<u32>>, SoundError> {
        let channels = self.config().decoder.audio_channels;
        self.audio_encoder().encode_recording(recording, channels, &self.device()).await
    }
}

/// Sound of a batch while its codes are written: [`AudioStream`] with a buffer before it and the host behind it.
#[derive(Debug)]
pub struct SoundStream<'a> {
    model: &'a MusicGen,
    stream: AudioStream<'a>,
    /// Frames that are not decoded yet, `[frame][sequence][codebook]`.
    waiting: Vec<Vec<Vec<u32>>>,
    /// Frames still to come.
    left: usize,
    /// Frames that are decoded together.
    at_once: usize,
}

impl<'a> SoundStream<'a> {
    /// For `frames` frames in all, decoded `at_once` at a time.
    pub fn new(model: &'a MusicGen, frames: usize, at_once: usize) -> Self {
        Self { model, stream: model.audio_stream(frames), waiting: vec![], left: frames, at_once: at_once.max(1) }
    }

    /// Takes the next frame, by sequence a token of every codebook. By sequence, the samples that are certain now and were
    /// not given out before; nothing while there are none.
    ///
    /// # Errors
    /// [`SoundError`].
    ///
    /// # Panics
    /// If more frames come than were announced, or the number of sequences changes.
    pub async fn push(&mut self, frame: Vec<Vec<u32>>) -> Result<Vec<Waveform>, SoundError> {
        self.waiting.push(frame);
        self.left = self.left.checked_sub(1).expect("no more frames than were announced");
        if self.left > 0 && self.waiting.len() < self.at_once {
            return Ok(vec![]);
        }
        let frames = std::mem::take(&mut self.waiting);
        let [sequences, codebooks] = [frames[0].len(), frames[0][0].len()];
        let token =
            |sequence: usize, codebook: usize| frames.iter().map(move |frame| i64::from(frame[sequence][codebook]));
        let rows = (0..sequences).flat_map(|sequence| (0..codebooks).map(move |codebook| (sequence, codebook)));
        let flat: Vec<i64> = rows.flat_map(|(sequence, codebook)| token(sequence, codebook)).collect();
        let codes = TensorData::new(flat, [sequences, codebooks, frames.len()]);
        match self.stream.push(Tensor::<3, Int>::from_data(codes, &self.model.device())) {
            Some(audio) => self.model.waveforms(audio).await,
            None => Ok(vec![]),
        }
    }
}
