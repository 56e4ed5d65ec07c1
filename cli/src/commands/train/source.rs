//! Where the music comes from.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use rustysynth::{SoundFont, Synthesizer, SynthesizerSettings};
use tonoscope_core::training::{Clip, StepKey, harmonics};

use super::settings::Music;
use crate::commands::data::{BUILT_IN, Kind, Soundfont};

/// Who plays the melody, and by which General MIDI programs.
const SOLOISTS: [(&str, &[u8]); 9] = [
    ("guitar", &[24, 27, 28, 31]),
    ("piano", &[5]),
    ("trumpet", &[56, 59]),
    ("violin", &[40]),
    ("flute", &[73, 75]),
    ("organ", &[16, 20]),
    ("vibraphone", &[11]),
    ("saxophone", &[65]),
    ("synthesizer", &[80, 81]),
];
/// Beats per minute, from and to.
const TEMPI: [(&str, f64, f64); 3] = [("slow", 60.0, 80.0), ("medium", 95.0, 120.0), ("fast", 140.0, 175.0)];
/// Moods: the scale, how many of eight beats sound, and how loud.
const MOODS: [(&str, [u8; 7], u64, u8); 4] = [
    ("happy", [0, 2, 4, 5, 7, 9, 11], 6, 100),
    ("energetic", [0, 2, 4, 5, 7, 9, 10], 8, 120),
    ("emotional", [0, 2, 3, 5, 7, 8, 10], 4, 80),
    ("calm", [0, 2, 3, 5, 7, 9, 10], 3, 70),
];
/// Chords, as steps of the scale.
const CHORDS: [[usize; 4]; 4] = [[0, 4, 5, 3], [0, 5, 3, 4], [5, 3, 0, 4], [1, 4, 0, 0]];

/// A kind of music, ready to be heard.
pub(super) enum Source {
    Harmonics,
    /// Melody, chords and bass by the instruments of a soundfont.
    Soundfont {
        font: Arc<SoundFont>,
        programs: Vec<u8>,
    },
}

/// Something that happens while a clip plays.
struct Event {
    sample: usize,
    channel: i32,
    key: u8,
    /// 0: let go.
    velocity: u8,
}

impl Source {
    pub(super) fn open(music: Music) -> Result<Self> {
        match music {
            Music::Harmonics => Ok(Self::Harmonics),
            Music::Soundfont => {
                let font = Soundfont::read(BUILT_IN, &|program| Kind::of(program).is_some())
                    .context("the soundfont inside the program")?;
                let programs = font.programs.iter().map(|&program| program as u8).collect();
                Ok(Self::Soundfont { font: font.font, programs })
            }
        }
    }

    /// The clip `index` of the music of `seed`, mono; the caption does not depend on its length.
    pub(super) fn clip(&self, seed: u64, index: usize, samples: usize, sample_rate: u32) -> Result<Clip> {
        let Self::Soundfont { font, programs } = self else { return Ok(harmonics(seed, index, samples, sample_rate)) };
        let mut random = StepKey { seed, step: index }.random("soundfont");
        let (soloist, solo) = SOLOISTS[below(&mut random, SOLOISTS.len())];
        let solo: Vec<u8> = solo.iter().copied().filter(|program| programs.contains(program)).collect();
        let (tempo, slowest, fastest) = TEMPI[below(&mut random, TEMPI.len())];
        let mood = MOODS[below(&mut random, MOODS.len())];
        let caption = format!("Compose a {} piece, with a {soloist} melody. Use a {tempo} tempo.", mood.0);
        let solo = solo.get(below(&mut random, solo.len().max(1))).copied().unwrap_or(programs[0]);
        let [chords, bass] = [0, 1].map(|_| programs[below(&mut random, programs.len())]);
        let share = below(&mut random, 1000) as f64 / 1000.0;
        let beat = 60.0 / (slowest + share * (fastest - slowest)) * f64::from(sample_rate);
        let events = events(&mut random, mood, beat, samples);
        let samples = play(font, [solo, chords, bass], &events, samples, sample_rate)?;
        Ok(Clip { samples, caption })
    }
}

fn below(random: &mut ChaCha8Rng, end: usize) -> usize {
    (random.next_u64() % end as u64) as usize
}

/// A melody on channel 0, chords on 1, a bass on 2.
fn events(
    random: &mut ChaCha8Rng,
    (_, scale, density, velocity): (&str, [u8; 7], u64, u8),
    beat: f64,
    samples: usize,
) -> Vec<Event> {
    let root = 48 + below(random, 12) as u8;
    let degree = |step: usize| root + scale[step % 7] + 12 * (step / 7) as u8;
    let chords = CHORDS[below(random, CHORDS.len())];
    // A clip begins somewhere in its bar.
    let begin = below(random, 4);
    let mut events = vec![];
    let mut note = |from: f64, beats: f64, channel: i32, key: u8, velocity: u8| {
        let at = |place: f64| (place * beat) as usize;
        if at(from) < samples {
            events.push(Event { sample: at(from), channel, key, velocity });
            events.push(Event { sample: at(from + beats * 0.95), channel, key, velocity: 0 });
        }
    };
    let mut place = 7 + below(random, 5);
    let beats = (samples as f64 / beat).ceil() as usize + 1;
    for now in 0..beats {
        let chord = chords[(begin + now) / 2 % 4];
        let start = now as f64;
        if now == 0 || (begin + now) % 2 == 0 {
            for third in [0, 2, 4] {
                note(start, 2.0, 1, degree(chord + third), velocity / 2);
            }
            note(start, 1.0, 2, degree(chord) - 12, velocity * 3 / 4);
        }
        for half in [0.0, 0.5] {
            if random.next_u64() % 8 < density {
                place = (place + below(random, 5)).clamp(8, 19) - 2;
                // Chord notes on the beat, passing ones between.
                let step = if half == 0.0 && place % 7 != chord { place - place % 2 + chord % 2 } else { place };
                note(start + half, 0.5, 0, degree(step) + 12, velocity);
            }
        }
    }
    events.sort_by_key(|event| (event.sample, event.velocity > 0, event.channel, event.key));
    events
}

fn play(
    font: &Arc<SoundFont>,
    programs: [u8; 3],
    events: &[Event],
    samples: usize,
    sample_rate: u32,
) -> Result<Vec<f32>> {
    const PROGRAM_CHANGE: i32 = 0xC0;
    let mut settings = SynthesizerSettings::new(sample_rate.cast_signed());
    settings.enable_reverb_and_chorus = false;
    // A new one for every clip: nothing of the clip before is left in it.
    let mut synthesizer = Synthesizer::new(font, &settings).map_err(|error| anyhow!("{error}"))?;
    synthesizer.set_master_volume(1.0);
    for (channel, program) in (0..).zip(programs) {
        synthesizer.process_midi_message(channel, PROGRAM_CHANGE, i32::from(program), 0);
    }
    let (mut left, mut right) = (vec![0.0; samples], vec![0.0; samples]);
    let mut done = 0;
    for event in events {
        let until = event.sample.min(samples);
        synthesizer.render(&mut left[done..until], &mut right[done..until]);
        done = until;
        match event.velocity {
            0 => synthesizer.note_off(event.channel, i32::from(event.key)),
            velocity => synthesizer.note_on(event.channel, i32::from(event.key), i32::from(velocity)),
        }
    }
    synthesizer.render(&mut left[done..], &mut right[done..]);
    let mono: Vec<f32> = left.iter().zip(&right).map(|(left, right)| (left + right) / 2.0).collect();
    let peak = mono.iter().fold(0.99f32, |peak, sample| peak.max(sample.abs()));
    Ok(mono.into_iter().map(|sample| sample * 0.99 / peak).collect())
}
