//! Recordings of any kind as the classifier takes them, and many of them.

use std::ops::ControlFlow;

use super::{Classified, Passt, PasstConfig, PasstError};
use crate::audio::{AudioError, Waveform};

/// Clips of about one length that go through the network together.
const CLIPS_AT_ONCE: usize = 16;

/// A recording that cannot be classified.
#[derive(Debug, thiserror::Error)]
pub enum UnheardError {
    /// The recording cannot be resampled.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// Less sound than one patch needs.
    #[error("{ms:.0} ms of audio are too little for PaSST, which needs {least_ms} ms")]
    TooShort {
        /// Length of the recording in ms.
        ms: f64,
        /// Length that is needed in ms.
        least_ms: usize,
    },
    /// A rate that no sound has.
    #[error("the sample rate of the classifier is {0}")]
    Rate(usize),
}

impl PasstConfig {
    /// A recording as the network takes it: mono (the mean of all channels), at its sample rate.
    ///
    /// # Errors
    /// [`UnheardError`].
    pub fn as_heard(&self, wave: Waveform) -> Result<Vec<f32>, UnheardError> {
        let rate = u32::try_from(self.mel.sr).map_err(|_| UnheardError::Rate(self.mel.sr))?;
        let wave = wave.to_mono().resample(rate)?;
        let least = self.least_samples();
        if wave.samples() < least {
            let (ms, least_ms) = (wave.seconds() * 1000.0, (least * 1000).div_ceil(self.mel.sr));
            return Err(UnheardError::TooShort { ms, least_ms });
        }
        Ok(wave.channels()[0].clone())
    }
}

impl Passt {
    /// Classifies clips that [`PasstConfig::as_heard`] has made; those of about one length go through the network together.
    ///
    /// `watch` is told how many are done; if it stops the work there is no result.
    ///
    /// # Errors
    /// [`PasstError`] if a clip is too short or not finite, or the device fails.
    pub async fn classify_watched(
        &self,
        clips: &[Vec<f32>],
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Classified>>, PasstError> {
        let mut order: Vec<usize> = (0..clips.len()).collect();
        order.sort_by_key(|clip| clips[*clip].len());
        let mut classified: Vec<Option<Classified>> = vec![None; clips.len()];
        for (batch, indices) in order.chunks(CLIPS_AT_ONCE).enumerate() {
            let batched: Vec<&[f32]> = indices.iter().map(|clip| clips[*clip].as_slice()).collect();
            for (clip, said) in indices.iter().zip(self.classify(&batched).await?) {
                classified[*clip] = Some(said);
            }
            if watch(batch * CLIPS_AT_ONCE + indices.len()).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(classified.into_iter().flatten().collect()))
    }
}
