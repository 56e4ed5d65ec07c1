//! `tonoscope data phrases`

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    corpus::{Phrase, Split, Wanted, caption, phrase},
};

use super::{notes::BUILT_IN, renderer::Renderer};
use crate::{failure::Misuse, files::OutputFolder, interrupt, progress};

/// What decides the files: the same in a folder means that what is there is kept.
const KEY: &str = "settings.json";
/// Bytes of a WAV file before its samples.
const HEADER: u64 = 44;

/// Render phrases of which everything is known
///
/// Writes `audio/NAME.wav`, mono, and `phrases.json` with seed, instrument, genre, mood, tempo, key and caption of each.
/// The same arguments give the same bytes; a run that was stopped goes on, and a larger count adds to what is there.
#[derive(Debug, clap::Args)]
pub(crate) struct PhrasesArgs {
    /// Folder for the phrases
    #[arg(long)]
    out: PathBuf,
    /// How many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Seed of the corpus
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seconds of each
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Samples per second
    #[arg(long, default_value = "32000", value_parser = ["32000", "48000"])]
    sample_rate: String,
    /// Genres, instruments, moods or tempi that phrases take in turn [default: as the seed chooses]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    concepts: Vec<String>,
    /// Part of the corpus: training, validation or test
    #[arg(long, default_value = "training")]
    split: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A line of the table.
#[derive(Serialize)]
struct Row<'a> {
    file: String,
    caption: String,
    #[serde(flatten)]
    phrase: &'a Phrase,
}

pub(crate) fn run(args: &PhrasesArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    if !(0.1..=600.0).contains(&args.seconds) {
        return Err(Misuse::new(format!("{} s, expected 0.1 to 600", args.seconds)).into());
    }
    let misuse = |error: tonoscope_core::corpus::UnknownWord| Misuse::new(error.to_string());
    let split: Split = args.split.parse().map_err(misuse)?;
    let wanted =
        args.concepts.iter().map(|name| Wanted::concept(name)).collect::<Result<Vec<_>, _>>().map_err(misuse)?;
    let rate: u32 = args.sample_rate.parse()?;
    let composed = |index: u32| {
        let wanted = wanted.get(index as usize % wanted.len().max(1)).copied().unwrap_or_default();
        phrase(split.seed(args.seed, u64::from(index)), &wanted, args.seconds)
    };
    if args.dry_run {
        return Ok(writeln!(out, "{} phrases of {} s for `{}`", args.count, args.seconds, args.out.display())?);
    }
    let folder = OutputFolder::open(&args.out)?;
    let key = json!({
        "version": env!("CARGO_PKG_VERSION"), "seed": args.seed, "seconds": args.seconds, "sample_rate": rate,
        "concepts": args.concepts, "split": split,
    });
    begin(&folder, &serde_json::to_vec_pretty(&key)?)?;
    let audio = OutputFolder::open(&folder.path().join("audio"))?;
    audio.tidy()?;
    let mut renderer = Renderer::open(BUILT_IN, rate).context("the soundfont inside the program")?;
    let bar = progress::steps(u64::from(args.count), "rendering phrases".to_owned(), "phrases");
    let (mut phrases, mut made) = (vec![], 0);
    let expected = HEADER + 2 * ((args.seconds * f64::from(rate)).round() as u64).max(1);
    for index in 0..args.count {
        if interrupt::asked() {
            bail!("interrupted: run the command again to go on");
        }
        let phrase = composed(index);
        let name = format!("{}_{index:06}.wav", split.name());
        let there = std::fs::metadata(audio.path().join(&name)).is_ok_and(|file| file.len() == expected);
        if !there {
            let wave = Waveform::new(vec![renderer.render(&phrase)], rate)?;
            audio.write(&name, &wave.to_wav_bytes(WavFormat::Pcm16)?)?;
            made += 1;
        }
        phrases.push((format!("audio/{name}"), phrase));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let row = |(file, phrase): &(String, Phrase)| {
        serde_json::to_value(Row { file: file.clone(), caption: caption(phrase, 0), phrase })
    };
    let rows = phrases.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    folder.write("phrases.json", &serde_json::to_vec_pretty(&rows)?)?;
    if args.json {
        let value = json!({"folder": args.out, "phrases": rows.len(), "rendered": made, "seed": args.seed});
        serde_json::to_writer_pretty(&mut *out, &value)?;
        return Ok(writeln!(out)?);
    }
    Ok(writeln!(out, "{} phrases in `{}`, {made} of them rendered now", rows.len(), args.out.display())?)
}

/// Refuses a folder of other settings.
fn begin(folder: &OutputFolder, key: &[u8]) -> Result<()> {
    let path = folder.path().join(KEY);
    match std::fs::read(&path) {
        Ok(found) if found == key => Ok(()),
        Ok(_) => {
            let what = format!("`{}` holds phrases of other settings", folder.path().display());
            Err(Misuse::new(what).hint("choose another folder with `--out`").into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => folder.write(KEY, key).map(|_| ()),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}
