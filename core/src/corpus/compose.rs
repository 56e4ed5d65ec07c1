//! From a seed to a phrase.

use super::{
    Genre, Instrument, Mood, Note, Phrase, Split, Tempo, Wanted, accompaniment::accompaniment, dice::Dice,
    harmony::Harmony, melody,
};

/// What random numbers are drawn for.
const CONCEPTS: u64 = 0;
const HARMONY: u64 = 1;
const TUNE: u64 = 2;
const BAND: u64 = 3;

/// Longest phrase, in seconds.
const LONGEST: f64 = 600.0;

/// Beats and seconds.
pub(super) struct Meter {
    pub(super) bpm: f64,
    pub(super) seconds: f64,
}

impl Meter {
    /// Beats that begin before the end.
    pub(super) fn beats(&self) -> usize {
        (self.seconds * self.bpm / 60.0).ceil() as usize
    }

    /// When a beat is, in seconds; jazz swings: what is half-way to the next beat comes after two thirds.
    pub(super) fn at(&self, beat: f64, genre: Genre) -> f64 {
        let within = beat.fract();
        let swung = match genre {
            Genre::Jazz if within < 0.5 => within * 4.0 / 3.0,
            Genre::Jazz => 2.0 / 3.0 + (within - 0.5) * 2.0 / 3.0,
            Genre::Hiphop if within == 0.25 || within == 0.75 => within + 0.05,
            _ => within,
        };
        (beat.floor() + swung) * 60.0 / self.bpm
    }

    /// Number of the chord at a beat: two a bar where bars are long, so that four seconds have more than one.
    pub(super) fn chord(&self, beat: f64) -> usize {
        let beats = if self.bpm < 110.0 { 2.0 } else { 4.0 };
        (beat / beats) as usize
    }

    /// Beats for which a chord lasts.
    pub(super) fn chord_beats(&self) -> usize {
        if self.bpm < 110.0 { 2 } else { 4 }
    }

    /// Seconds between two quarters of a beat.
    pub(super) fn seconds_between(&self, from: usize, to: usize) -> f64 {
        (to - from) as f64 / 4.0 * 60.0 / self.bpm
    }
}

/// The phrase of `seed` that is what is `wanted`, `seconds` long: the same arguments give the same phrase everywhere.
///
/// What is wanted changes nothing of what the seed chooses besides. Melody instruments are those of the seed's [`Split`].
/// `seconds` is brought within 0.1 and 600.
pub fn phrase(seed: u64, wanted: &Wanted, seconds: f64) -> Phrase {
    let seconds = if seconds.is_finite() { seconds.clamp(0.1, LONGEST) } else { LONGEST };
    let mut dice = Dice::new(seed, CONCEPTS);
    let [genre, mood, instrument] =
        [Genre::ALL.len(), Mood::ALL.len(), Instrument::ALL.len()].map(|len| dice.below(len));
    let genre = wanted.genre.unwrap_or(Genre::ALL[genre]);
    let mood = wanted.mood.unwrap_or(Mood::ALL[mood]);
    let instrument = wanted.instrument.unwrap_or(Instrument::ALL[instrument]);
    let usual = usual_tempo(genre, &mut dice);
    let tempo = wanted.tempo.unwrap_or(usual);
    let (slowest, fastest) = tempo.range();
    // Away from the ends, where one word would be as good as the next.
    let bpm = slowest + dice.between(0.1, 0.9) * (fastest - slowest);
    let program = dice.pick(instrument.programs(Split::of_seed(seed) == Split::Test));
    let loudness = melody::loudness(mood, &mut dice);
    let meter = Meter { bpm, seconds };
    let harmony = Harmony::choose(genre, mood, &mut Dice::new(seed, HARMONY));
    let mut notes = melody::melody((genre, mood, instrument, program), &meter, &harmony, &mut Dice::new(seed, TUNE));
    if !wanted.solo {
        notes.extend(accompaniment(genre, mood, &meter, &harmony, &mut Dice::new(seed, BAND)));
    }
    notes.retain(|note| note.start_seconds < seconds);
    notes.sort_by(|one, other| order(one).partial_cmp(&order(other)).unwrap_or(std::cmp::Ordering::Equal));
    let (solo, key) = (wanted.solo, harmony.key);
    Phrase { seed, genre, mood, instrument, program, tempo, solo, bpm, key, seconds, loudness, notes }
}

fn order(note: &Note) -> (f64, u8, u8) {
    (note.start_seconds, note.channel, note.key)
}

/// Tempi that a genre mostly has.
fn usual_tempo(genre: Genre, dice: &mut Dice) -> Tempo {
    let any = dice.pick(Tempo::ALL);
    let usual: &[Tempo] = match genre {
        Genre::Rock => &[Tempo::Medium, Tempo::MediumToFast, Tempo::Fast],
        Genre::Pop => &[Tempo::SlowToMedium, Tempo::Medium, Tempo::MediumToFast],
        Genre::Electronic => &[Tempo::MediumToFast, Tempo::Fast],
        Genre::Jazz => &[Tempo::SlowToMedium, Tempo::Medium, Tempo::Fast],
        Genre::Classical => Tempo::ALL,
        Genre::Hiphop => &[Tempo::Slow, Tempo::SlowToMedium],
    };
    let usual = dice.pick(usual);
    if dice.happens(0.3) { any } else { usual }
}
