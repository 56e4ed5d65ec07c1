//! `tonoscope data render notes`

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustysynth::{Synthesizer, SynthesizerSettings};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    musicologist::{FAMILIES, Note, QUALITIES, SOURCES, read_notes},
};
use tonoscope_hub::hex;

use crate::{
    commands::data::{BUILT_IN, HELD, LENGTH, RATE, programs::Kind, qualities::qualities, soundfont::Soundfont},
    failure::Misuse,
    files::{Inputs, OutputFolder, refuse_made_by_others},
    guarded::guarded,
    interrupt::{self, Interrupted},
    json_path, progress,
    tables::Table,
    units::Units,
};

/// Samples per second of the synthesiser: its sound is not band-limited, so it plays well above what is kept.
const PLAYED_RATE: u32 = 48_000;
/// As in `NSynth`.
const VELOCITIES: [u8; 5] = [25, 50, 75, 100, 127];
/// Quieter notes than this are none.
const SILENT: f32 = 1e-3;

/// Render notes of real instruments in NSynth's layout
///
/// Writes `examples.json`, the same as a table in `notes.csv`, and `audio/NAME.wav`, 4 s at 16 kHz of which the key is held for 3 s, from a soundfont of
/// recorded instruments. Families and sources are those of General MIDI's programs; qualities are heard in the sound by
/// the rules that `data/README.md` lists. The same seed gives the same files; a run that was stopped goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct NotesArgs {
    /// Folder for the notes
    out: PathBuf,
    /// Soundfont, SF2 or SF3 [default: the one inside the program, 51 programs of FluidR3Mono]
    #[arg(long, value_name = "FILE")]
    soundfont: Option<PathBuf>,
    /// General MIDI programs, from 0 [default: all that the soundfont has and NSynth knows]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(..128))]
    programs: Vec<u16>,
    /// Notes of each program
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=150))]
    per_program: u16,
    /// Seed of pitches and velocities
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Render everything anew, also where other notes are
    #[arg(long)]
    overwrite: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl NotesArgs {
    /// Notes of some of the programs of the soundfont inside the program.
    pub(crate) fn of(out: PathBuf, programs: Vec<u16>, per_program: u16, seed: u64) -> Self {
        Self { out, soundfont: None, programs, per_program, seed, overwrite: false, dry_run: false, json: false }
    }
}

/// A line of `notes.csv`.
#[derive(Serialize)]
struct Row<'a> {
    file: String,
    note: i64,
    instrument: &'a str,
    family: &'a str,
    source: &'a str,
    pitch: i64,
    velocity: i64,
    qualities: String,
}

pub(crate) fn run(args: &NotesArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    let given = args.soundfont.as_deref().map(bytes_of).transpose()?;
    let name = args.soundfont.as_ref().map_or("fluidr3mono_51.sf3".into(), |path| path.to_string_lossy());
    if let Some(program) = args.programs.iter().find(|program| Kind::of(**program).is_none()) {
        return Err(Misuse::new(format!("program {program} is nothing that NSynth has")).into());
    }
    let wanted =
        |program: u16| Kind::of(program).is_some() && (args.programs.is_empty() || args.programs.contains(&program));
    let name_of_font = &name;
    let spinner = progress::spinner(&format!("reading {name}"));
    let font = Soundfont::read(given.as_deref().unwrap_or(BUILT_IN), &wanted).with_context(|| format!("`{name}`"))?;
    spinner.finish_and_clear();
    if let Some(program) = args.programs.iter().find(|program| !font.programs.contains(program)) {
        return Err(Misuse::new(format!("`{name}` has no program {program} in bank 0")).into());
    }
    if font.programs.is_empty() {
        return Err(Misuse::new(format!("`{name}` has no program that NSynth knows")).into());
    }
    let total = font.programs.len() * usize::from(args.per_program);
    if args.dry_run {
        if args.json {
            let value = json!({"folder": json_path::shown(&args.out), "notes": total, "programs": font.programs, "seed": args.seed});
            return Ok(writeln!(out, "{value}")?);
        }
        return Ok(writeln!(out, "{total} notes of {} programs for `{}`", font.programs.len(), args.out.display())?);
    }
    // Such as NSynth's.
    let own = Units::existing(&args.out).is_ok_and(|units| units.key().get("soundfont").is_some());
    if !own {
        refuse_made_by_others(&args.out, &["examples.json", "notes.csv", "audio"])?;
    }
    let folder = OutputFolder::begin(&args.out, &Inputs::new(args.soundfont.iter()))?;
    let sha256 = hex(&Sha256::digest(given.as_deref().unwrap_or(BUILT_IN)));
    let key = json!({
        "version": env!("CARGO_PKG_VERSION"), "soundfont": sha256, "programs": font.programs,
        "per_program": args.per_program, "seed": args.seed,
    });
    let units = Units::open(&folder, &key, args.overwrite)?;
    let audio = folder.within("audio")?;
    let bar = progress::steps(total as u64, "rendering notes", "notes");
    let (mut notes, mut silent) = (vec![], 0);
    let mut of_kind: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (instrument, &program) in font.programs.iter().enumerate() {
        let Some(kind) = Kind::of(program) else { continue };
        let number = of_kind.entry((kind.family, kind.source)).or_default();
        let name = format!("{}_{}_{number:03}", FAMILIES[kind.family], SOURCES[kind.source]);
        *number += 1;
        let unit = unit_name(program);
        if !units.has(&unit) {
            let mut of_program: Vec<Note> = vec![];
            for (pitch, velocity) in chosen(kind, program, args) {
                if interrupt::asked() {
                    let all = font.programs.iter().map(|program| unit_name(*program));
                    return Err(units.interrupted(Interrupted::Resumable.into(), all, "programs"));
                }
                let wave = play_note(&font, program, pitch, velocity);
                let wave = wave.with_context(|| format!("`{name_of_font}`, program {program}, key {pitch}"))?;
                bar.inc(1);
                if wave.peak() < SILENT {
                    continue;
                }
                let note = described(&wave, kind, (&name, instrument), of_program.len(), [pitch, velocity]);
                audio.write(&format!("{}.wav", note.note_str), &wave.to_wav_bytes(WavFormat::Pcm16)?)?;
                of_program.push(note);
            }
            units.write(&unit, &examples(&of_program)?)?;
        }
        let there = units.read(&unit)?;
        // A program may be silent at all its keys.
        let read = if there == examples(&[])? { Ok(vec![]) } else { read_notes(&there) };
        let mut of_program = read
            .with_context(|| format!("the notes of program {program} are damaged; pass `--overwrite` to begin anew"))?;
        of_program.sort_by_key(|note| note.note);
        silent += chosen(kind, program, args).len().saturating_sub(of_program.len());
        notes.extend(of_program);
    }
    bar.finish_and_clear();
    if silent > 0 {
        progress::note(&format!("{silent} notes are silent and left out"));
    }
    for (index, note) in notes.iter_mut().enumerate() {
        note.note = index as i64;
    }
    folder.write("examples.json", &examples(&notes)?)?;
    let mut table = Table::new();
    for note in &notes {
        table.push(Row {
            file: format!("audio/{}.wav", note.note_str),
            note: note.note,
            instrument: &note.instrument_str,
            family: &note.instrument_family_str,
            source: &note.instrument_source_str,
            pitch: note.pitch,
            velocity: note.velocity,
            qualities: note.qualities_str.join(" "),
        })?;
    }
    table.write(&folder, "notes.csv")?;
    summarise(args, &font, &notes, out)
}

fn unit_name(program: u16) -> String {
    format!("program_{program:03}")
}

/// What `NSynth` calls `examples.json`.
fn examples(notes: &[Note]) -> Result<Vec<u8>> {
    let by_name: BTreeMap<&str, &Note> = notes.iter().map(|note| (note.note_str.as_str(), note)).collect();
    Ok(serde_json::to_vec_pretty(&by_name)?)
}

fn summarise(args: &NotesArgs, font: &Soundfont, notes: &[Note], out: &mut dyn Write) -> Result<()> {
    let count = |has: &dyn Fn(&Note) -> bool| notes.iter().filter(|note| has(note)).count();
    let qualities: BTreeMap<&str, usize> = QUALITIES
        .iter()
        .map(|quality| (*quality, count(&|note| note.qualities_str.iter().any(|has| &**has == *quality))))
        .collect();
    let families: BTreeMap<&str, usize> =
        FAMILIES.iter().map(|family| (*family, count(&|note| &*note.instrument_family_str == *family))).collect();
    if args.json {
        let value = json!({
            "folder": json_path::shown(&args.out), "notes": notes.len(), "programs": font.programs, "seed": args.seed,
            "families": families, "qualities": qualities,
        });
        serde_json::to_writer_pretty(&mut *out, &value)?;
        return Ok(writeln!(out)?);
    }
    let listed = |counts: &BTreeMap<&str, usize>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    writeln!(out, "{} notes of {} programs in `{}`", notes.len(), font.programs.len(), args.out.display())?;
    writeln!(out, "families: {}", listed(&families))?;
    Ok(writeln!(out, "qualities: {}", listed(&qualities))?)
}

/// Pitches and velocities of a program, all different: the range of pitches is divided evenly, and in each part one is
/// drawn.
fn chosen(kind: Kind, program: u16, args: &NotesArgs) -> Vec<(u8, u8)> {
    let (low, high) = kind.pitches();
    let span = usize::from(high - low) + 1;
    let count = usize::from(args.per_program).min(span * VELOCITIES.len());
    let mut taken = HashSet::new();
    let mut pairs = vec![];
    for index in 0..count {
        let digest = Sha256::new()
            .chain_update(args.seed.to_le_bytes())
            .chain_update(program.to_le_bytes())
            .chain_update((index as u64).to_le_bytes())
            .finalize();
        let [from, to] = [index, index + 1].map(|index| index * span / count);
        let mut pitch = from + usize::from(digest[0]) % (to - from).max(1);
        // Velocities take turns, from one that differs from program to program.
        let mut velocity = (index + usize::from(program)) % VELOCITIES.len();
        let mut tried = 0;
        while !taken.insert((pitch, velocity)) {
            tried += 1;
            velocity = (velocity + 1) % VELOCITIES.len();
            if tried % VELOCITIES.len() == 0 {
                pitch = (pitch + 1) % span;
            }
        }
        pairs.push((low + pitch as u8, VELOCITIES[velocity]));
    }
    pairs
}

/// The bytes of the soundfont at `path`.
fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// One note as it sounds, mono, at [`RATE`].
pub(crate) fn play_note(font: &Soundfont, program: u16, pitch: u8, velocity: u8) -> Result<Waveform> {
    const PROGRAM_CHANGE: i32 = 0xC0;
    let mut settings = SynthesizerSettings::new(PLAYED_RATE.cast_signed());
    // NSynth's notes are dry.
    settings.enable_reverb_and_chorus = false;
    // A new one for every note: nothing of the note before is left in it.
    let synthesizer = guarded(|| Synthesizer::new(&font.font, &settings))?;
    let mut synthesizer = synthesizer.map_err(|error| anyhow::anyhow!("{error}"))?;
    // Three times as loud as it plays by itself: the loudest notes then just fit.
    synthesizer.set_master_volume(1.5);
    synthesizer.process_midi_message(0, PROGRAM_CHANGE, i32::from(program), 0);
    let second = PLAYED_RATE as usize;
    let (mut left, mut right) = (vec![0.0; LENGTH * second], vec![0.0; LENGTH * second]);
    // A soundfont may tune a note so high, or loop it so far, that the synthesiser leaves its samples.
    guarded(|| {
        synthesizer.note_on(0, i32::from(pitch), i32::from(velocity));
        synthesizer.render(&mut left[..HELD * second], &mut right[..HELD * second]);
        synthesizer.note_off(0, i32::from(pitch));
        synthesizer.render(&mut left[HELD * second..], &mut right[HELD * second..]);
    })?;
    let mono: Vec<f32> = left.iter().zip(&right).map(|(left, right)| (left + right) / 2.0).collect();
    let wave = Waveform::new(vec![mono], PLAYED_RATE)?.resample(RATE)?;
    let peak = wave.peak();
    if peak < 1.0 {
        return Ok(wave);
    }
    let quieter = wave.channels()[0].iter().map(|sample| sample * 0.99 / peak).collect();
    Ok(Waveform::new(vec![quieter], RATE)?)
}

fn described(
    wave: &Waveform,
    kind: Kind,
    (instrument, number): (&str, usize),
    index: usize,
    [pitch, velocity]: [u8; 2],
) -> Note {
    let has = qualities(&wave.channels()[0], pitch);
    let names = QUALITIES.iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| (*name).into());
    Note {
        note: index as i64,
        note_str: format!("{instrument}-{pitch:03}-{velocity:03}"),
        instrument: number as i64,
        instrument_str: instrument.into(),
        pitch: i64::from(pitch),
        velocity: i64::from(velocity),
        sample_rate: RATE,
        qualities: has.map(u8::from).to_vec(),
        qualities_str: names.collect(),
        instrument_family: kind.family as i64,
        instrument_family_str: FAMILIES[kind.family].into(),
        instrument_source: kind.source as i64,
        instrument_source_str: SOURCES[kind.source].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::data::soundfont::tests::small;

    #[test]
    fn a_soundfont_that_leads_the_synthesiser_astray_is_an_error() {
        const COARSE_TUNE: u16 = 51;
        const SCALE_TUNING: u16 = 56;
        const LOOPED: u16 = 54;
        let play = |generators: &[[u16; 2]], loops: [u32; 2]| {
            let font = Soundfont::read(&small(generators, loops, 16_000), &|_| true)?;
            play_note(&font, 73, 60, 100)
        };
        let sound = play(&[[LOOPED, 1]], [10, 190]).unwrap();
        assert!(sound.peak() > 0.01 && sound.samples() == LENGTH * RATE as usize);
        // An octave for each of a hundred steps, in a loop of two samples.
        let astray = play(&[[LOOPED, 1], [SCALE_TUNING, 1200], [COARSE_TUNE, 120]], [10, 12]);
        assert!(astray.unwrap_err().to_string().contains("gave up"));
    }
}
