//! Log-mel spectrogram of `PaSST`, on the host in 64 bit.
//!
//! Reference: `AugmentMelSTFT`, hear21passt 0.0.26, models/preprocess.py (Apache-2.0), in evaluation mode; filter banks of
//! torchaudio 2.11.0, compliance/kaldi.py (BSD-2-Clause). Differs: in 64 bit. Between a loud and an empty band the
//! reference's 32-bit transform is uncertain by up to 2e-5 of the largest value; in 64 bit the two agree.

use std::{fmt, sync::Arc};

use rustfft::{Fft, FftPlanner, num_complex::Complex};
use serde::{Deserialize, Serialize};

/// What the sample before is multiplied with and subtracted.
const PREEMPHASIS: f64 = 0.97;
/// Added to the power before the logarithm.
const FLOOR: f64 = 1e-5;

/// Shape of a [`MelFrontEnd`]; fields are named as the arguments of `AugmentMelSTFT`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MelConfig {
    /// Mel bands.
    pub n_mels: usize,
    /// Sample rate, Hz.
    pub sr: usize,
    /// Samples under the window.
    pub win_length: usize,
    /// Samples between frames.
    pub hopsize: usize,
    /// Samples of a frame, the window in their middle; even.
    pub n_fft: usize,
    /// Lower edge of the first band, Hz.
    pub fmin: f64,
    /// Upper edge of the last band, Hz.
    pub fmax: f64,
}

impl MelConfig {
    /// What every published `PaSST` takes, with `n_mels` bands. `fmax` is what its training leaves without augmentation:
    /// `sr / 2 − 2000 / 2`.
    pub fn passt(n_mels: usize) -> Self {
        Self { n_mels, sr: 32_000, win_length: 800, hopsize: 320, n_fft: 1024, fmin: 0.0, fmax: 15_000.0 }
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
    /// Symmetric Hann.
    window: Vec<f64>,
    /// Of every band, its first frequency bin and its weights from there.
    banks: Vec<(usize, Vec<f64>)>,
    transform: Arc<dyn Fft<f64>>,
}

impl MelFrontEnd {
    /// Prepares window, filter banks and transform.
    pub fn new(config: &MelConfig) -> Self {
        let last = (config.win_length - 1) as f64;
        let window = (0..config.win_length).map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / last).cos());
        Self {
            config: config.clone(),
            window: window.collect(),
            banks: kaldi_banks(config),
            transform: FftPlanner::new().plan_fft_forward(config.n_fft),
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
        let MelConfig { n_fft, hopsize, win_length, .. } = self.config;
        assert!(samples.len() >= self.config.least_samples(), "{} samples cannot be reflected", samples.len());
        let sharp: Vec<f64> =
            samples.windows(2).map(|pair| f64::from(pair[1]) - PREEMPHASIS * f64::from(pair[0])).collect();
        let frames = self.config.frames(samples.len());
        let outside = (n_fft - win_length) / 2;
        let mut log_mel = vec![0.0; self.config.n_mels * frames];
        let mut frame = vec![Complex::default(); n_fft];
        let mut scratch = vec![Complex::default(); self.transform.get_inplace_scratch_len()];
        for t in 0..frames {
            frame.fill(Complex::default());
            let start = t * hopsize + outside;
            for (i, (value, weight)) in frame[outside..].iter_mut().zip(&self.window).enumerate() {
                value.re = sharp[mirrored(start + i, n_fft / 2, sharp.len())] * weight;
            }
            self.transform.process_with_scratch(&mut frame, &mut scratch);
            for (band, (first, weights)) in self.banks.iter().enumerate() {
                let bins = &frame[*first..];
                let power: f64 = weights.iter().zip(bins).map(|(weight, bin)| weight * bin.norm_sqr()).sum();
                log_mel[band * frames + t] = (((power + FLOOR).ln() + 4.5) / 5.0) as f32;
            }
        }
        log_mel
    }
}

impl fmt::Debug for MelFrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MelFrontEnd").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Which of `len` samples stands at `position` of the signal with `pad` more samples at either end: mirror images, in which
/// the end samples are not repeated.
pub(super) fn mirrored(position: usize, pad: usize, len: usize) -> usize {
    match position.checked_sub(pad) {
        None => pad - position,
        Some(inside) if inside < len => inside,
        Some(beyond) => 2 * (len - 1) - beyond,
    }
}

/// Triangles whose sides are straight on Kaldi's mel scale; no weight at the Nyquist frequency.
fn kaldi_banks(config: &MelConfig) -> Vec<(usize, Vec<f64>)> {
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
    let bank = |band| {
        let weights: Vec<f64> = (0..config.n_fft / 2).map(|bin| weight(band, bin)).collect();
        let first = weights.iter().position(|weight| *weight > 0.0).unwrap_or(0);
        let last = weights.iter().rposition(|weight| *weight > 0.0).map_or(first, |last| last + 1);
        (first, weights[first..last].to_vec())
    };
    (0..config.n_mels).map(bank).collect()
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

    #[test]
    fn a_mirror_does_not_repeat_the_ends() {
        let seen: Vec<usize> = (0..9).map(|position| mirrored(position, 2, 5)).collect();
        assert_eq!(seen, [2, 1, 0, 1, 2, 3, 4, 3, 2]);
    }
}
