//! Scales and chords.

use super::{Genre, Key, Mood, dice::Dice};

/// Seven pitch classes above the tonic.
pub(super) type Scale = [u8; 7];

const MAJOR: Scale = [0, 2, 4, 5, 7, 9, 11];
const MIXOLYDIAN: Scale = [0, 2, 4, 5, 7, 9, 10];
const MINOR: Scale = [0, 2, 3, 5, 7, 8, 10];
const HARMONIC_MINOR: Scale = [0, 2, 3, 5, 7, 8, 11];
const DORIAN: Scale = [0, 2, 3, 5, 7, 9, 10];

/// Tonic, scale and the degrees of the scale on which chords stand, one after the other, over and over.
pub(super) struct Harmony {
    pub(super) key: Key,
    pub(super) scale: Scale,
    pub(super) degrees: &'static [usize],
}

impl Harmony {
    /// What a genre and a mood ask for. A mood decides the mode; an energetic piece may be of either.
    pub(super) fn choose(genre: Genre, mood: Mood, dice: &mut Dice) -> Self {
        let tonic = dice.below(12) as u8;
        let either = dice.happens(0.5);
        let minor = match mood {
            Mood::Emotional | Mood::Passionate | Mood::Groovy => true,
            Mood::Happy => false,
            Mood::Energetic => either,
        };
        let scale = match (mood, minor) {
            (Mood::Passionate, _) => HARMONIC_MINOR,
            (Mood::Groovy, _) => DORIAN,
            (_, true) => MINOR,
            (_, false) if genre == Genre::Rock => MIXOLYDIAN,
            (_, false) => MAJOR,
        };
        let degrees: &[&[usize]] = match (genre, minor) {
            (Genre::Pop, false) => &[&[0, 4, 5, 3], &[5, 3, 0, 4]],
            (Genre::Pop, true) => &[&[0, 5, 2, 6], &[5, 6, 0, 0]],
            (Genre::Rock, false) => &[&[0, 6, 3, 0], &[0, 3, 4, 3]],
            (Genre::Rock, true) => &[&[0, 5, 6, 0], &[0, 6, 5, 6]],
            (Genre::Jazz, _) => &[&[1, 4, 0, 5], &[0, 5, 1, 4], &[2, 5, 1, 4]],
            (Genre::Classical, _) => &[&[0, 3, 4, 0], &[0, 4, 0, 4], &[0, 5, 3, 4]],
            (Genre::Electronic, false) => &[&[0, 4, 5, 3], &[0, 0, 3, 3]],
            (Genre::Electronic, true) => &[&[0, 5, 2, 6], &[0, 0, 5, 6]],
            (Genre::Hiphop, _) => &[&[0, 0, 3, 3], &[0, 5], &[0, 3]],
        };
        Self { key: Key { tonic, minor }, scale, degrees: dice.pick(degrees) }
    }

    /// Degree of the chord number `chord`, counted from the beginning.
    pub(super) fn degree(&self, chord: usize) -> usize {
        self.degrees[chord % self.degrees.len()]
    }

    /// MIDI key of a step of the scale: step 0 is the tonic at or above `lowest`.
    pub(super) fn key_of(&self, step: usize, lowest: u8) -> u8 {
        let above = (self.key.tonic + 12 - lowest % 12) % 12;
        (lowest + above + 12 * (step / 7) as u8 + self.scale[step % 7]).min(127)
    }

    /// Keys of `count` thirds on a degree, in close position at or above `lowest`: 3 are a triad, 4 a seventh chord.
    pub(super) fn chord(&self, degree: usize, count: usize, lowest: u8) -> Vec<u8> {
        let mut keys: Vec<u8> = (0..count)
            .map(|third| {
                let class = (self.key.tonic + self.scale[(degree + 2 * third) % 7]) % 12;
                lowest + (class + 12 - lowest % 12) % 12
            })
            .collect();
        keys.sort_unstable();
        keys
    }
}
