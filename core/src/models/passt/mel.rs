//! Log-mel spectrogram of `PaSST`, on the host in 64 bit.
//!
//! Reference: `AugmentMelSTFT`, hear21passt 0.0.26, models/preprocess.py (Apache-2.0), in evaluation mode; filter banks of
//! torchaudio 2.11.0, compliance/kaldi.py (BSD-2-Clause). Differs: in 64 bit. Between a loud and an empty band the
//! reference's 32-bit transform is uncertain by up to 2e-5 of the largest value; in 64 bit the two agree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    audio::{Banks, ShortTime},
    checkpoint::ranges,
};

/// What the sample before is multiplied with and subtracted.
const PREEMPHASIS: f64 = 0.97;
/// Added to the power before the logarithm.
const FLOOR: f64 = 1e-5;

/// Shape of a [`MelFrontEnd`]; fields are named as the arguments of `AugmentMelSTFT`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MelConfig {
    /// Mel bands.
    #[serde(deserialize_with = "ranges::ratio")]
    pub n_mels: usize,
    /// Sample rate, Hz.
    #[serde(deserialize_with = "ranges::rate")]
    pub sr: usize,
    /// Samples under the window.
    #[serde(deserialize_with = "ranges::window")]
    pub win_length: usize,
    /// Samples between frames.
    #[serde(deserialize_with = "ranges::window")]
    pub hopsize: usize,
    /// Samples of a frame, the window in their middle; even.
    #[serde(deserialize_with = "ranges::window")]
    pub n_fft: usize,
    /// Lower edge of the first band, Hz.
    #[serde(deserialize_with = "ranges::frequency")]
    pub fmin: f64,
    /// Upper edge of the last band, Hz.
    #[serde(deserialize_with = "ranges::frequency")]
    pub fmax: f64,
}

impl MelConfig {
    /// What every published `PaSST` takes, with `n_mels` bands. `fmax` is what its training leaves without augmentation:
    /// `sr / 2 − 2000 / 2`.
    pub fn passt(n_mels: usize) -> Self {
        Self { n_mels, sr: 32_000, win_length: 800, hopsize: 320, n_fft: 1024, fmin: 0.0, fmax: 15_000.0 }
    }

    /// What contradicts itself, if anything.
    pub(super) fn contradiction(&self) -> Option<String> {
        let Self { n_mels, sr, win_length: window, hopsize, n_fft, fmin, fmax } = *self;
        if n_mels == 0 || sr == 0 || hopsize == 0 {
            return Some(format!("`n_mels` is {n_mels}, `sr` {sr} and `hopsize` {hopsize}, expected 1 or more"));
        }
        if n_fft < 4 || n_fft % 2 == 1 {
            return Some(format!("`n_fft` is {n_fft}, expected an even number from 4"));
        }
        if window < 2 || window > n_fft {
            return Some(format!("`win_length` is {window}, expected 2 to `n_fft`, which is {n_fft}"));
        }
        let half = sr as f64 / 2.0;
        let in_order = fmin >= 0.0 && fmin < fmax && fmax <= half;
        (!in_order).then(|| format!("bands from {fmin} to {fmax} Hz, expected within 0 to {half} Hz"))
    }

    /// Frames of a clip of `samples` samples, at least [`Self::least_samples`].
    pub fn frames(&self, samples: usize) -> usize {
        samples.saturating_sub(1) / self.hopsize + 1
    }

    /// Samples of the shortest clip whose ends can be reflected.
    pub fn least_samples(&self) -> usize {
        self.n_fft / 2 + 2
    }
}

/// `(ln(banks · |STFT(x[n+1] − 0.97 x[n])|² + 1e-5) + 4.5) / 5`
#[derive(Clone)]
pub struct MelFrontEnd {
    config: MelConfig,
    spectra: ShortTime,
    banks: Banks,
}

impl MelFrontEnd {
    /// Prepares window, filter banks and transform.
    pub fn new(config: &MelConfig) -> Self {
        let last = (config.win_length - 1) as f64;
        // Symmetric Hann.
        let window = (0..config.win_length).map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / last).cos());
        Self {
            config: config.clone(),
            spectra: ShortTime::new(config.n_fft, config.hopsize, window.collect()),
            banks: kaldi_banks(config),
        }
    }

    /// Shape of this front end.
    pub fn config(&self) -> &MelConfig {
        &self.config
    }

    /// Normalised log-mel spectrogram; centred and reflect-padded.
    ///
    /// # Shapes and units
    /// - `samples`: mono, −1 to 1, at `config.sr` Hz
    /// - result: `[n_mels, frames]`, row-major, without unit
    ///
    /// # Panics
    /// If there are fewer samples than [`MelConfig::least_samples`].
    pub fn log_mel(&self, samples: &[f32]) -> Vec<f32> {
        assert!(samples.len() >= self.config.least_samples(), "{} samples cannot be reflected", samples.len());
        let sharp: Vec<f64> =
            samples.windows(2).map(|pair| f64::from(pair[1]) - PREEMPHASIS * f64::from(pair[0])).collect();
        let frames = self.config.frames(samples.len());
        let mut log_mel = vec![0.0; self.config.n_mels * frames];
        let mut power = vec![0.0; self.config.n_fft / 2];
        self.spectra.each(&sharp, &mut |t, bins| {
            power.iter_mut().zip(bins).for_each(|(power, bin)| *power = bin.norm_sqr());
            for (band, through) in self.banks.apply(&power).enumerate() {
                log_mel[band * frames + t] = (((through + FLOOR).ln() + 4.5) / 5.0) as f32;
            }
        });
        log_mel
    }
}

impl fmt::Debug for MelFrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MelFrontEnd").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Triangles whose sides are straight on Kaldi's mel scale; no weight at the Nyquist frequency.
fn kaldi_banks(config: &MelConfig) -> Banks {
    let mel = |hertz: f64| 1127.0 * (1.0 + hertz / 700.0).ln();
    let low = mel(config.fmin);
    let step = (mel(config.fmax) - low) / (config.n_mels + 1) as f64;
    let bin_width = config.sr as f64 / config.n_fft as f64;
    let weight = |band: usize, bin: usize| {
        let (left, centre, right) =
            (low + band as f64 * step, low + (band + 1) as f64 * step, low + (band + 2) as f64 * step);
        let here = mel(bin_width * bin as f64);
        ((here - left) / (centre - left)).min((right - here) / (right - centre)).max(0.0)
    };
    Banks::new(config.n_mels, config.n_fft / 2, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_floor() {
        let front_end = MelFrontEnd::new(&MelConfig::passt(128));
        let mel = front_end.log_mel(&vec![0.0; 6400]);
        assert_eq!(mel.len(), 128 * 20);
        let floor = ((1e-5f64.ln() + 4.5) / 5.0) as f32;
        assert!(mel.iter().all(|value| (value - floor).abs() < 1e-6));
    }
}
