//! What a phrase can be about: the words of the ISMIR 2024 paper's template, and hip hop.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// A word that names no concept of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} is called `{word}`; there are {known}")]
pub struct UnknownWord {
    kind: &'static str,
    word: String,
    known: String,
}

impl UnknownWord {
    pub(super) fn new(kind: &'static str, word: &str, known: impl Into<String>) -> Self {
        Self { kind, word: word.chars().take(60).collect(), known: known.into() }
    }
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident, $kind:literal: $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands in a prompt.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let known = || Self::ALL.iter().map(|known| known.name()).collect::<Vec<_>>().join(", ");
                Self::ALL.iter().copied().find(|known| known.name() == word).ok_or_else(|| {
                    UnknownWord::new($kind, word, known())
                })
            }
        }
    };
}

words! {
    /// How the accompaniment is played.
    Genre, "genre":
    /// Driven guitars in fifths, a backbeat.
    Rock = "rock",
    /// I–V–vi–IV, pads, a light beat.
    Pop = "pop",
    /// Four on the floor, a sawtooth bass, arpeggios.
    Electronic = "electronic",
    /// Swing, a walking bass, sevenths, a ride cymbal.
    Jazz = "jazz",
    /// Strings, broken chords of a harpsichord, no drums.
    Classical = "classical",
    /// Boom-bap at half time, a sparse low bass.
    Hiphop = "hiphop",
}

words! {
    /// Mode, register, density and loudness of the melody.
    Mood, "mood":
    /// Minor, low, sparse, soft, held.
    Emotional = "emotional",
    /// Harmonic minor, high, with leaps and swells.
    Passionate = "passionate",
    /// Dorian, syncopated, short.
    Groovy = "groovy",
    /// Dense, loud, fast notes.
    Energetic = "energetic",
    /// Major, high, bouncing.
    Happy = "happy",
}

words! {
    /// Who plays the melody.
    Instrument, "instrument":
    /// Plucked strings.
    Guitar = "guitar",
    /// The nearest that the soundfont has: an electric piano.
    Piano = "piano",
    /// Trumpet.
    Trumpet = "trumpet",
    /// Violin.
    Violin = "violin",
    /// Flute.
    Flute = "flute",
}

words! {
    /// Named ranges of beats per minute that follow each other without a gap.
    Tempo, "tempo":
    /// 144 to 176.
    Fast = "fast",
    /// 96 to 120.
    Medium = "medium",
    /// 60 to 76.
    Slow = "slow",
    /// 76 to 96.
    SlowToMedium = "slow to medium",
    /// 120 to 144.
    MediumToFast = "medium to fast",
}

impl Tempo {
    /// Beats per minute, from and to.
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::Slow => (60.0, 76.0),
            Self::SlowToMedium => (76.0, 96.0),
            Self::Medium => (96.0, 120.0),
            Self::MediumToFast => (120.0, 144.0),
            Self::Fast => (144.0, 176.0),
        }
    }

    /// What `bpm` beats per minute are called; beyond all ranges the nearest.
    pub fn of(bpm: f64) -> Self {
        let order = [Self::Slow, Self::SlowToMedium, Self::Medium, Self::MediumToFast];
        order.into_iter().find(|tempo| bpm < tempo.range().1).unwrap_or(Self::Fast)
    }
}

impl Instrument {
    /// General MIDI programs, from 0, that play it; those of `held_out` are in no other phrase's melody.
    ///
    /// The soundfont that comes along has no acoustic piano (0) and one violin: electric piano 2 (5) stands for a piano,
    /// with the clavinet (7) held out, and synthetic strings (50) are the violin that is held out.
    pub const fn programs(self, held_out: bool) -> &'static [u8] {
        match (self, held_out) {
            (Self::Guitar, false) => &[24, 27],
            (Self::Guitar, true) => &[28],
            (Self::Piano, false) => &[5],
            (Self::Piano, true) => &[7],
            (Self::Trumpet, false) => &[56],
            (Self::Trumpet, true) => &[59],
            (Self::Violin, false) => &[40],
            (Self::Violin, true) => &[50],
            (Self::Flute, false) => &[73, 75],
            (Self::Flute, true) => &[79],
        }
    }

    /// The instrument that General MIDI's program `program`, from 0, is, among these.
    pub const fn of_program(program: u8) -> Option<Self> {
        match program {
            0..=7 => Some(Self::Piano),
            24..=31 => Some(Self::Guitar),
            40 => Some(Self::Violin),
            56 | 59 => Some(Self::Trumpet),
            72..=79 => Some(Self::Flute),
            _ => None,
        }
    }

    /// What it is among the families of NSynth.
    pub const fn family(self) -> &'static str {
        match self {
            Self::Guitar => "guitar",
            Self::Piano => "keyboard",
            Self::Trumpet => "brass",
            Self::Violin => "string",
            Self::Flute => "flute",
        }
    }

    /// Keys in which it is at home, both ends included.
    pub(super) const fn range(self) -> (u8, u8) {
        match self {
            Self::Guitar => (52, 78),
            Self::Piano => (58, 86),
            Self::Trumpet => (58, 80),
            Self::Violin => (62, 90),
            Self::Flute => (67, 93),
        }
    }
}
