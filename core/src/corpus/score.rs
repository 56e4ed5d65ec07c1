//! Standard MIDI files, cut to phrases.
//!
//! Parsed by `midly`, which takes what it can of a damaged file; what this module adds is bounded: so many notes, so many
//! seconds, whatever the file says.

use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
use serde::Serialize;

use super::{DRIVEN, DRUMS, Instrument, Note};

/// Most notes of a score; the longest symphonies have fewer.
const MOST_NOTES: usize = 200_000;
/// Longest score, in seconds.
const LONGEST: f64 = 4.0 * 3600.0;
/// Beats per minute where a score names none.
const USUAL_BPM: f64 = 120.0;
/// An excerpt with fewer notes is none.
const FEWEST_NOTES: usize = 4;
/// Shortest and longest note, in seconds.
const HELD: (f64, f64) = (0.03, 10.0);
/// A channel that goes through no amplifier, for those that would.
const SPARE: u8 = 15;

/// A score that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// Not a Standard MIDI file, or one beyond use.
    #[error("not a Standard MIDI file: {reason}")]
    NotMidi {
        /// What was found.
        reason: String,
    },
    /// A file that sounds nothing.
    #[error("the score has no notes")]
    Empty,
    /// More notes than any score has.
    #[error("the score has more than {MOST_NOTES} notes")]
    TooMany,
}

/// The notes of a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In the order of their beginnings.
    notes: Vec<Note>,
    /// When tempi begin, in seconds, with their beats per minute.
    tempi: Vec<(f64, f64)>,
}

/// Some seconds of a score, and what is known of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Excerpt {
    /// Number of the excerpt within its score, from 0.
    pub number: usize,
    /// Beats per minute at its beginning.
    pub bpm: f64,
    /// The instrument with the highest voice, where it is one of [`Instrument`].
    pub instrument: Option<Instrument>,
    /// Length in seconds.
    pub seconds: f64,
    /// In the order of their beginnings, counted from its own.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// Something that happens at a tick.
enum Event {
    Tempo(f64),
    Program(u8, u8),
    On(u8, u8, u8),
    Off(u8, u8),
}

impl Score {
    /// The score in `bytes`, a Standard MIDI file of format 0 or 1; tracks of format 2 are played at once as well.
    ///
    /// # Errors
    /// [`ScoreError`], for whatever bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScoreError> {
        let file = Smf::parse(bytes).map_err(|error| ScoreError::NotMidi { reason: error.to_string() })?;
        let mut events = events(&file);
        // Of what happens at once, tempo and program come first, and keys are let go before they are struck.
        let rank = |event: &Event| match event {
            Event::Tempo(_) | Event::Program(..) => 0,
            Event::Off(..) => 1,
            Event::On(..) => 2,
        };
        events.sort_by_key(|(tick, event)| (*tick, rank(event)));
        let (beats_per_tick, timecode) = match file.header.timing {
            Timing::Metrical(ticks) => (1.0 / f64::from(ticks.as_int().max(1)), None),
            Timing::Timecode(frames, ticks) => {
                (0.0, Some(1.0 / (f64::from(frames.as_f32()) * f64::from(ticks.max(1)))))
            }
        };
        let (mut now, mut before, mut bpm) = (0.0, 0u64, USUAL_BPM);
        let (mut programs, mut open) = ([0u8; 16], vec![[None::<usize>; 128]; 16]);
        let (mut notes, mut tempi): (Vec<Note>, _) = (vec![], vec![(0.0, USUAL_BPM)]);
        for (tick, event) in events {
            let passed = (tick - before) as f64;
            now += timecode.map_or_else(|| passed * beats_per_tick * 60.0 / bpm, |seconds| passed * seconds);
            before = tick;
            if now > LONGEST {
                break;
            }
            match event {
                Event::Tempo(beats) => {
                    bpm = beats;
                    tempi.push((now, bpm));
                }
                Event::Program(channel, program) => programs[usize::from(channel)] = program,
                Event::On(channel, key, velocity) => {
                    let place = &mut open[usize::from(channel)][usize::from(key)];
                    let_go(&mut notes, place.take(), now);
                    if notes.len() == MOST_NOTES {
                        return Err(ScoreError::TooMany);
                    }
                    *place = Some(notes.len());
                    let program = programs[usize::from(channel)];
                    let channel = if channel == DRIVEN { SPARE } else { channel };
                    notes.push(Note { channel, program, key, velocity, start_seconds: now, seconds: HELD.1 });
                }
                Event::Off(channel, key) => {
                    let_go(&mut notes, open[usize::from(channel)][usize::from(key)].take(), now);
                }
            }
        }
        if notes.is_empty() { Err(ScoreError::Empty) } else { Ok(Self { notes, tempi }) }
    }

    /// Length in seconds, to the beginning of the last note.
    pub fn seconds(&self) -> f64 {
        self.notes.last().map_or(0.0, |note| note.start_seconds)
    }

    /// The score in pieces of `seconds` (at least 0.1), one after the other; those with hardly any notes are left out. A note
    /// belongs to the piece in which it begins.
    pub fn excerpts(&self, seconds: f64) -> Vec<Excerpt> {
        let seconds = if seconds.is_finite() { seconds.max(0.1) } else { LONGEST };
        let mut excerpts: Vec<Excerpt> = vec![];
        let number = |note: &Note| (note.start_seconds / seconds) as usize;
        for group in self.notes.chunk_by(|one, other| number(one) == number(other)) {
            if group.len() < FEWEST_NOTES {
                continue;
            }
            let number = number(&group[0]);
            let begin = number as f64 * seconds;
            let tempo = self.tempi.iter().rev().find(|(from, _)| *from <= group[0].start_seconds);
            let shifted = |note: &Note| Note { start_seconds: (note.start_seconds - begin).max(0.0), ..*note };
            excerpts.push(Excerpt {
                number,
                bpm: tempo.map_or(USUAL_BPM, |(_, bpm)| *bpm),
                instrument: leader(group),
                seconds,
                notes: group.iter().map(shifted).collect(),
            });
        }
        excerpts
    }
}

/// What the file's tracks say, with absolute ticks.
fn events(file: &Smf<'_>) -> Vec<(u64, Event)> {
    let mut events = vec![];
    for track in &file.tracks {
        let mut tick = 0u64;
        for event in track {
            tick += u64::from(event.delta.as_int());
            let event = match event.kind {
                TrackEventKind::Meta(MetaMessage::Tempo(micros)) => {
                    // Slower than 4 and faster than 1000 is no music.
                    Event::Tempo((6e7 / f64::from(micros.as_int().max(1))).clamp(4.0, 1000.0))
                }
                TrackEventKind::Midi { channel, message } => match message {
                    MidiMessage::ProgramChange { program } => Event::Program(channel.as_int(), program.as_int()),
                    MidiMessage::NoteOn { key, vel } if vel.as_int() > 0 => {
                        Event::On(channel.as_int(), key.as_int(), vel.as_int())
                    }
                    MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => {
                        Event::Off(channel.as_int(), key.as_int())
                    }
                    _ => continue,
                },
                _ => continue,
            };
            events.push((tick, event));
        }
    }
    events
}

/// Ends the note number `index`.
fn let_go(notes: &mut [Note], index: Option<usize>, now: f64) {
    if let Some(note) = index.and_then(|index| notes.get_mut(index)) {
        note.seconds = (now - note.start_seconds).clamp(HELD.0, HELD.1);
    }
}

/// The instrument of the channel whose keys are highest on average, of those that play a quarter of the notes or more.
fn leader(notes: &[Note]) -> Option<Instrument> {
    let mut sums = [(0usize, 0usize); 16];
    for note in notes.iter().filter(|note| note.channel != DRUMS) {
        let (count, sum) = &mut sums[usize::from(note.channel)];
        *count += 1;
        *sum += usize::from(note.key);
    }
    let tuned: usize = sums.iter().map(|(count, _)| count).sum();
    let voices = sums.iter().enumerate().filter(|(_, (count, _))| *count > 0 && count * 4 >= tuned);
    let (channel, _) = voices.max_by(|(_, one), (_, other)| (one.1 * other.0).cmp(&(other.1 * one.0)))?;
    let note = notes.iter().find(|note| usize::from(note.channel) == channel)?;
    Instrument::of_program(note.program)
}
