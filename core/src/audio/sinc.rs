//! Other sample rates, as torchaudio has them.

use std::f64::consts::PI;

use super::{AudioError, Waveform};

/// Crossings of zero of the filter on either side.
const ZEROS: f64 = 6.0;
/// Where the filter cuts, over the lower half rate.
const ROLLOFF: f64 = 0.99;

impl Waveform {
    /// The same sound at `rate` Hz, `⌈samples · rate / sample_rate⌉` samples, through the filter that torchaudio has unless
    /// told otherwise: a sinc of six zeros under a Hann window.
    ///
    /// [`Waveform::resample`] is better: this one leaves mirror images 60 dB below the sound, where a spectrogram in
    /// decibels still shows them. It is for models that are to hear what they heard in others' experiments.
    ///
    /// # Errors
    /// [`AudioError::Rate`] if `rate` is absurd.
    ///
    /// # Source
    /// `resample`, torchaudio 2.11.0, `functional/functional.py` (BSD-2-Clause), with `sinc_interp_hann`, `lowpass_filter_width`
    /// 6, `rolloff` 0.99 and a kernel of 64 bit.
    pub fn resample_sinc(self, rate: u32) -> Result<Self, AudioError> {
        if !Self::RATES.contains(&rate) {
            return Err(AudioError::Rate { rate });
        }
        if rate == self.sample_rate {
            return Ok(self);
        }
        let divisor = gcd(self.sample_rate, rate);
        let [from, to] = [self.sample_rate / divisor, rate / divisor].map(|part| part as usize);
        let filters: Vec<Filter> = (0..to).map(|phase| Filter::new(phase, from, to)).collect();
        let frames = (self.samples() * to).div_ceil(from);
        let channel = |samples: &Vec<f32>| {
            (0..frames).map(|frame| filters[frame % to].apply(samples, frame / to * from)).collect()
        };
        Self::new(self.channels.iter().map(channel).collect(), rate)
    }
}

/// What one of `to` equally spaced outputs takes of the inputs around it.
struct Filter {
    /// Distance of the first input from the start of the period.
    first: i64,
    weights: Vec<f64>,
}

impl Filter {
    fn new(phase: usize, from: usize, to: usize) -> Self {
        let cut = from.min(to) as f64 * ROLLOFF;
        let centre = phase as f64 / to as f64;
        let reach = ZEROS / cut;
        let first = ((centre - reach) * from as f64).ceil() as i64;
        let last = ((centre + reach) * from as f64).floor() as i64;
        let weight = |at: i64| {
            let t = ((at as f64 / from as f64 - centre) * cut).clamp(-ZEROS, ZEROS);
            let window = (t * PI / ZEROS / 2.0).cos().powi(2);
            let sinc = if t == 0.0 { 1.0 } else { (t * PI).sin() / (t * PI) };
            // As torchaudio keeps it.
            f64::from((sinc * window * cut / from as f64) as f32)
        };
        Self { first, weights: (first..=last).map(weight).collect() }
    }

    /// Nothing is heard before the first and after the last sample.
    fn apply(&self, samples: &[f32], start: usize) -> f32 {
        let first = start as i64 + self.first;
        let before = usize::try_from(-first).unwrap_or(0);
        let inputs = samples.get(usize::try_from(first).unwrap_or(0)..).unwrap_or(&[]);
        let pairs = self.weights.iter().skip(before).zip(inputs);
        pairs.map(|(weight, sample)| weight * f64::from(*sample)).sum::<f64>() as f32
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_constants_stay() {
        for (samples, from, to) in
            [(1, 44_100, 48_000), (1000, 16_000, 48_000), (1000, 48_000, 44_099), (5, 32_000, 1_000)]
        {
            let out = Waveform::new(vec![vec![0.5; samples]; 2], from).and_then(|wave| wave.resample_sinc(to)).unwrap();
            assert_eq!(out.samples(), (samples * to as usize).div_ceil(from as usize));
            if samples == 1000 {
                let middle = out.channels()[1][out.samples() / 2];
                assert!((middle - 0.5).abs() < 2e-3, "{middle}");
            }
        }
        let wave = Waveform::new(vec![vec![0.5]], 32_000).unwrap();
        assert_eq!(wave.clone().resample_sinc(12), Err(AudioError::Rate { rate: 12 }));
        assert_eq!(wave.clone().resample_sinc(32_000), Ok(wave));
    }
}
