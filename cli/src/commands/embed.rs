//! `tonoscope embed`

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use serde_json::Value;
use tonoscope_core::metrics::softmax;

use crate::{
    embedder::{Embedder, EmbedderArgs, cosine},
    failure::Misuse,
    files::{Inputs, output_file},
    interrupt::{self, Interrupted},
    json_path, progress, prompt_file,
    readable::ReadableArgs,
    session::{DeviceArgs, UsedDevice},
    sound::read_sound,
    tensors::to_file,
};

/// Make vectors of sound and text in the space of a CLAP
///
/// Sound is mixed down to mono (the mean of all channels) and resampled to the model's rate; of more than 10 s the first
/// 10 s are heard, unless the model fuses long clips. Vectors have length 1. With both sound and texts, the texts are ranked
/// for each file by their cosine.
#[derive(Debug, clap::Args)]
// CLAP is the model here; other commands have another model beside it.
#[command(mut_arg("clap", |arg| arg.long("model")))]
pub(crate) struct EmbedArgs {
    /// Sound files: WAV, AIFF, FLAC, MP3, Ogg Vorbis, Opus or AAC (M4A), of any rate and number of channels
    #[arg(value_name = "AUDIO", required_unless_present_any = ["text", "texts"])]
    audio: Vec<PathBuf>,
    /// A text, such as `a slow piano melody`; may be given several times
    #[arg(long)]
    text: Vec<String>,
    /// Prompt file, one text a line, as `prompts generate` or `prompts template` writes it
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    #[command(flatten)]
    readable: ReadableArgs,
    /// Write the vectors to this safetensors file: `audio` `[file, width]`, `text` `[text, width]`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    embedder: EmbedderArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON, with the vectors
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    model: Value,
    device: UsedDevice,
    /// What a cosine is multiplied with before the softmax that gives probabilities.
    logit_scale: f64,
    files: Vec<FileReport>,
    texts: Vec<TextReport>,
}

/// One file.
#[derive(Debug, Serialize)]
struct FileReport {
    #[serde(serialize_with = "json_path::one")]
    file: PathBuf,
    /// As in the file; CLAP hears it in mono at its own rate.
    sample_rate: u32,
    channels: usize,
    seconds: f64,
    embedding: Vec<f32>,
    /// The texts, from the nearest to the farthest.
    texts: Vec<Score>,
}

/// A text as heard in a file.
#[derive(Debug, Serialize)]
struct Score {
    rank: usize,
    text: String,
    cosine: f64,
    /// Among the texts that were given.
    probability: f64,
}

/// One text.
#[derive(Debug, Serialize)]
struct TextReport {
    text: String,
    embedding: Vec<f32>,
}

pub(crate) fn run(args: &EmbedArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    let mut given = args.text.clone();
    if let Some(path) = &args.texts {
        given.extend(prompt_file::read(path)?);
    }
    if args.out.is_none() && !args.json && (args.audio.is_empty() || given.is_empty()) {
        let hint = "pass `--out FILE` or `--json` for the vectors, or both audio files and `--text` to compare them";
        return Err(Misuse::new("nothing would come of this").hint(hint).into());
    }
    if given.iter().any(|text| text.trim().is_empty()) {
        return Err(Misuse::new("a text without words").into());
    }
    let inputs = Inputs::new(&args.audio);
    let target = args.out.as_deref().map(|path| output_file(path, &inputs)).transpose()?;
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let embedder = args.embedder.load(&opened)?;
    let texts = if given.is_empty() {
        vec![]
    } else {
        embedder.check_readable(args.readable, &given)?;
        embedder.embed_texts(&given)?
    };
    let texts: Vec<TextReport> =
        given.into_iter().zip(texts).map(|(text, embedding)| TextReport { text, embedding }).collect();
    let files = embed_files(&embedder, &args.audio, &texts)?;
    if let Some((folder, name)) = target {
        folder.write(&name, &embeddings_file(&embedder, &files, &texts)?)?;
    }
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        let report =
            Report { version, model: embedder.key(), device, logit_scale: embedder.logit_scale(), files, texts };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    files.iter().filter(|file| !file.texts.is_empty()).try_for_each(|file| print(file, out))
}

/// The files, read and embedded batch by batch.
fn embed_files(embedder: &Embedder, paths: &[PathBuf], texts: &[TextReport]) -> Result<Vec<FileReport>> {
    let bar = progress::steps(paths.len() as u64, "embedding", "files");
    let mut files = Vec::with_capacity(paths.len());
    for batch in paths.chunks(embedder.batch()) {
        if interrupt::asked() {
            bail!(Interrupted::NothingWritten);
        }
        let waves = batch.iter().map(|path| read_sound(path)).collect::<Result<Vec<_>>>()?;
        let about: Vec<_> =
            waves.iter().map(|wave| (wave.sample_rate(), wave.channels().len(), wave.seconds())).collect();
        for ((path, (sample_rate, channels, seconds)), embedding) in batch.iter().zip(about).zip(embedder.embed(waves)?)
        {
            let texts = ranked(&embedding, texts, embedder.logit_scale());
            files.push(FileReport { file: path.clone(), sample_rate, channels, seconds, embedding, texts });
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(files)
}

/// The texts from the nearest to the farthest; equal ones in the order in which they were given.
fn ranked(embedding: &[f32], texts: &[TextReport], scale: f64) -> Vec<Score> {
    let cosines: Vec<f64> = texts.iter().map(|text| cosine(embedding, &text.embedding)).collect();
    let probabilities = softmax(&cosines.iter().map(|cosine| cosine * scale).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
    let score = |(place, index): (usize, usize)| Score {
        rank: place + 1,
        text: texts[index].text.clone(),
        cosine: cosines[index],
        probability: probabilities[index],
    };
    order.into_iter().enumerate().map(score).collect()
}

fn print(file: &FileReport, out: &mut dyn Write) -> Result<()> {
    let channels = if file.channels == 1 { "1 channel".to_owned() } else { format!("{} channels", file.channels) };
    writeln!(out, "{}  {:.2} s, {} Hz, {channels}", file.file.display(), file.seconds, file.sample_rate)?;
    let width = file.texts.iter().map(|score| score.text.chars().count()).max().unwrap_or(0).max("text".len());
    writeln!(out, "{:>5}  {:<width$}  {:>7}  probability", "", "text", "cosine")?;
    for Score { rank, text, cosine, probability } in &file.texts {
        writeln!(out, "{rank:>5}  {text:<width$}  {cosine:>7.4}  {probability:.4}")?;
    }
    Ok(())
}

/// `audio` `[file, width]` and `text` `[text, width]`, each if there is any; names and the model are in the metadata.
fn embeddings_file(embedder: &Embedder, files: &[FileReport], texts: &[TextReport]) -> Result<Vec<u8>> {
    let bytes = |rows: &mut dyn Iterator<Item = &Vec<f32>>| -> Vec<u8> {
        rows.flatten().flat_map(|value| value.to_le_bytes()).collect()
    };
    let audio = bytes(&mut files.iter().map(|file| &file.embedding));
    let text = bytes(&mut texts.iter().map(|text| &text.embedding));
    let names: Vec<_> = files.iter().map(|file| file.file.to_string_lossy()).collect();
    let mut views = vec![];
    let mut metadata = BTreeMap::from([("model".to_owned(), embedder.key().to_string())]);
    for (name, rows, bytes) in [("audio", files.len(), &audio), ("text", texts.len(), &text)] {
        if rows > 0 {
            let view = TensorView::new(Dtype::F32, vec![rows, embedder.width()], bytes);
            views.push((name, view.context("the vectors have one length")?));
        }
    }
    if !files.is_empty() {
        metadata.insert("files".to_owned(), serde_json::to_string(&names)?);
    }
    if !texts.is_empty() {
        let texts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        metadata.insert("texts".to_owned(), serde_json::to_string(&texts)?);
    }
    to_file(views, metadata)
}
