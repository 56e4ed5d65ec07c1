//! `tonoscope data render phrases`

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    corpus::{Genre, Instrument, Mood, Note, Score, Split, Tempo, Wanted, caption, caption_of_score, phrase},
};

use super::scores::scores;
use tonoscope_hub::hex;

use crate::{
    commands::data::{BUILT_IN, Renderer},
    failure::Misuse,
    files::{Inputs, OutputFolder, refuse_made_by_others},
    interrupt::{self, Interrupted},
    json_path, progress,
    tables::Table,
};

/// What decides the files: the same in a folder means that what is there is kept.
const KEY: &str = "settings.json";
/// Bytes of a WAV file before its samples.
const HEADER: u64 = 44;
/// Largest sample of a piece of a score.
const SCORE_LOUDNESS: f32 = 0.8;

/// Render phrases of which everything is known
///
/// Writes `audio/NAME.wav`, mono, and a table, `phrases.json` and `phrases.csv`, with seed, instrument, genre, mood, tempo,
/// key and caption of each. The same arguments give the same bytes; a run that was stopped goes on, and a larger count
/// adds to what is there.
#[derive(Debug, clap::Args)]
pub(super) struct PhrasesArgs {
    /// Folder for the phrases
    #[arg(long)]
    out: PathBuf,
    /// How many; with `--scores` at most so many [default: 100, or all of the scores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: Option<u32>,
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
    /// Melodies alone, without drums, bass and chords
    #[arg(long)]
    solo: bool,
    /// Cut phrases out of the scores in this folder (`.mid`, `.midi`, `.wad`) in place of composing them
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["concepts", "seed", "solo"])]
    scores: Option<PathBuf>,
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

/// A line of the table; what is not known of a piece of a score is left out.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    caption: String,
    split: Split,
    instrument: Option<Instrument>,
    program: Option<u8>,
    genre: Option<Genre>,
    mood: Option<Mood>,
    tempo: Tempo,
    solo: Option<bool>,
    bpm: f64,
    key: Option<String>,
    seconds: f64,
    seed: Option<u64>,
    score: Option<String>,
    excerpt: Option<usize>,
}

/// Notes to play, how loud, and what is known of them.
struct Piece {
    notes: Vec<Note>,
    loudness: f32,
    row: Row,
}

/// Where pieces come from.
enum Origin {
    Composed { seed: u64, wanted: Vec<Wanted>, solo: bool, count: u32 },
    Scores(Vec<Piece>),
}

pub(super) fn run(args: &PhrasesArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    if !(0.1..=600.0).contains(&args.seconds) {
        return Err(Misuse::new(format!("{} s, expected 0.1 to 600", args.seconds)).into());
    }
    let misuse = |error: tonoscope_core::corpus::UnknownWord| Misuse::new(error.to_string());
    let split: Split = args.split.parse().map_err(misuse)?;
    let wanted =
        args.concepts.iter().map(|name| Wanted::concept(name)).collect::<Result<Vec<_>, _>>().map_err(misuse)?;
    let rate: u32 = args.sample_rate.parse()?;
    let (origin, sources) = match &args.scores {
        Some(folder) => from_scores(folder, split, args)?,
        None => {
            (Origin::Composed { seed: args.seed, wanted, solo: args.solo, count: args.count.unwrap_or(100) }, vec![])
        }
    };
    let count = origin.count();
    if args.dry_run {
        if args.json {
            return Ok(writeln!(
                out,
                "{}",
                json!({"folder": json_path::shown(&args.out), "phrases": count, "seconds": args.seconds})
            )?);
        }
        return Ok(writeln!(out, "{count} phrases of {} s for `{}`", args.seconds, args.out.display())?);
    }
    if !args.out.join(KEY).exists() {
        refuse_made_by_others(&args.out, &["phrases.csv", "phrases.json", "audio"])?;
    }
    let folder = OutputFolder::begin(&args.out, &Inputs::default())?;
    let key = json!({
        "version": env!("CARGO_PKG_VERSION"), "seed": args.seed, "seconds": args.seconds, "sample_rate": rate,
        "concepts": args.concepts, "solo": args.solo, "split": split, "scores": sources,
    });
    begin(&folder, &serde_json::to_vec_pretty(&key)?)?;
    let audio = folder.within("audio")?;
    audio.tidy()?;
    let mut renderer = Renderer::open(BUILT_IN, rate).context("the soundfont inside the program")?;
    let bar = progress::steps(count as u64, "rendering phrases", "phrases");
    let (mut rows, mut table, mut made) = (vec![], Table::new(), 0);
    let expected = HEADER + 2 * ((args.seconds * f64::from(rate)).round() as u64).max(1);
    for index in 0..count {
        if interrupt::asked() {
            bail!(Interrupted::Finished { finished: index, all: count, what: "phrases" });
        }
        let name = format!("{}_{index:06}.wav", split.name());
        let piece = origin.piece(index, split, args.seconds);
        let there = std::fs::metadata(audio.path().join(&name)).is_ok_and(|file| file.len() == expected);
        if !there {
            let sound = renderer.render_notes(&piece.notes, args.seconds, piece.loudness);
            audio.write(&name, &Waveform::new(vec![sound], rate)?.to_wav_bytes(WavFormat::Pcm16)?)?;
            made += 1;
        }
        let row = Row { file: format!("audio/{name}"), ..piece.row };
        rows.push(serde_json::to_value(&row)?);
        table.push(row)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    table.write(&folder, "phrases.csv")?;
    folder.write("phrases.json", &serde_json::to_vec_pretty(&rows)?)?;
    if args.json {
        let value =
            json!({"folder": json_path::shown(&args.out), "phrases": rows.len(), "rendered": made, "seed": args.seed});
        serde_json::to_writer_pretty(&mut *out, &value)?;
        return Ok(writeln!(out)?);
    }
    Ok(writeln!(out, "{} phrases in `{}`, {made} of them rendered now", rows.len(), args.out.display())?)
}

impl Origin {
    fn count(&self) -> usize {
        match self {
            Self::Composed { count, .. } => *count as usize,
            Self::Scores(pieces) => pieces.len(),
        }
    }

    /// The piece `index`, which is there; the caller names its file.
    fn piece(&self, index: usize, split: Split, seconds: f64) -> Piece {
        let (seed, wanted, solo) = match self {
            Self::Composed { seed, wanted, solo, .. } => (*seed, wanted, *solo),
            Self::Scores(pieces) => {
                let Piece { notes, loudness, row } = &pieces[index];
                let Row { caption, score, .. } = row;
                let row =
                    Row { file: String::new(), caption: caption.clone(), key: None, score: score.clone(), ..*row };
                return Piece { notes: notes.clone(), loudness: *loudness, row };
            }
        };
        let wanted = wanted.get(index % wanted.len().max(1)).copied().unwrap_or_default();
        let phrase = phrase(split.seed(seed, index as u64), &Wanted { solo, ..wanted }, seconds);
        let row = Row {
            file: String::new(),
            caption: caption(&phrase, 0),
            split,
            instrument: Some(phrase.instrument),
            program: Some(phrase.program),
            genre: Some(phrase.genre),
            mood: Some(phrase.mood),
            tempo: phrase.tempo,
            solo: Some(phrase.solo),
            bpm: phrase.bpm,
            key: Some(phrase.key.to_string()),
            seconds: phrase.seconds,
            seed: Some(phrase.seed),
            score: None,
            excerpt: None,
        };
        Piece { notes: phrase.notes, loudness: phrase.loudness, row }
    }
}

/// The pieces of the scores of `folder` that are of the part `split`, and what names the scores: their names and hashes.
fn from_scores(folder: &Path, split: Split, args: &PhrasesArgs) -> Result<(Origin, Vec<[String; 2]>)> {
    let (mut pieces, mut sources, mut bad) = (vec![], vec![], 0);
    for (name, bytes) in scores(folder)? {
        if Split::of_score(&bytes) != split {
            continue;
        }
        let score = match Score::parse(&bytes) {
            Ok(score) => score,
            Err(error) => {
                progress::note(&format!("`{name}` is left out: {error}"));
                bad += 1;
                continue;
            }
        };
        let hash = hex(&Sha256::digest(&bytes));
        sources.push([name.clone(), hash]);
        for excerpt in score.excerpts(args.seconds) {
            let row = Row {
                file: String::new(),
                caption: caption_of_score(&excerpt),
                split,
                instrument: excerpt.instrument,
                program: None,
                genre: None,
                mood: None,
                tempo: Tempo::of(excerpt.bpm),
                solo: None,
                bpm: excerpt.bpm,
                key: None,
                seconds: args.seconds,
                seed: None,
                score: Some(name.clone()),
                excerpt: Some(excerpt.number),
            };
            pieces.push(Piece { notes: excerpt.notes, loudness: SCORE_LOUDNESS, row });
        }
    }
    if pieces.is_empty() {
        let what = format!("the scores in `{}` have nothing for the part `{}`", folder.display(), split.name());
        let hint = format!("{bad} files are no scores; a score belongs to one part, which its content decides");
        return Err(Misuse::new(what).hint(hint).into());
    }
    pieces.truncate(args.count.map_or(usize::MAX, |count| count as usize));
    Ok((Origin::Scores(pieces), sources))
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
