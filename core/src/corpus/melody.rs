//! The tune: who plays, how high, how densely, how loud.

use super::{Genre, Instrument, MELODY, Mood, Note, compose::Meter, dice::Dice, harmony::Harmony};

/// What a mood asks of a melody.
struct Manner {
    /// Probability that a note begins on a beat, half-way to the next, and at a quarter of the way.
    onsets: [f64; 3],
    /// Velocity of the loudest notes.
    velocity: u8,
    /// Share of the time to the next note for which one is held.
    held: f64,
    /// Middle of the register, 0 lowest to 1 highest.
    register: f64,
    /// Steps of the scale by which it may move at once.
    leap: usize,
}

impl Manner {
    const fn of(mood: Mood) -> Self {
        match mood {
            Mood::Emotional => Self { onsets: [0.7, 0.2, 0.0], velocity: 88, held: 1.0, register: 0.3, leap: 2 },
            Mood::Passionate => Self { onsets: [0.9, 0.5, 0.1], velocity: 118, held: 1.0, register: 0.75, leap: 4 },
            Mood::Groovy => Self { onsets: [0.5, 0.85, 0.35], velocity: 104, held: 0.55, register: 0.45, leap: 3 },
            Mood::Energetic => Self { onsets: [1.0, 0.95, 0.5], velocity: 125, held: 0.8, register: 0.6, leap: 3 },
            Mood::Happy => Self { onsets: [0.95, 0.7, 0.05], velocity: 108, held: 0.6, register: 0.7, leap: 2 },
        }
    }
}

/// The largest sample that a piece of a mood is played with.
pub(super) fn loudness(mood: Mood, dice: &mut Dice) -> f32 {
    let loudest = match mood {
        Mood::Emotional => 0.5,
        Mood::Happy | Mood::Groovy => 0.7,
        Mood::Passionate => 0.8,
        Mood::Energetic => 0.92,
    };
    (loudest * dice.between(0.85, 1.0)) as f32
}

/// The melody of a piece, at least a note a second.
pub(super) fn melody(
    (genre, mood, instrument, program): (Genre, Mood, Instrument, u8),
    meter: &Meter,
    harmony: &Harmony,
    dice: &mut Dice,
) -> Vec<Note> {
    let manner = Manner::of(mood);
    let (low, high) = instrument.range();
    let lowest = low.saturating_sub(7);
    // Steps of the scale that lie within the instrument's range.
    let steps: Vec<usize> = (0..35).filter(|&step| (low..=high).contains(&harmony.key_of(step, lowest))).collect();
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    let centre = first as f64 + manner.register * (last - first) as f64;
    let mut step = centre.round() as usize;
    let mut onsets = vec![];
    for quarter in 0..meter.beats() * 4 {
        // Quarters of a beat are too short to be heard apart at a high tempo, and beats too long at a low one.
        let place = match quarter % 4 {
            0 => 0,
            2 => 1,
            _ => 2,
        };
        let slowed = if meter.bpm < 90.0 { 1.3 } else { 1.0 };
        let fast = if place == 2 && meter.bpm > 140.0 { 0.0 } else { 1.0 };
        let by_chance = dice.happens(manner.onsets[place] * slowed * fast);
        let waited = |&(before, _): &(usize, usize)| meter.seconds_between(before, quarter) > 0.95;
        if by_chance || quarter == 0 || (place == 0 && onsets.last().is_some_and(waited)) {
            onsets.push((quarter, place));
        }
    }
    let mut notes = vec![];
    for (index, &(quarter, place)) in onsets.iter().enumerate() {
        let beat = quarter as f64 / 4.0;
        let start = meter.at(beat, genre);
        let next = onsets.get(index + 1).map_or(meter.beats() as f64, |&(next, _)| next as f64 / 4.0);
        let until = meter.at(next, genre);
        let chord = harmony.degree(meter.chord(beat));
        // Back to the middle the further it has gone.
        let pull = (centre - step as f64) / (last - first).max(1) as f64;
        let up = dice.happens(0.5 + pull);
        let by = 1 + dice.below(manner.leap);
        step = if up { step + by } else { step.saturating_sub(by) }.clamp(first, last);
        if place == 0 {
            step = nearest_of_chord(step, chord, first, last);
        }
        // A passionate melody swells and falls, any other has accents on the beat.
        let swell = match mood {
            Mood::Passionate => 0.8 + 0.2 * (beat * std::f64::consts::FRAC_PI_4).sin(),
            _ if place == 0 => 1.0,
            _ => 0.88,
        };
        let velocity = (f64::from(manner.velocity) * swell * dice.between(0.94, 1.0)).round() as u8;
        notes.push(Note {
            channel: MELODY,
            program,
            key: harmony.key_of(step, lowest),
            velocity: velocity.clamp(1, 127),
            start_seconds: start,
            seconds: ((until - start) * manner.held).clamp(0.06, 2.5),
        });
    }
    notes
}

/// The step nearest to `step` that is in the triad on `degree`.
fn nearest_of_chord(step: usize, degree: usize, first: usize, last: usize) -> usize {
    let in_chord = |step: &usize| matches!((step + 14 - degree) % 7, 0 | 2 | 4);
    (first..=last).filter(in_chord).min_by_key(|other| other.abs_diff(step)).unwrap_or(step)
}
