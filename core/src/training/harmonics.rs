//! Sound without any file: notes of a few harmonics, with a caption. For tests, and until there is a corpus at hand.

use rand_chacha::rand_core::Rng;

use super::StepKey;

/// A sound and its caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Mono, −1 to 1.
    pub samples: Vec<f32>,
    /// What it is called.
    pub caption: String,
}

/// Names of timbres, and how fast their harmonics fade with their number.
const TIMBRES: [(&str, f64); 4] = [("soft", 3.0), ("round", 2.0), ("bright", 1.2), ("sharp", 0.6)];

/// `samples` samples of plucked notes at `sample_rate`, as `seed` and `index` say.
pub fn harmonics(seed: u64, index: usize, samples: usize, sample_rate: u32) -> Clip {
    let mut random = StepKey { seed, step: index }.random("harmonics");
    let mut unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let (timbre, slope) = TIMBRES[(unit() * TIMBRES.len() as f64) as usize];
    let rate = f64::from(sample_rate);
    let (fast, gap) = if unit() < 0.5 { ("fast", 0.2) } else { ("slow", 0.5) };
    let mut sound = vec![0.0f64; samples];
    let mut start = -gap * unit();
    while start * rate < samples as f64 {
        let pitch = 110.0 * ((unit() * 30.0).floor() / 12.0).exp2();
        let loudness = 0.1 + 0.2 * unit();
        let first = (start.max(0.0) * rate) as usize;
        for (at, sample) in sound.iter_mut().enumerate().skip(first) {
            let since = at as f64 / rate - start;
            let envelope = loudness * (1.0 - (-since * 200.0).exp()) * (-since * 4.0).exp();
            if since > 1.5 {
                break;
            }
            for harmonic in 1..=8u32 {
                let number = f64::from(harmonic);
                if pitch * number < rate * 0.45 {
                    let angle = std::f64::consts::TAU * pitch * number * since;
                    *sample += envelope * number.powf(-slope) * angle.sin();
                }
            }
        }
        start += gap;
    }
    let peak = sound.iter().fold(1.0f64, |peak, sample| peak.max(sample.abs()));
    let samples = sound.into_iter().map(|sample| (sample / peak) as f32).collect();
    Clip { samples, caption: format!("Compose a {timbre} piece. Use a {fast} tempo.") }
}
