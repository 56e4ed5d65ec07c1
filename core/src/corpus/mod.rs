//! Music of which everything is known: phrases that a seed composes, sentences about them, and scores from outside.
//!
//! A [`Phrase`] is a list of [`Note`]s for a General MIDI synthesiser, with the instrument, genre, mood, tempo and key
//! that it was composed to have. [`phrase`] is a pure function of its arguments: nothing needs to be stored. Drums are
//! notes on [`DRUMS`], which [`percussion`] turns into sound; all others are for a soundfont, which is the caller's.

mod accompaniment;
mod caption;
mod compose;
mod dice;
mod harmony;
mod melody;
pub mod percussion;
mod score;
mod split;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use caption::{CAPTION_VARIANTS, caption, caption_of_score};
pub use compose::phrase;
pub use score::{Excerpt, Score, ScoreError};
pub use split::Split;
pub use words::{Genre, Instrument, Mood, Tempo, UnknownWord};

/// Channel of the melody.
pub const MELODY: u8 = 0;
/// Channel of chords.
pub const CHORDS: u8 = 1;
/// Channel of the bass.
pub const BASS: u8 = 2;
/// Channel of what is played through a distorting amplifier.
pub const DRIVEN: u8 = 3;
/// Channel of arpeggios and second voices.
pub const FIGURES: u8 = 4;
/// Channel of drums, as in General MIDI.
pub const DRUMS: u8 = 9;

/// A key on a channel, for some time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Note {
    /// 0 to 15; [`DRUMS`] are drums, [`DRIVEN`] is distorted.
    pub channel: u8,
    /// General MIDI program, from 0; of drums the kit, see [`percussion::Kit`].
    pub program: u8,
    /// MIDI key, 0 to 127; 60 is middle C.
    pub key: u8,
    /// MIDI velocity, 1 to 127.
    pub velocity: u8,
    /// When it begins, in seconds.
    pub start_seconds: f64,
    /// How long it is held, in seconds.
    pub seconds: f64,
}

/// Tonic and mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Pitch class: 0 is C, 11 is B.
    pub tonic: u8,
    /// Minor or Dorian, not major.
    pub minor: bool,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 12] = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
        let mode = if self.minor { "minor" } else { "major" };
        write!(formatter, "{} {mode}", NAMES[usize::from(self.tonic % 12)])
    }
}

/// What a phrase must be; what is `None` is chosen by the seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How the accompaniment is played.
    pub genre: Option<Genre>,
    /// How the melody is.
    pub mood: Option<Mood>,
    /// Who plays the melody.
    pub instrument: Option<Instrument>,
    /// How fast.
    pub tempo: Option<Tempo>,
    /// The melody alone.
    pub solo: bool,
}

impl Wanted {
    /// What a concept's name asks for: a genre, an instrument, a mood or a tempo.
    ///
    /// # Errors
    /// [`UnknownWord`] for any other word.
    pub fn concept(word: &str) -> Result<Self, UnknownWord> {
        let wanted = Self {
            genre: word.parse().ok(),
            mood: word.parse().ok(),
            instrument: word.parse().ok(),
            tempo: word.parse().ok(),
            solo: false,
        };
        if wanted != Self::default() {
            return Ok(wanted);
        }
        let known = Instrument::ALL.iter().map(|word| word.name());
        let known =
            known.chain(Genre::ALL.iter().map(|word| word.name())).chain(Mood::ALL.iter().map(|word| word.name()));
        let known: Vec<&str> = known.chain(Tempo::ALL.iter().map(|word| word.name())).collect();
        Err(UnknownWord::new("concept", word, known.join(", ")))
    }
}

/// A few bars of music and what they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phrase {
    /// What it was made of; also says the [`Split`].
    pub seed: u64,
    /// How the accompaniment is played.
    pub genre: Genre,
    /// How the melody is.
    pub mood: Mood,
    /// Who plays the melody.
    pub instrument: Instrument,
    /// General MIDI program, from 0, of the melody.
    pub program: u8,
    /// How fast, in a word.
    pub tempo: Tempo,
    /// The melody alone: of the genre there is no more than its rhythm and its harmony.
    pub solo: bool,
    /// Beats per minute.
    pub bpm: f64,
    /// Tonic and mode.
    pub key: Key,
    /// Length in seconds.
    pub seconds: f64,
    /// The largest sample that it is to be played with, 0 to 1.
    pub loudness: f32,
    /// In the order of their beginnings.
    #[serde(skip)]
    pub notes: Vec<Note>,
}
