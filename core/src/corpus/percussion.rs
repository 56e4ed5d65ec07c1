//! Drums without recordings: bursts of noise and falling tones.
//!
//! The soundfont that comes along has no drum kit. A [`DrumMachine`] makes one sound of every drum and kit, once; a hit is
//! that sound at the loudness of its velocity. The noise is the same every time.

use std::f64::consts::TAU;

use super::{DRUMS, Note};

/// Keys of General MIDI's drums that there are.
pub const KICK: u8 = 36;
/// Snare.
pub const SNARE: u8 = 38;
/// Hand clap.
pub const CLAP: u8 = 39;
/// Closed hi-hat.
pub const HAT: u8 = 42;
/// Tom, in the middle.
pub const TOM: u8 = 45;
/// Open hi-hat.
pub const OPEN_HAT: u8 = 46;
/// Crash cymbal.
pub const CRASH: u8 = 49;
/// Ride cymbal.
pub const RIDE: u8 = 51;

const DRUM_KEYS: [u8; 8] = [KICK, SNARE, CLAP, HAT, TOM, OPEN_HAT, CRASH, RIDE];

/// How drums are tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kit {
    /// Short, bright.
    Acoustic,
    /// A long low kick, dry noise.
    Electronic,
    /// A dull kick, a low loud snare.
    BoomBap,
}

impl Kit {
    const ALL: [Self; 3] = [Self::Acoustic, Self::Electronic, Self::BoomBap];

    /// Program of its notes: the number of a kit like it in General MIDI 2.
    pub const fn program(self) -> u8 {
        match self {
            Self::Acoustic => 0,
            Self::Electronic => 24,
            Self::BoomBap => 25,
        }
    }

    /// The kit nearest to a program.
    const fn of(program: u8) -> usize {
        match program {
            24 => 1,
            25 => 2,
            _ => 0,
        }
    }
}

/// The drum that comes nearest to a key of General MIDI's percussion.
const fn nearest(key: u8) -> u8 {
    match key {
        0..=36 => KICK,
        37 | 38 | 40 => SNARE,
        39 => CLAP,
        42 | 44 | 54 | 69 | 70 => HAT,
        46 => OPEN_HAT,
        49 | 52 | 55 | 57 => CRASH,
        51 | 53 | 56 | 59 => RIDE,
        _ => TOM,
    }
}

/// What a drum is made of.
#[derive(Clone, Copy)]
struct Recipe {
    /// Hertz of the tone when it begins and after it has fallen, and the seconds in which it falls.
    tone: (f64, f64, f64),
    /// Loudness of the tone and the seconds in which it fades.
    tone_level: (f64, f64),
    /// Loudness of the noise and the seconds in which it fades.
    noise_level: (f64, f64),
    /// 0: all noise; nearer to 1: its high part alone.
    brightness: f64,
}

const fn recipe(kit: Kit, key: u8) -> Recipe {
    let (tone, tone_level, noise_level, brightness) = match (key, kit) {
        (KICK, Kit::Acoustic) => ((150.0, 55.0, 0.03), (0.9, 0.11), (0.15, 0.01), 0.3),
        (KICK, Kit::Electronic) => ((220.0, 46.0, 0.04), (1.0, 0.2), (0.05, 0.006), 0.5),
        (KICK, Kit::BoomBap) => ((120.0, 50.0, 0.05), (1.0, 0.16), (0.1, 0.012), 0.0),
        (SNARE, Kit::BoomBap) => ((180.0, 140.0, 0.05), (0.4, 0.1), (0.7, 0.13), 0.2),
        (SNARE, _) => ((230.0, 185.0, 0.03), (0.35, 0.07), (0.6, 0.1), 0.5),
        (CLAP, _) => ((1000.0, 1000.0, 1.0), (0.0, 0.1), (0.7, 0.08), 0.6),
        (TOM, _) => ((170.0, 110.0, 0.08), (0.8, 0.18), (0.1, 0.03), 0.3),
        (OPEN_HAT, _) => ((6200.0, 6200.0, 1.0), (0.04, 0.1), (0.4, 0.16), 0.95),
        (CRASH, _) => ((4300.0, 4300.0, 1.0), (0.05, 0.5), (0.5, 0.6), 0.85),
        (RIDE, _) => ((5200.0, 5200.0, 1.0), (0.12, 0.35), (0.25, 0.25), 0.9),
        _ => ((7000.0, 7000.0, 1.0), (0.03, 0.03), (0.4, 0.035), 0.95),
    };
    Recipe { tone, tone_level, noise_level, brightness }
}

/// The sounds of all drums, ready to be mixed.
#[derive(Debug, Clone)]
pub struct DrumMachine {
    sample_rate: f64,
    /// By kit, then by drum.
    sounds: Vec<Vec<f32>>,
}

impl DrumMachine {
    /// Drums at `sample_rate` samples per second.
    pub fn new(sample_rate: u32) -> Self {
        let rate = f64::from(sample_rate);
        let sounds =
            Kit::ALL.iter().flat_map(|&kit| DRUM_KEYS.map(|key| sound(recipe(kit, key), u32::from(key), rate)));
        Self { sample_rate: rate, sounds: sounds.collect() }
    }

    /// Adds the drums among `notes` to `samples`, the first of which is at 0 s, `gain` times as loud; others are left out.
    pub fn mix(&self, notes: &[Note], gain: f32, samples: &mut [f32]) {
        for note in notes.iter().filter(|note| note.channel == DRUMS) {
            let key = nearest(note.key);
            let place = DRUM_KEYS.iter().position(|known| *known == key).unwrap_or(0);
            let sound = &self.sounds[Kit::of(note.program) * DRUM_KEYS.len() + place];
            let first = (note.start_seconds.max(0.0) * self.sample_rate).round() as usize;
            let Some(rest) = samples.get_mut(first..) else { continue };
            let strength = gain * (f32::from(note.velocity) / 127.0).powi(2);
            for (sample, drum) in rest.iter_mut().zip(sound) {
                *sample += strength * drum;
            }
        }
    }
}

fn sound(recipe: Recipe, seed: u32, rate: f64) -> Vec<f32> {
    let longest = recipe.tone_level.1.max(recipe.noise_level.1);
    let samples = (longest * 5.0 * rate) as usize;
    let (mut state, mut angle, mut low) = (0x9e37_79b9u32 ^ seed, 0.0f64, 0.0f64);
    let make = |at: usize| {
        // Marsaglia's xorshift, 2003.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let noise = f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0;
        low += (noise - low) * 0.35 * 32_000.0 / rate.max(32_000.0);
        let since = at as f64 / rate;
        let (from, to, fall) = recipe.tone;
        angle += TAU * (to + (from - to) * (-since / fall).exp()) / rate;
        let fade = |(level, seconds): (f64, f64)| level * (-since / seconds).exp();
        let attack = (since * 2000.0).min(1.0);
        let bright = noise - recipe.brightness * low;
        (attack * (fade(recipe.tone_level) * angle.sin() + fade(recipe.noise_level) * bright)) as f32
    };
    (0..samples).map(make).collect()
}
