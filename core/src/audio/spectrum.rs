//! Short-time spectra and filter banks, on the host in 64 bit: what the front ends of several models share.

use std::sync::Arc;

use rustfft::{Fft, FftPlanner, num_complex::Complex};

/// Short-time Fourier transform, centred: the signal is mirrored by half a frame at either end.
#[derive(Clone)]
pub(crate) struct ShortTime {
    window: Vec<f64>,
    n_fft: usize,
    hop: usize,
    transform: Arc<dyn Fft<f64>>,
}

impl ShortTime {
    /// Frames of `n_fft` samples every `hop`, with `window` in their middle.
    ///
    /// # Panics
    /// If the window is longer than a frame.
    pub(crate) fn new(n_fft: usize, hop: usize, window: Vec<f64>) -> Self {
        assert!(window.len() <= n_fft, "a window of {} in frames of {n_fft}", window.len());
        Self { window, n_fft, hop, transform: FftPlanner::new().plan_fft_forward(n_fft) }
    }

    /// Shows `look` every frame's index and its `n_fft` frequency bins: `samples / hop + 1` frames of an even `n_fft`.
    ///
    /// # Panics
    /// If half a frame is longer than what can be mirrored.
    pub(crate) fn each(&self, samples: &[f64], look: &mut dyn FnMut(usize, &[Complex<f64>])) {
        let Self { n_fft, hop, .. } = *self;
        let pad = n_fft / 2;
        assert!(samples.len() > pad, "{} samples cannot be mirrored by {pad}", samples.len());
        let outside = (n_fft - self.window.len()) / 2;
        let mut frame = vec![Complex::default(); n_fft];
        let mut scratch = vec![Complex::default(); self.transform.get_inplace_scratch_len()];
        for index in 0..=(samples.len() + 2 * pad - n_fft) / hop {
            frame.fill(Complex::default());
            let start = index * hop + outside;
            for (i, (value, weight)) in frame[outside..].iter_mut().zip(&self.window).enumerate() {
                value.re = samples[mirrored(start + i, pad, samples.len())] * weight;
            }
            self.transform.process_with_scratch(&mut frame, &mut scratch);
            look(index, &frame);
        }
    }
}

/// Which of `len` samples stands at `position` of the signal with `pad` more samples at either end: mirror images, in which
/// the end samples are not repeated.
pub(crate) fn mirrored(position: usize, pad: usize, len: usize) -> usize {
    match position.checked_sub(pad) {
        None => pad - position,
        Some(inside) if inside < len => inside,
        Some(beyond) => 2 * (len - 1) - beyond,
    }
}

/// Filters over frequency bins; of each, its first bin and its weights from there.
#[derive(Debug, Clone)]
pub(crate) struct Banks(Vec<(usize, Vec<f64>)>);

impl Banks {
    /// `filters` filters over `bins` bins, each from its first to its last weight above 0.
    pub(crate) fn new(filters: usize, bins: usize, weight: impl Fn(usize, usize) -> f64) -> Self {
        let filter = |filter| {
            let weights: Vec<f64> = (0..bins).map(|bin| weight(filter, bin)).collect();
            let first = weights.iter().position(|weight| *weight > 0.0).unwrap_or(0);
            let last = weights.iter().rposition(|weight| *weight > 0.0).map_or(first, |last| last + 1);
            (first, weights[first..last].to_vec())
        };
        Self((0..filters).map(filter).collect())
    }

    /// What every filter lets through of the powers of all bins.
    pub(crate) fn apply<'a>(&'a self, power: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let filter = |(first, weights): &(usize, Vec<f64>)| -> f64 {
            weights.iter().zip(&power[*first..]).map(|(weight, power)| weight * power).sum()
        };
        self.0.iter().map(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_does_not_repeat_the_ends() {
        let seen: Vec<usize> = (0..9).map(|position| mirrored(position, 2, 5)).collect();
        assert_eq!(seen, [2, 1, 0, 1, 2, 3, 4, 3, 2]);
    }

    #[test]
    fn a_filter_begins_at_its_first_weight() {
        let banks = Banks::new(3, 5, |filter, bin| if filter < 2 && bin > filter { 1.0 } else { 0.0 });
        let through: Vec<f64> = banks.apply(&[1.0, 2.0, 4.0, 8.0, 16.0]).collect();
        assert_eq!(through, [30.0, 28.0, 0.0]);
    }
}
