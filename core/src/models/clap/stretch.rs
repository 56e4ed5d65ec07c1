//! Spectrograms made longer or shorter in time, with PyTorch's weights.
//!
//! Reference: `interpolate`, torch 2.11.0, aten/src/ATen/native/UpSample.h (BSD-3-Clause), whose coordinates are 32-bit
//! floats: where neighbours differ by tens of dB, other roundings of these would be seen.

/// Sharpness of the cubic kernel.
const A: f32 = -0.75;

/// Weights `[to, from]` that stretch `from` frames to `to`: bicubic, ends on ends.
pub(super) fn bicubic(from: usize, to: usize) -> Vec<f32> {
    let scale = if to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { 0.0 };
    let mut weights = vec![0.0; to * from];
    for (frame, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = scale * frame as f32;
        let first = (at.floor() as usize).min(from - 1);
        let t = (at - first as f32).clamp(0.0, 1.0);
        let taps = [outer(t + 1.0), inner(t), inner(1.0 - t), outer(2.0 - t)];
        for (tap, weight) in taps.into_iter().enumerate() {
            row[(first + tap).saturating_sub(1).min(from - 1)] += weight;
        }
    }
    weights
}

/// The kernel up to a distance of 1.
fn inner(x: f32) -> f32 {
    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
}

/// The kernel from a distance of 1 to 2.
fn outer(x: f32) -> f32 {
    ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
}

/// `[frame, band]` in `to` frames: bilinear, centres on centres, without a filter before.
pub(super) fn bilinear(mel: &[f32], bands: usize, to: usize) -> Vec<f32> {
    let from = mel.len() / bands;
    let scale = from as f32 / to as f32;
    let mut made = Vec::with_capacity(to * bands);
    for frame in 0..to {
        let at = (scale * (frame as f32 + 0.5) - 0.5).max(0.0);
        let first = (at as usize).min(from - 1);
        let second = (first + 1).min(from - 1);
        let t = (at - first as f32).clamp(0.0, 1.0);
        let pairs = mel[first * bands..][..bands].iter().zip(&mel[second * bands..][..bands]);
        made.extend(pairs.map(|(first, second)| (1.0 - t) * first + t * second));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_stay_and_constants_stay() {
        let weights = bicubic(1001, 1024);
        assert_eq!((weights[0], weights[1024 * 1001 - 1]), (1.0, 1.0));
        for row in weights.chunks(1001) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row.iter().filter(|weight| **weight != 0.0).count() <= 4);
        }
        assert_eq!(bicubic(3, 3), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(bilinear(&[1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0], 2, 2), [2.0, 20.0, 6.0, 60.0]);
    }
}
