//! Phrases and scores as sound.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustysynth::{SoundFont, Synthesizer, SynthesizerSettings};
use tonoscope_core::corpus::{DRIVEN, DRUMS, Note, Phrase, percussion::DrumMachine};

use super::soundfont::Soundfont;

/// Programs of General MIDI.
const PROGRAMS: u8 = 128;
/// What the driven channel is multiplied with before it is bent, and after.
const DRIVE: (f32, f32) = (14.0, 0.16);
/// Loudness of a drum beside a synthesiser that plays at [`VOLUME`].
const DRUM_GAIN: f32 = 0.34;
/// Volume of the synthesisers; a phrase is brought to its loudness at the end.
const VOLUME: f32 = 0.8;
/// What is quieter is not made louder.
const SILENT: f32 = 1e-6;

/// Plays notes with the instruments of a soundfont; one for each thread, for any number of phrases, which leave no trace in it.
pub(crate) struct Renderer {
    plain: Synthesizer,
    driven: Synthesizer,
    drums: DrumMachine,
    /// The program that stands for each, since a soundfont need not have all.
    nearest: [u8; PROGRAMS as usize],
    sample_rate: u32,
}

impl Renderer {
    /// A renderer at `sample_rate` samples per second of the soundfont in `bytes`, SF2 or SF3.
    ///
    /// # Errors
    /// What is no soundfont, contradicts itself, or has no program in bank 0; a rate outside 16 to 192 kHz.
    pub(crate) fn open(bytes: &[u8], sample_rate: u32) -> Result<Self> {
        let font = Soundfont::read(bytes, &|program| program < u16::from(PROGRAMS))?;
        let programs: Vec<u8> = font.programs.iter().filter_map(|&program| u8::try_from(program).ok()).collect();
        let nearest = nearest(&programs).context("the soundfont has no program in bank 0")?;
        let synthesizer = || synthesizer(&font.font, sample_rate);
        let (plain, driven) = (synthesizer()?, synthesizer()?);
        Ok(Self { plain, driven, drums: DrumMachine::new(sample_rate), nearest, sample_rate })
    }

    /// A phrase, mono; its largest sample is its loudness.
    pub(crate) fn render(&mut self, phrase: &Phrase) -> Vec<f32> {
        self.render_notes(&phrase.notes, phrase.seconds, phrase.loudness)
    }

    /// Notes for `seconds`, mono, with `loudness` as the largest sample.
    pub(crate) fn render_notes(&mut self, notes: &[Note], seconds: f64, loudness: f32) -> Vec<f32> {
        let [left, right] = self.mix(notes, seconds);
        let mut mono: Vec<f32> = left.iter().zip(&right).map(|(left, right)| (left + right) / 2.0).collect();
        level(&mut [&mut mono], loudness);
        mono
    }

    /// Left and right of notes for `seconds`; the largest sample of both is `loudness`.
    fn mix(&mut self, notes: &[Note], seconds: f64) -> [Vec<f32>; 2] {
        let samples = ((seconds * f64::from(self.sample_rate)).round() as usize).max(1);
        let tuned = |driven: bool| move |note: &&Note| note.channel != DRUMS && (note.channel == DRIVEN) == driven;
        let rate = f64::from(self.sample_rate);
        let plain = notes.iter().filter(tuned(false)).copied().collect::<Vec<_>>();
        let mut both = play(&mut self.plain, &plain, &self.nearest, samples, rate);
        let driven = notes.iter().filter(tuned(true)).copied().collect::<Vec<_>>();
        if !driven.is_empty() {
            let [left, right] = play(&mut self.driven, &driven, &self.nearest, samples, rate);
            for (at, (left, right)) in left.into_iter().zip(right).enumerate() {
                // An amplifier hears one signal, and bends it.
                let bent = (DRIVE.0 * (left + right)).tanh() * DRIVE.1;
                both[0][at] += bent;
                both[1][at] += bent;
            }
        }
        for channel in &mut both {
            self.drums.mix(notes, DRUM_GAIN, channel);
        }
        both
    }
}

fn synthesizer(font: &Arc<SoundFont>, sample_rate: u32) -> Result<Synthesizer> {
    let mut settings = SynthesizerSettings::new(sample_rate.cast_signed());
    settings.enable_reverb_and_chorus = false;
    let mut synthesizer = Synthesizer::new(font, &settings).map_err(|error| anyhow!("{error}"))?;
    synthesizer.set_master_volume(VOLUME);
    Ok(synthesizer)
}

/// For each program the nearest that there is: of its group of eight where that has one.
fn nearest(programs: &[u8]) -> Option<[u8; PROGRAMS as usize]> {
    let first = *programs.first()?;
    let mut all = [first; PROGRAMS as usize];
    for (program, place) in (0..PROGRAMS).zip(&mut all) {
        let distance = |other: &&u8| (**other / 8 != program / 8, other.abs_diff(program));
        *place = programs.iter().min_by_key(distance).copied().unwrap_or(first);
    }
    Some(all)
}

/// Left and right of what a synthesiser plays, from silence.
fn play(
    synthesizer: &mut Synthesizer,
    notes: &[Note],
    nearest: &[u8; PROGRAMS as usize],
    samples: usize,
    rate: f64,
) -> [Vec<f32>; 2] {
    const PROGRAM_CHANGE: i32 = 0xC0;
    synthesizer.reset();
    let at = |seconds: f64| ((seconds.max(0.0) * rate).round() as usize).min(samples);
    // Keys are let go before others are struck at the same time.
    let mut events: Vec<(usize, bool, &Note)> = notes
        .iter()
        .flat_map(|note| [(at(note.start_seconds), true, note), (at(note.start_seconds + note.seconds), false, note)])
        .collect();
    events.sort_by_key(|(sample, strikes, note)| (*sample, *strikes, note.channel, note.key));
    let (mut left, mut right) = (vec![0.0; samples], vec![0.0; samples]);
    let mut done = 0;
    for (sample, strikes, note) in events {
        synthesizer.render(&mut left[done..sample], &mut right[done..sample]);
        done = sample;
        let (channel, key) = (i32::from(note.channel), i32::from(note.key));
        if strikes {
            let program = nearest[usize::from(note.program % PROGRAMS)];
            synthesizer.process_midi_message(channel, PROGRAM_CHANGE, i32::from(program), 0);
            synthesizer.note_on(channel, key, i32::from(note.velocity));
        } else {
            synthesizer.note_off(channel, key);
        }
    }
    synthesizer.render(&mut left[done..], &mut right[done..]);
    [left, right]
}

/// Makes the largest sample of all channels `loudness`; silence stays silence.
fn level(channels: &mut [&mut Vec<f32>], loudness: f32) {
    let samples = || channels.iter().flat_map(|channel| channel.iter());
    let peak = samples().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if peak > SILENT {
        let gain = loudness.clamp(0.0, 0.99) / peak;
        channels.iter_mut().flat_map(|channel| channel.iter_mut()).for_each(|sample| *sample *= gain);
    }
}

#[cfg(test)]
mod tests {
    use tonoscope_core::corpus::{Genre, Wanted, phrase};

    use super::{super::BUILT_IN, *};

    #[test]
    fn phrases_sound_at_their_loudness_and_leave_no_trace() {
        let mut used = Renderer::open(BUILT_IN, 32_000).unwrap();
        let of = |genre: Genre| phrase(genre as u64, &Wanted { genre: Some(genre), ..Wanted::default() }, 1.0);
        let sounds: Vec<Vec<f32>> = Genre::ALL.iter().map(|&genre| used.render(&of(genre))).collect();
        for (&genre, sound) in Genre::ALL.iter().zip(&sounds) {
            let peak = sound.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            assert!((peak - of(genre).loudness).abs() < 1e-3, "{genre}: {peak}");
            let power = sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32;
            assert!(power.sqrt() > 0.01, "{genre}: {power}");
        }
        let mut fresh = Renderer::open(BUILT_IN, 32_000).unwrap();
        assert!(fresh.render(&of(Genre::ALL[5])) == sounds[5], "what was played before is heard");
    }

    #[test]
    fn a_program_that_is_missing_is_played_by_its_group() {
        let all = nearest(&[5, 24, 40, 56]).unwrap();
        assert_eq!((all[0], all[31], all[47], all[57]), (5, 24, 40, 56));
        assert!(nearest(&[]).is_none());
    }
}
