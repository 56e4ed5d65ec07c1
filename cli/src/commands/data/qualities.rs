//! `NSynth`'s ten qualities, heard in a note by rules.
//!
//! `NSynth`'s were written by people who heard the instruments. These follow the words in which it defines them; each rule
//! and its bounds stand at its function. Levels are in dB below the loudest 10 ms of the note. A *partial* is a multiple
//! of the pitch that the key stands for.

use rustfft::{FftPlanner, num_complex::Complex};

use super::{HELD, LENGTH, RATE};

/// Samples of one level.
const FRAME: usize = RATE as usize / 100;
/// Levels per second.
const PER_SECOND: usize = 100;
/// Samples that the spectrum of the held note is taken of, half a second; it begins 0.1 s after the key.
const LONG: usize = 8192;
const LONG_START: usize = RATE as usize / 10;
/// Samples that the spectrum of the onset is taken of: a tenth of a second, and what lies before.
const SHORT: usize = 2048;
/// Levels of nothing.
const FLOOR: f64 = -120.0;

/// For each of `QUALITIES`, whether a note has it.
///
/// `samples` are 4 s at 16 kHz whose key is held for 3 s; `pitch` is the MIDI number of the key.
pub(super) fn qualities(samples: &[f32], pitch: u8) -> [bool; 10] {
    let heard = Heard::new(samples, pitch);
    [
        heard.bright(),
        heard.dark(),
        heard.distorted(),
        heard.fast_decay(),
        heard.long_release(),
        heard.multiphonic(),
        heard.nonlinear_envelope(),
        heard.percussive(),
        heard.reverb(),
        heard.tempo_synced(),
    ]
}

/// What is measured of a note.
struct Heard {
    /// Every 10 ms.
    level: Vec<f64>,
    /// Of the held note.
    long: Spectrum,
    /// Of its onset.
    short: Spectrum,
    /// Hertz.
    pitch: f64,
    /// The largest sample over the root mean square, while the key is held.
    crest: f64,
}

impl Heard {
    fn new(samples: &[f32], pitch: u8) -> Self {
        let mut level: Vec<f64> = samples.chunks_exact(FRAME).map(decibels).collect();
        let loudest = level.iter().copied().fold(FLOOR, f64::max);
        for level in &mut level {
            *level = (*level - loudest).max(FLOOR);
        }
        level.resize(LENGTH * PER_SECOND, FLOOR);
        let onset = level.iter().position(|level| *level > -30.0).unwrap_or(0) * FRAME;
        let part = |start: usize, len: usize| {
            let rest = samples.get(start..).unwrap_or_default();
            &rest[..rest.len().min(len)]
        };
        // The window must not hide the onset at its edge: a quarter of it lies before.
        let before = SHORT / 4;
        let silence = before.min(onset);
        let held = part(LONG_START, LONG);
        let mean_square = held.iter().map(|sample| f64::from(sample * sample)).sum::<f64>() / held.len().max(1) as f64;
        let peak = held.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        Self {
            level,
            long: Spectrum::new(held, LONG),
            short: Spectrum::new(
                &[&vec![0.0; before - silence], part(onset - silence, SHORT - before + silence)].concat(),
                SHORT,
            ),
            pitch: 440.0 * ((f64::from(pitch) - 69.0) / 12.0).exp2(),
            crest: f64::from(peak) / mean_square.sqrt().max(1e-9),
        }
    }

    /// "A large amount of high frequency content and strong upper harmonics": the centroid of the spectrum is above
    /// 2 kHz, and above the second partial.
    fn bright(&self) -> bool {
        let centroid = self.long.centroid();
        centroid > 2000.0 && centroid > 2.0 * self.pitch
    }

    /// "A distinct lack of high frequency content, giving a muted and bassy sound": less than a thousandth of the energy
    /// is above 1 kHz.
    fn dark(&self) -> bool {
        self.long.above(1000.0) < 1e-3
    }

    /// "A distinctive crunchy sound and presence of many harmonics": at least 20 partials within 40 dB of the strongest,
    /// in a wave with few peaks (the largest sample is less than 3.5 times the root mean square).
    fn distorted(&self) -> bool {
        self.long.partials(self.pitch, 40.0) >= 20 && self.crest < 3.5
    }

    /// "Amplitude envelope of all harmonics decays substantially before the note-off point": the level falls by 20 dB
    /// before the key is let go.
    fn fast_decay(&self) -> bool {
        self.mean(HELD * PER_SECOND - 10..HELD * PER_SECOND) < -20.0
    }

    /// "Amplitude envelope decays slowly after the note-off point, sometimes still present at the end": 0.9 s after the
    /// key is let go the level is within 30 dB of the level before, and that is within 40 dB of the loudest.
    fn long_release(&self) -> bool {
        let before = self.mean(HELD * PER_SECOND - 10..HELD * PER_SECOND);
        before > -40.0 && self.mean(LENGTH * PER_SECOND - 10..LENGTH * PER_SECOND) > before - 30.0
    }

    /// "Overtone frequencies related to more than one fundamental frequency": a line of the spectrum that is no partial,
    /// within 15 dB of the strongest line, while a tenth of the energy is in no partial.
    fn multiphonic(&self) -> bool {
        let outside = self.long.outside(self.pitch);
        outside.share > 0.1 && outside.strongest > -15.0
    }

    /// "A distinct envelope behaviour different than the monotonic decrease of the note": while the key is held, from
    /// 0.3 s on, the level rises by 3 dB.
    fn nonlinear_envelope(&self) -> bool {
        let smooth = self.smooth(30..HELD * PER_SECOND);
        let mut lowest = f64::INFINITY;
        smooth.iter().any(|level| {
            lowest = lowest.min(*level);
            *level > lowest + 3.0 && *level > -40.0
        })
    }

    /// "A loud non-harmonic sound at note onset": in the first tenth of a second a fifth of the energy is in no
    /// partial, more than twice as much as later, and the loudest 10 ms are within it.
    fn percussive(&self) -> bool {
        let share = self.short.outside(self.pitch).share;
        let onset = self.level.iter().position(|level| *level > -30.0).unwrap_or(0);
        let early = self.level[onset..].iter().take(13).any(|level| *level > -0.5);
        early && share > 0.2 && share > 2.0 * self.long.outside(self.pitch).share
    }

    /// "Room acoustics that were not able to be removed": after the key is let go the level falls fast, by 15 dB within
    /// 0.3 s, and what is left then falls by less than 25 dB in the next 0.4 s and is above -60 dB.
    fn reverb(&self) -> bool {
        let at = |tenth: usize| {
            let start = HELD * PER_SECOND + 10 * tenth;
            self.mean(start..start + 10)
        };
        let before = self.mean(HELD * PER_SECOND - 10..HELD * PER_SECOND);
        let (soon, late) = (at(2), at(6));
        before - soon > 15.0 && soon - late < 25.0 && late > -60.0
    }

    /// "Rhythmic modulation of the sound to a fixed tempo": the level swings by 3 dB or more (root mean square around
    /// its trend), 1 to 8 times a second, in a period that repeats itself (correlation 0.6).
    fn tempo_synced(&self) -> bool {
        let level = &self.level[50..HELD * PER_SECOND];
        if level.iter().any(|level| *level < -60.0) {
            return false;
        }
        let residue = without_trend(level);
        let energy: f64 = residue.iter().map(|value| value * value).sum();
        if (energy / residue.len() as f64).sqrt() < 3.0 {
            return false;
        }
        (12..=100).any(|lag| {
            let product: f64 = residue.iter().zip(&residue[lag..]).map(|(one, other)| one * other).sum();
            product / (residue.len() - lag) as f64 > 0.6 * energy / residue.len() as f64
        })
    }

    /// Mean level, over energies.
    fn mean(&self, range: std::ops::Range<usize>) -> f64 {
        let count = range.len() as f64;
        let energy: f64 = self.level[range].iter().map(|level| 10f64.powf(level / 10.0)).sum();
        (10.0 * (energy / count).log10()).max(FLOOR)
    }

    /// Levels of 100 ms each, every 10 ms.
    fn smooth(&self, range: std::ops::Range<usize>) -> Vec<f64> {
        (range.start..range.end - 10).map(|start| self.mean(start..start + 10)).collect()
    }
}

/// `values` without the line that fits them best.
fn without_trend(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let centre = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let (mut with, mut all) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        with += (at as f64 - centre) * (value - mean);
        all += (at as f64 - centre).powi(2);
    }
    let slope = with / all;
    values.iter().enumerate().map(|(at, value)| value - mean - slope * (at as f64 - centre)).collect()
}

fn decibels(samples: &[f32]) -> f64 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    10.0 * (energy / samples.len() as f64 + 1e-12).log10()
}

/// Energies at even frequencies up to half of [`RATE`].
struct Spectrum {
    energies: Vec<f64>,
    /// Hertz from one to the next.
    step: f64,
}

/// What is in no partial.
struct Outside {
    /// Share of the energy.
    share: f64,
    /// The strongest line, in dB below the strongest of all.
    strongest: f64,
}

impl Spectrum {
    /// Of `samples` under a Hann window of `len`; what is missing is silence.
    fn new(samples: &[f32], len: usize) -> Self {
        let window = |at: usize| 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / len as f64).cos();
        let mut values: Vec<Complex<f64>> =
            samples.iter().enumerate().map(|(at, sample)| Complex::new(f64::from(*sample) * window(at), 0.0)).collect();
        values.resize(len, Complex::default());
        FftPlanner::new().plan_fft_forward(len).process(&mut values);
        let energies = values[..=len / 2].iter().map(Complex::norm_sqr).collect();
        Self { energies, step: f64::from(RATE) / len as f64 }
    }

    fn lines(&self) -> impl Iterator<Item = (f64, f64)> {
        self.energies.iter().enumerate().map(|(at, energy)| (at as f64 * self.step, *energy))
    }

    fn total(&self) -> f64 {
        self.energies.iter().sum::<f64>().max(1e-30)
    }

    /// Mean frequency, weighted by magnitude.
    fn centroid(&self) -> f64 {
        let (mut with, mut all) = (0.0, 1e-30);
        for (hertz, energy) in self.lines() {
            with += hertz * energy.sqrt();
            all += energy.sqrt();
        }
        with / all
    }

    /// Share of the energy above `hertz`.
    fn above(&self, hertz: f64) -> f64 {
        self.lines().filter(|(at, _)| *at > hertz).map(|(_, energy)| energy).sum::<f64>() / self.total()
    }

    /// Whether a line belongs to a partial: within 2 % of it, or as near as the window lets tell.
    fn is_partial(&self, hertz: f64, pitch: f64) -> bool {
        let nearest = (hertz / pitch).round().max(1.0) * pitch;
        (hertz - nearest).abs() <= (0.02 * nearest).max(2.5 * self.step)
    }

    fn outside(&self, pitch: f64) -> Outside {
        let (mut energy, mut strongest) = (0.0, 0.0f64);
        // Below half the pitch there is rumble, no tone.
        for (_, line) in self.lines().filter(|(hertz, _)| *hertz > 0.5 * pitch && !self.is_partial(*hertz, pitch)) {
            energy += line;
            strongest = strongest.max(line);
        }
        let loudest = self.energies.iter().copied().fold(1e-30, f64::max);
        Outside { share: energy / self.total(), strongest: 10.0 * (strongest / loudest).max(1e-12).log10() }
    }

    /// How many partials are within `range` dB of the strongest.
    fn partials(&self, pitch: f64, range: f64) -> usize {
        let reach = |number: usize| {
            let nearest = number as f64 * pitch;
            let lines = self.lines().filter(|(hertz, _)| (hertz - nearest).abs() <= (0.02 * nearest).min(0.4 * pitch));
            lines.map(|(_, energy)| energy).fold(0.0, f64::max)
        };
        let strengths: Vec<f64> = (1..=(7800.0 / pitch) as usize).map(reach).collect();
        let strongest = strengths.iter().copied().fold(1e-30, f64::max);
        strengths.iter().filter(|energy| **energy > strongest * 10f64.powf(-range / 10.0)).count()
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use tonoscope_core::musicologist::QUALITIES;

    use super::*;

    /// A sound of 4 s made of its value at each second.
    fn sound(value: impl Fn(f64) -> f64) -> Vec<f32> {
        (0..LENGTH * RATE as usize).map(|at| value(at as f64 / f64::from(RATE)) as f32).collect()
    }

    fn sine(hertz: f64, second: f64) -> f64 {
        (TAU * hertz * second).sin()
    }

    /// Gone 50 ms after the key is let go.
    fn held(second: f64) -> f64 {
        (1.0 - (second - 3.0).max(0.0) / 0.05).max(0.0)
    }

    fn names(samples: &[f32], pitch: u8) -> Vec<&'static str> {
        QUALITIES.iter().zip(qualities(samples, pitch)).filter(|(_, has)| *has).map(|(name, _)| *name).collect()
    }

    #[test]
    fn each_quality_is_heard_in_a_sound_made_to_have_it() {
        let tone = |second: f64| 0.5 * sine(440.0, second);
        assert_eq!(names(&sound(|at| tone(at) * held(at)), 69), ["dark"]);
        let overtones = |at: f64| (1..=14).map(|number| sine(440.0 * f64::from(number), at)).sum::<f64>() / 14.0;
        assert_eq!(names(&sound(|at| overtones(at) * held(at)), 69), ["bright"]);
        // A square wave of 110 Hz: every other partial, and its largest sample is its mean.
        let square = |at: f64| 0.5 * sine(110.0, at).signum() + 0.02 * sine(55.0, at);
        assert_eq!(names(&sound(|at| square(at) * held(at)), 45), ["bright", "distortion"]);
        assert_eq!(names(&sound(|at| tone(at) * (-at).exp()), 69), ["dark", "fast_decay", "long_release"]);
        assert_eq!(names(&sound(tone), 69), ["dark", "long_release"]);
        let two = |at: f64| 0.4 * sine(440.0, at) + 0.3 * sine(440.0 * 1.26, at);
        assert_eq!(names(&sound(|at| two(at) * held(at)), 69), ["dark", "multiphonic"]);
        let swell = |at: f64| tone(at) * (0.2 + 0.8 * (at / 3.0).min(1.0));
        assert_eq!(names(&sound(|at| swell(at) * held(at)), 69), ["dark", "nonlinear_env"]);
        let knock = |at: f64| 0.5 * sine(1500.0, at) * (-at * 30.0).exp();
        assert_eq!(names(&sound(|at| (0.2 * sine(440.0, at) + knock(at)) * held(at)), 69), ["dark", "percussive"]);
        let room = |at: f64| if at < 3.0 { 1.0 } else { 0.05 * (-(at - 3.0) * 3.0).exp() };
        assert_eq!(names(&sound(|at| tone(at) * room(at)), 69), ["dark", "reverb"]);
        let pulse = |at: f64| tone(at) * (0.55 + 0.45 * sine(3.0, at));
        assert_eq!(names(&sound(|at| pulse(at) * held(at)), 69), ["dark", "nonlinear_env", "tempo-synced"]);
    }

    #[test]
    fn silence_and_scraps_have_qualities_too() {
        qualities(&vec![0.0; 64_000], 60);
        qualities(&[], 0);
        qualities(&[1.0; 10], 127);
    }
}
