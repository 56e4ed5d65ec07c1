//! What stands under a melody: drums, bass and chords of a genre.

use super::{
    BASS, CHORDS, DRIVEN, DRUMS, FIGURES, Genre, Mood, Note,
    compose::Meter,
    dice::Dice,
    harmony::Harmony,
    percussion::{CLAP, CRASH, HAT, KICK, Kit, OPEN_HAT, RIDE, SNARE},
};

/// Lowest key of a bass, of chords, of figures.
const BASS_FROM: u8 = 31;
const CHORDS_FROM: u8 = 52;
const FIGURES_FROM: u8 = 60;

/// Notes as they are added.
struct Band<'a> {
    genre: Genre,
    meter: &'a Meter,
    harmony: &'a Harmony,
    /// What velocities are multiplied with.
    strength: f64,
    notes: Vec<Note>,
}

impl Band<'_> {
    /// A note from `beat` on for `beats`.
    fn add(&mut self, (channel, program): (u8, u8), key: u8, velocity: u8, beat: f64, beats: f64) {
        let start_seconds = self.meter.at(beat, self.genre);
        let velocity = (f64::from(velocity) * self.strength).round().clamp(1.0, 127.0) as u8;
        let seconds = (beats * 60.0 / self.meter.bpm).max(0.03);
        self.notes.push(Note { channel, program, key, velocity, start_seconds, seconds });
    }

    fn drum(&mut self, kit: Kit, key: u8, velocity: u8, beat: f64) {
        self.add((DRUMS, kit.program()), key, velocity, beat, 0.25);
    }

    /// Beats on which chords begin, with their degree.
    fn chords(&self) -> Vec<(f64, usize)> {
        let chords = (0..self.meter.beats()).step_by(self.meter.chord_beats());
        chords.map(|beat| (beat as f64, self.harmony.degree(self.meter.chord(beat as f64)))).collect()
    }

    fn degree(&self, beat: f64) -> usize {
        self.harmony.degree(self.meter.chord(beat))
    }

    /// Root of the chord at `beat`, as a bass.
    fn root(&self, beat: f64) -> u8 {
        self.harmony.chord(self.degree(beat), 1, BASS_FROM)[0]
    }

    /// Chords that are held as long as they last.
    fn pad(&mut self, program: u8, count: usize, velocity: u8) {
        let beats = self.meter.chord_beats() as f64;
        for (beat, degree) in self.chords() {
            for key in self.harmony.chord(degree, count, CHORDS_FROM) {
                self.add((CHORDS, program), key, velocity, beat, beats * 0.97);
            }
        }
    }
}

/// Drums, bass and chords of `genre` for the length of `meter`.
pub(super) fn accompaniment(genre: Genre, mood: Mood, meter: &Meter, harmony: &Harmony, dice: &mut Dice) -> Vec<Note> {
    let strength = match mood {
        Mood::Emotional => 0.8,
        Mood::Happy => 0.95,
        Mood::Passionate | Mood::Groovy => 1.0,
        Mood::Energetic => 1.1,
    };
    let mut band = Band { genre, meter, harmony, strength, notes: vec![] };
    match genre {
        Genre::Rock => rock(&mut band, dice),
        Genre::Pop => pop(&mut band, dice),
        Genre::Electronic => electronic(&mut band, dice),
        Genre::Jazz => jazz(&mut band, dice),
        Genre::Classical => classical(&mut band, dice),
        Genre::Hiphop => hiphop(&mut band, dice),
    }
    band.notes
}

/// Fifths on driven guitars in eighths, snare on two and four.
fn rock(band: &mut Band<'_>, dice: &mut Dice) {
    let gallop = dice.happens(0.5);
    band.drum(Kit::Acoustic, CRASH, 74, 0.0);
    for half in 0..band.meter.beats() * 2 {
        let beat = half as f64 / 2.0;
        let root = band.root(beat);
        for key in [root + 12, root + 19, root + 24] {
            let accent = if half % 2 == 0 { 66 } else { 54 };
            band.add((DRIVEN, 27), key, accent, beat, if half % 8 == 0 { 0.5 } else { 0.4 });
        }
        band.add((BASS, 33), root, 74, beat, 0.45);
        band.drum(Kit::Acoustic, HAT, if half % 2 == 0 { 60 } else { 46 }, beat);
        match half % 8 {
            0 | 4 => band.drum(Kit::Acoustic, KICK, 104, beat),
            5 if gallop => band.drum(Kit::Acoustic, KICK, 90, beat),
            2 | 6 => band.drum(Kit::Acoustic, SNARE, 106, beat),
            _ => {}
        }
    }
}

/// Held chords, a bass on the beat, a light beat.
fn pop(band: &mut Band<'_>, dice: &mut Dice) {
    let pad = dice.pick(&[91, 51, 52]);
    band.pad(pad, 3, 62);
    let strummed = dice.happens(0.5);
    for half in 0..band.meter.beats() * 2 {
        let beat = half as f64 / 2.0;
        if strummed && half % 2 == 1 {
            for key in band.harmony.chord(band.degree(beat), 3, FIGURES_FROM) {
                band.add((FIGURES, 24), key, 48, beat, 0.4);
            }
        }
        band.drum(Kit::Acoustic, HAT, 40, beat);
        match half % 8 {
            0 | 3 => {
                band.drum(Kit::Acoustic, KICK, 84, beat);
                band.add((BASS, 33), band.root(beat), 70, beat, 0.9);
            }
            2 | 6 => band.drum(Kit::Electronic, CLAP, 72, beat),
            4 => band.add((BASS, 33), band.root(beat), 66, beat, 1.4),
            _ => {}
        }
    }
}

/// A kick on every beat, the bass between, arpeggios in quarters of a beat.
fn electronic(band: &mut Band<'_>, dice: &mut Dice) {
    let (bass, lead) = (dice.pick(&[38, 39]), dice.pick(&[81, 80, 87]));
    let turn = dice.pick(&[[0usize, 1, 2, 1], [0, 1, 2, 3], [2, 1, 0, 1]]);
    for quarter in 0..band.meter.beats() * 4 {
        let beat = quarter as f64 / 4.0;
        let mut chord = band.harmony.chord(band.degree(beat), 3, FIGURES_FROM);
        chord.push(chord[0] + 12);
        band.add((FIGURES, lead), chord[turn[quarter % 4]], 46, beat, 0.2);
        match quarter % 4 {
            0 => {
                band.drum(Kit::Electronic, KICK, 118, beat);
                if quarter % 8 == 4 {
                    band.drum(Kit::Electronic, CLAP, 84, beat);
                }
            }
            2 => {
                band.drum(Kit::Electronic, OPEN_HAT, 66, beat);
                band.add((BASS, bass), band.root(beat), 84, beat, 0.4);
            }
            _ => {
                band.drum(Kit::Electronic, HAT, 40, beat);
                band.add((BASS, bass), band.root(beat), 70, beat, 0.2);
            }
        }
    }
}

/// A bass that walks, sevenths off the beat, a ride cymbal.
fn jazz(band: &mut Band<'_>, dice: &mut Dice) {
    let comp = dice.pick(&[27, 11, 16]);
    for beat in 0..band.meter.beats() {
        let at = beat as f64;
        let degree = band.degree(at);
        let next = band.root(at + 1.0);
        let root = band.root(at);
        let key = match beat % band.meter.chord_beats() {
            0 => root,
            // A half tone from where it goes.
            last if last + 1 == band.meter.chord_beats() => {
                if dice.happens(0.5) {
                    next + 1
                } else {
                    next - 1
                }
            }
            _ => root + dice.pick(&[3, 4, 7, 10]),
        };
        band.add((BASS, 32), key, 84, at, 0.95);
        band.drum(Kit::Acoustic, RIDE, 66, at);
        if beat % 2 == 1 {
            band.drum(Kit::Acoustic, RIDE, 52, at + 0.5);
            band.drum(Kit::Acoustic, HAT, 52, at);
        }
        if dice.happens(0.12) {
            band.drum(Kit::Acoustic, SNARE, 40, at + 0.5);
        }
        let offbeat = dice.happens(0.55);
        if offbeat || beat % 4 == 0 {
            let (from, length) = if offbeat { (at + 0.5, 0.3) } else { (at, 0.8) };
            for key in band.harmony.chord(degree, 4, CHORDS_FROM) {
                band.add((CHORDS, comp), key, 50, from, length);
            }
        }
    }
}

/// Broken chords under strings.
fn classical(band: &mut Band<'_>, dice: &mut Dice) {
    let figure = dice.pick(&[6, 6, 46]);
    let turn = dice.pick(&[[0usize, 2, 1, 2], [0, 1, 2, 1]]);
    band.pad(dice.pick(&[50, 51]), 3, 46);
    for half in 0..band.meter.beats() * 2 {
        let beat = half as f64 / 2.0;
        let chord = band.harmony.chord(band.degree(beat), 3, CHORDS_FROM);
        band.add((FIGURES, figure), chord[turn[half % 4]], 62, beat, 0.5);
    }
    for (beat, degree) in band.chords() {
        let root = band.harmony.chord(degree, 1, BASS_FROM + 7)[0];
        band.add((BASS, 70), root, 58, beat, band.meter.chord_beats() as f64 * 0.9);
    }
}

/// Boom-bap: at half time where the tempo is high, so that it stays slow.
fn hiphop(band: &mut Band<'_>, dice: &mut Dice) {
    let slower = if band.meter.bpm > 110.0 { 2.0 } else { 1.0 };
    let pattern = dice.pick(&[[0usize, 7, 10, 16], [0, 3, 10, 16], [0, 6, 9, 11]]);
    let chords = dice.pick(&[5, 11, 54]);
    for quarter in 0..(band.meter.beats() as f64 * 4.0 / slower).ceil() as usize {
        let beat = quarter as f64 / 4.0 * slower;
        let place = quarter % 16;
        if pattern.contains(&place) {
            band.drum(Kit::BoomBap, KICK, 118, beat);
            band.add((BASS, 39), band.root(beat), 100, beat, 0.8 * slower);
        }
        match place {
            4 | 12 => band.drum(Kit::BoomBap, SNARE, 112, beat),
            place if place % 2 == 0 => band.drum(Kit::BoomBap, HAT, 56, beat),
            15 if dice.happens(0.5) => band.drum(Kit::BoomBap, HAT, 44, beat),
            _ => {}
        }
        if place == 0 || place == 6 {
            for key in band.harmony.chord(band.degree(beat), 4, CHORDS_FROM) {
                band.add((CHORDS, chords), key, 48, beat, if place == 0 { 1.2 } else { 0.5 });
            }
        }
    }
}
