//! Log-mel spectrograms of CLAP, on the host in 64 bit.
//!
//! Reference: `ClapFeatureExtractor`, transformers 5.23.0, `models/clap/feature_extraction_clap.py` and `audio_utils.py`
//! (Apache-2.0). Differs: what the reference draws at random is fixed. Of a longer clip than the window, `rand_trunc` takes
//! the first `max_length_s`; `fusion` takes the first crop of each third of the possible ones (the reference one at random
//! of each); and a short clip is never marked as a long one (the reference marks one where a batch has none).

use std::{f64::consts::TAU, fmt};

use serde::{Deserialize, Serialize};

use super::stretch::bilinear;
use crate::{
    audio::{Banks, ShortTime},
    checkpoint::ranges,
};

/// Least power of a band: −100 dB.
const FLOOR: f64 = 1e-10;
/// More samples than any CLAP hears: three minutes at 44.1 kHz.
const MOST_SAMPLES: usize = 1 << 23;
/// Spectrograms that a fused clip is made of.
const FUSED: usize = 4;

/// Shape of a [`FrontEnd`]; fields are named as in the checkpoint's `preprocessor_config.json`.
///
/// An absent field has the default of transformers' `ClapFeatureExtractor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureConfig {
    /// Mel bands.
    #[serde(deserialize_with = "ranges::width")]
    pub feature_size: usize,
    /// Sample rate, Hz.
    #[serde(deserialize_with = "ranges::rate")]
    pub sampling_rate: usize,
    /// Samples between frames.
    #[serde(deserialize_with = "ranges::hop")]
    pub hop_length: usize,
    /// Length of the clip that the model hears, in seconds.
    #[serde(deserialize_with = "ranges::seconds")]
    pub max_length_s: usize,
    /// Samples of a frame, which are those of its window.
    #[serde(deserialize_with = "ranges::window")]
    pub fft_window_size: usize,
    /// Lower edge of the first band, Hz.
    #[serde(deserialize_with = "ranges::frequency")]
    pub frequency_min: f64,
    /// Upper edge of the last band, Hz.
    #[serde(deserialize_with = "ranges::frequency")]
    pub frequency_max: f64,
    /// What becomes of longer clips; decides the bands as well.
    pub truncation: Truncation,
    /// What becomes of shorter clips.
    pub padding: Padding,
}

/// What becomes of clips that are longer than the model hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// A part is heard, through Slaney's bands of equal area.
    RandTrunc,
    /// Three parts and the whole, made shorter, are heard as one, through HTK's bands of equal height.
    Fusion,
}

/// What becomes of clips that are shorter than the model hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Repeated as often as it fits, then silence.
    Repeatpad,
    /// Repeated to the end.
    Repeat,
    /// Silence.
    Pad,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self { frequency_min: 0.0, truncation: Truncation::Fusion, ..Self::larger_general() }
    }
}

impl FeatureConfig {
    /// What `laion/larger_clap_general` is given.
    pub fn larger_general() -> Self {
        Self {
            feature_size: 64,
            sampling_rate: 48_000,
            hop_length: 480,
            max_length_s: 10,
            fft_window_size: 1024,
            frequency_min: 50.0,
            frequency_max: 14_000.0,
            truncation: Truncation::RandTrunc,
            padding: Padding::Repeatpad,
        }
    }

    /// Samples of the clip that the model hears.
    pub fn samples(&self) -> usize {
        self.max_length_s * self.sampling_rate
    }

    /// Frames of that clip.
    pub fn frames(&self) -> usize {
        self.samples() / self.hop_length + 1
    }

    /// Spectrograms of a clip.
    pub fn channels(&self) -> usize {
        if self.truncation == Truncation::Fusion { FUSED } else { 1 }
    }

    /// What contradicts itself, if anything.
    pub(super) fn contradiction(&self) -> Option<String> {
        let rates = *crate::audio::Waveform::RATES.start() as usize..=*crate::audio::Waveform::RATES.end() as usize;
        if !rates.contains(&self.sampling_rate) {
            return Some(format!("`sampling_rate` is {}", self.sampling_rate));
        }
        let Self { hop_length: hop, fft_window_size: frame, max_length_s: seconds, feature_size: bands, .. } = *self;
        if hop == 0 || bands == 0 || !(1..=3600).contains(&seconds) || bands > 4096 {
            return Some("no frames, no bands or a length that no model hears".to_owned());
        }
        if self.samples() > MOST_SAMPLES {
            return Some(format!(
                "`max_length_s` is {seconds} at {} Hz, expected {MOST_SAMPLES} samples at most",
                self.sampling_rate
            ));
        }
        if frame == 0 || !frame.is_multiple_of(2) || frame / 2 >= self.samples() {
            return Some(format!("`fft_window_size` is {frame}, expected an even number below twice the clip"));
        }
        let half = self.sampling_rate as f64 / 2.0;
        let [low, high] = [self.frequency_min, self.frequency_max];
        if !(low >= 0.0 && low < high && high <= half) {
            return Some(format!("bands from {low} to {high} Hz, expected within 0 to {half} Hz"));
        }
        None
    }
}

/// What a model hears of one clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// `[channel, frame, band]`, row-major, in dB re 1. Fused: the whole, then beginning, middle and end.
    pub mel: Vec<f32>,
    /// Whether the channels differ, and are to be fused.
    pub is_longer: bool,
}

/// `10 log10 max(1e-10, banks · |STFT(x)|²)`, of a clip that was brought to length.
#[derive(Clone)]
pub struct FrontEnd {
    config: FeatureConfig,
    spectra: ShortTime,
    banks: Banks,
}

impl FrontEnd {
    /// Prepares window, filter banks and transform.
    ///
    /// # Panics
    /// If the configuration contradicts itself, which [`Clap::load`](super::Clap::load) finds out.
    pub fn new(config: &FeatureConfig) -> Self {
        let len = config.fft_window_size;
        // Periodic Hann.
        let window = (0..len).map(|i| 0.5 - 0.5 * (TAU * i as f64 / len as f64).cos());
        Self {
            config: config.clone(),
            spectra: ShortTime::new(len, config.hop_length, window.collect()),
            banks: mel_banks(config),
        }
    }

    /// Shape of this front end.
    pub fn config(&self) -> &FeatureConfig {
        &self.config
    }

    /// Spectrograms of a clip of any length.
    ///
    /// # Shapes and units
    /// - `samples`: mono, −1 to 1, at `config.sampling_rate` Hz
    ///
    /// # Panics
    /// If there is no sample.
    pub fn features(&self, samples: &[f32]) -> Features {
        assert!(!samples.is_empty(), "a clip without samples");
        let most = self.config.samples();
        if samples.len() <= most {
            return self.whole(&padded(samples, most, self.config.padding));
        }
        match self.config.truncation {
            Truncation::RandTrunc => self.whole(&samples[..most]),
            Truncation::Fusion => self.fused(samples),
        }
    }

    /// One spectrogram in every channel.
    fn whole(&self, samples: &[f32]) -> Features {
        Features { mel: self.log_mel(samples).repeat(self.config.channels()), is_longer: false }
    }

    fn fused(&self, samples: &[f32]) -> Features {
        let (bands, frames) = (self.config.feature_size, self.config.frames());
        let mel = self.log_mel(samples);
        let total = mel.len() / bands;
        if total == frames {
            // Longer by less than a frame.
            return Features { mel: mel.repeat(FUSED), is_longer: false };
        }
        let mut channels = bilinear(&mel, bands, frames);
        for start in first_of_thirds(total - frames + 1) {
            channels.extend_from_slice(&mel[start * bands..(start + frames) * bands]);
        }
        Features { mel: channels, is_longer: true }
    }

    /// `[frame, band]` in dB, centred, reflect-padded: `samples / hop_length + 1` frames.
    fn log_mel(&self, samples: &[f32]) -> Vec<f32> {
        let wide: Vec<f64> = samples.iter().copied().map(f64::from).collect();
        let mut mel = Vec::with_capacity((samples.len() / self.config.hop_length + 1) * self.config.feature_size);
        let mut power = vec![0.0; self.config.fft_window_size / 2 + 1];
        self.spectra.each(&wide, &mut |_, bins| {
            for (power, bin) in power.iter_mut().zip(bins) {
                // The reference keeps its spectra in 32 bit.
                let [re, im] = [bin.re, bin.im].map(|part| f64::from(part as f32));
                *power = re * re + im * im;
            }
            mel.extend(self.banks.apply(&power).map(|power| (10.0 * power.max(FLOOR).log10()) as f32));
        });
        mel
    }
}

impl fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontEnd").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A clip of `len` samples, of a shorter one.
fn padded(samples: &[f32], len: usize, how: Padding) -> Vec<f32> {
    let mut clip = match how {
        Padding::Repeatpad => samples.repeat(len / samples.len()),
        Padding::Repeat => samples.iter().copied().cycle().take(len).collect(),
        Padding::Pad => samples.to_vec(),
    };
    clip.resize(len, 0.0);
    clip
}

/// The first of each third of `starts` starts, as `numpy.array_split` makes thirds; an empty one has the first of all.
fn first_of_thirds(starts: usize) -> [usize; 3] {
    let (size, longer) = (starts / 3, starts % 3);
    let first = [0, 1, 2].map(|third: usize| third * size + third.min(longer));
    first.map(|start| if start < starts { start } else { 0 })
}

/// Triangles whose sides are straight in Hz: Slaney's of equal area, or HTK's of equal height.
fn mel_banks(config: &FeatureConfig) -> Banks {
    let slaney = config.truncation == Truncation::RandTrunc;
    let to_mel = if slaney { slaney_mel } else { htk_mel };
    let to_hertz = if slaney { slaney_hertz } else { htk_hertz };
    let [low, high] = [config.frequency_min, config.frequency_max].map(to_mel);
    let bands = config.feature_size;
    let step = (high - low) / (bands + 1) as f64;
    let edges: Vec<f64> = (0..bands + 2).map(|edge| to_hertz(low + edge as f64 * step)).collect();
    let bins = config.fft_window_size / 2 + 1;
    let bin_width = (config.sampling_rate / 2) as f64 / (bins - 1) as f64;
    Banks::new(bands, bins, |band, bin| {
        let (left, centre, right) = (edges[band], edges[band + 1], edges[band + 2]);
        let here = bin as f64 * bin_width;
        let height = ((here - left) / (centre - left)).min((right - here) / (right - centre)).max(0.0);
        if slaney { height * 2.0 / (right - left) } else { height }
    })
}

/// Linear up to 1 kHz, then logarithmic.
fn slaney_mel(hertz: f64) -> f64 {
    if hertz < 1000.0 { 3.0 * hertz / 200.0 } else { 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4f64.ln() }
}

fn slaney_hertz(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 * mel / 3.0 } else { 1000.0 * (6.4f64.ln() / 27.0 * (mel - 15.0)).exp() }
}

fn htk_mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

fn htk_hertz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_floor() {
        let features = FrontEnd::new(&FeatureConfig::larger_general()).features(&[0.0; 100]);
        assert_eq!((features.mel.len(), features.is_longer), (1001 * 64, false));
        assert!(features.mel.iter().all(|value| *value == -100.0));
    }

    #[test]
    fn short_clips_are_brought_to_length() {
        let clip = [1.0, 2.0, 3.0];
        assert_eq!(padded(&clip, 8, Padding::Repeatpad), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!(padded(&clip, 8, Padding::Repeat), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]);
        assert_eq!(padded(&clip, 5, Padding::Pad), [1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!(padded(&clip, 3, Padding::Repeatpad), clip);
    }

    #[test]
    fn thirds_are_those_of_numpy() {
        assert_eq!(first_of_thirds(9), [0, 3, 6]);
        assert_eq!(first_of_thirds(10), [0, 4, 7]);
        assert_eq!(first_of_thirds(11), [0, 4, 8]);
        assert_eq!(first_of_thirds(2), [0, 1, 0]);
        assert_eq!(first_of_thirds(1), [0, 0, 0]);
    }

    #[test]
    fn scales_go_there_and_back() {
        for hertz in [0.0, 50.0, 999.0, 1000.0, 14_000.0] {
            assert!((slaney_hertz(slaney_mel(hertz)) - hertz).abs() < 1e-9);
            assert!((htk_hertz(htk_mel(hertz)) - hertz).abs() < 1e-9);
        }
    }

    #[test]
    fn what_cannot_be_heard_is_refused() {
        let real = FeatureConfig::larger_general();
        assert_eq!(real.contradiction(), None);
        let refused = |config: FeatureConfig| config.contradiction().expect("a contradiction");
        assert!(refused(FeatureConfig { frequency_max: 30_000.0, ..real.clone() }).contains("30000"));
        assert!(refused(FeatureConfig { frequency_min: f64::NAN, ..real.clone() }).contains("NaN"));
        assert!(refused(FeatureConfig { fft_window_size: 1_000_000, ..real.clone() }).contains("1000000"));
        assert!(refused(FeatureConfig { hop_length: 0, ..real.clone() }).contains("frames"));
        assert!(refused(FeatureConfig { sampling_rate: 0, ..real }).contains("sampling_rate"));
    }
}
