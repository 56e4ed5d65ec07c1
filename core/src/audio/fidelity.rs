//! How like a sound is to the one that it was made from.

use super::{Banks, ShortTime};

/// Frames and hop of the mel distance, samples.
const FRAME: usize = 2048;
const HOP: usize = 512;
/// Bands of the mel distance.
const BANDS: usize = 64;
/// Quieter bands count as this quiet: 1e-8 in power is 80 dB below a full-scale tone in one band.
const QUIETEST: f64 = 1e-8;

/// Scale-invariant ratio of signal to distortion, dB: what of `heard` is `wanted` at some loudness, over the rest. `None` if
/// one of them is silent.
///
/// # Panics
/// If they differ in length.
///
/// # Source
/// J. Le Roux et al., "SDR – half-baked or well done?", 2019, eq. 3 and 4.
pub fn si_sdr(heard: &[f32], wanted: &[f32]) -> Option<f64> {
    assert_eq!(heard.len(), wanted.len(), "sounds of different lengths");
    let product = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum()
    };
    let (power, heard_power, both) = (product(wanted, wanted), product(heard, heard), product(heard, wanted));
    if power <= 0.0 || heard_power <= 0.0 {
        return None;
    }
    let signal = both * both / power;
    Some(10.0 * (signal / (heard_power - signal).max(heard_power * 1e-15)).log10())
}

/// Mean absolute difference in dB of 64 mel bands up to half of `sample_rate`, in frames of 2048 samples every 512.
/// `None` for what is shorter than half a frame.
///
/// # Panics
/// If they differ in length.
pub fn mel_distance(heard: &[f32], wanted: &[f32], sample_rate: u32) -> Option<f64> {
    assert_eq!(heard.len(), wanted.len(), "sounds of different lengths");
    if heard.len() <= FRAME / 2 {
        return None;
    }
    let step = std::f64::consts::TAU / FRAME as f64;
    let window: Vec<f64> = (0..FRAME).map(|at| 0.5 - 0.5 * (step * at as f64).cos()).collect();
    // A full-scale tone has a power of about 1 in its bin.
    let scale = (2.0 / window.iter().sum::<f64>()).powi(2);
    let spectra = ShortTime::new(FRAME, HOP, window);
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let top = mel(f64::from(sample_rate) / 2.0);
    let place = |bin: usize| mel(bin as f64 * f64::from(sample_rate) / FRAME as f64) / top * (BANDS + 1) as f64;
    let banks = Banks::new(BANDS, FRAME / 2 + 1, |band, bin| (1.0 - (place(bin) - (band + 1) as f64).abs()).max(0.0));
    let levels = |sound: &[f32]| {
        let sound: Vec<f64> = sound.iter().map(|&sample| f64::from(sample)).collect();
        let mut levels = vec![];
        spectra.each(&sound, &mut |_, frame| {
            let power: Vec<f64> = frame[..=FRAME / 2].iter().map(|bin| scale * bin.norm_sqr()).collect();
            levels.extend(banks.apply(&power).map(|power| 10.0 * power.max(QUIETEST).log10()));
        });
        levels
    };
    let (heard, wanted) = (levels(heard), levels(wanted));
    let sum: f64 = heard.iter().zip(&wanted).map(|(heard, wanted)| (heard - wanted).abs()).sum();
    Some(sum / heard.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f64, loudness: f64) -> Vec<f32> {
        let angle = |at: usize| std::f64::consts::TAU * hertz * at as f64 / 16_000.0;
        (0..16_000).map(|at| (loudness * angle(at).sin()) as f32).collect()
    }

    #[test]
    fn distortion_counts_and_loudness_does_not() {
        let (wanted, other) = (tone(440.0, 0.5), tone(1_000.0, 0.05));
        let heard: Vec<f32> = wanted.iter().zip(&other).map(|(one, other)| one + other).collect();
        let halved: Vec<f32> = heard.iter().map(|sample| sample / 2.0).collect();
        // Both tones make whole numbers of turns: 20 dB apart.
        for heard in [heard, halved] {
            assert!((si_sdr(&heard, &wanted).unwrap() - 20.0).abs() < 0.01);
        }
        assert!(si_sdr(&wanted, &wanted).unwrap() > 100.0);
        assert_eq!(si_sdr(&[0.0; 4], &[1.0; 4]), None);
    }

    #[test]
    fn bands_differ_by_what_a_sound_is_softer() {
        let wanted = tone(440.0, 0.5);
        assert_eq!(mel_distance(&wanted, &wanted, 16_000), Some(0.0));
        let noise: Vec<f32> =
            (0u32..16_000).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect();
        let softer: Vec<f32> = noise.iter().map(|sample| sample / 2.0).collect();
        // Loud in all bands: half as loud is 6.02 dB.
        assert!((mel_distance(&softer, &noise, 16_000).unwrap() - 6.02).abs() < 0.01);
        assert!(mel_distance(&tone(460.0, 0.5), &wanted, 16_000).unwrap() > 0.5);
        assert_eq!(mel_distance(&[0.0; 1024], &[0.0; 1024], 16_000), None);
    }
}
