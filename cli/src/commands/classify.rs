//! `tonoscope classify`

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use tonoscope_core::models::passt::{Classified, Labels};

use crate::{
    files::{Inputs, output_file},
    interrupt, json_path,
    judge::{Judge, JudgeArgs, as_heard, classify_clips},
    progress,
    session::{DeviceArgs, UsedDevice},
    sound::read_sound,
};

/// Say what can be heard in audio files
///
/// Sound is mixed down to mono (the mean of all channels) and resampled to the classifier's rate. Of more than 10 s the
/// mean over windows is given.
#[derive(Debug, clap::Args)]
// The judge is the model here; other commands have another model beside it.
#[command(mut_arg("judge", |arg| arg.long("model")))]
pub(crate) struct ClassifyArgs {
    /// Sound files: WAV, AIFF, FLAC, MP3, Ogg Vorbis, Opus or AAC (M4A), of any rate and number of channels
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Likeliest classes that are shown of each file; 0: all
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// What becomes of the scores: `sigmoid`, each class by itself, or `softmax`, all classes sum to one
    #[arg(long, value_enum, default_value_t = Probabilities::Sigmoid)]
    probabilities: Probabilities,
    /// Write the scores of all classes before that, `logits` `[file, class]`, to this safetensors file
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Probabilities {
    Sigmoid,
    Softmax,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    #[serde(serialize_with = "json_path::one")]
    model: PathBuf,
    sha256: String,
    device: UsedDevice,
    probabilities: Probabilities,
    files: Vec<FileReport>,
}

/// One file and what is heard in it.
#[derive(Debug, Serialize)]
struct FileReport {
    #[serde(serialize_with = "json_path::one")]
    file: PathBuf,
    /// As in the file; the classifier hears it in mono at its own rate.
    sample_rate: u32,
    channels: usize,
    seconds: f64,
    classes: Vec<ClassReport>,
}

#[derive(Debug, Serialize)]
struct ClassReport {
    rank: usize,
    index: usize,
    /// Id in AudioSet's ontology; empty for classes of other sets.
    mid: String,
    label: String,
    logit: f32,
    probability: f64,
}

pub(crate) fn run(args: &ClassifyArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    let found = args.judge.find()?;
    let inputs = Inputs::new(args.audio.iter().chain([&found.path]));
    let target = args.logits.as_deref().map(|path| output_file(path, &inputs)).transpose()?;
    let (mut clips, mut files) = (vec![], vec![]);
    for path in &args.audio {
        let wave = read_sound(path)?;
        files.push(FileReport {
            file: path.clone(),
            sample_rate: wave.sample_rate(),
            channels: wave.channels().len(),
            seconds: wave.seconds(),
            classes: vec![],
        });
        clips.push(as_heard(&found.config, wave).with_context(|| format!("`{}`", path.display()))?);
    }
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let sha256 = if args.json || target.is_some() { found.sha256()? } else { String::new() };
    let judge = found.load(opened.placement)?;
    let bar = progress::steps(clips.len() as u64, "classifying", "files");
    let classified = classify_clips(&judge.passt, &clips, &mut |done| {
        bar.set_position(done as u64);
        interrupt::check()
    })?;
    bar.finish_and_clear();
    for (file, said) in files.iter_mut().zip(&classified) {
        file.classes = likeliest(said, &judge.labels, args.top, args.probabilities);
    }
    if let Some((folder, name)) = target {
        folder.write(&name, &logits_file(&judge, &sha256, &args.audio, &classified)?)?;
    }
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        let report = Report { version, model: judge.path, sha256, device, probabilities: args.probabilities, files };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    files.iter().try_for_each(|file| print(file, out))
}

/// The first `top` classes; all for 0.
fn likeliest(said: &Classified, labels: &Labels, top: usize, how: Probabilities) -> Vec<ClassReport> {
    let probabilities = match how {
        Probabilities::Sigmoid => said.sigmoid(),
        Probabilities::Softmax => said.softmax(),
    };
    let most = if top == 0 { labels.len() } else { top };
    let class = |(place, index): (usize, usize)| {
        let label = labels.get(index)?.clone();
        let (logit, probability) = (said.logits[index], probabilities[index]);
        Some(ClassReport { rank: place + 1, index, mid: label.mid, label: label.name, logit, probability })
    };
    said.ranking().into_iter().take(most).enumerate().filter_map(class).collect()
}

fn print(file: &FileReport, out: &mut dyn Write) -> Result<()> {
    let channels = if file.channels == 1 { "1 channel".to_owned() } else { format!("{} channels", file.channels) };
    writeln!(out, "{}  {:.2} s, {} Hz, {channels}", file.file.display(), file.seconds, file.sample_rate)?;
    let width = file.classes.iter().map(|class| class.label.chars().count()).max().unwrap_or(0);
    for class in &file.classes {
        writeln!(out, "{:>5}  {:<width$}  {:.4}", class.rank, class.label, class.probability)?;
    }
    Ok(())
}

/// `logits` `[file, class]`; files, labels and the classifier are in the metadata.
fn logits_file(judge: &Judge, sha256: &str, files: &[PathBuf], classified: &[Classified]) -> Result<Vec<u8>> {
    let bytes: Vec<u8> =
        classified.iter().flat_map(|said| &said.logits).flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![classified.len(), judge.labels.len()], &bytes)?;
    let labels: Vec<&str> = judge.labels.iter().map(|label| label.name.as_str()).collect();
    let files: Vec<String> = files.iter().map(|path: &PathBuf| path.to_string_lossy().into_owned()).collect();
    let model = Path::new(&judge.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let metadata = HashMap::from([
        ("files".to_owned(), serde_json::to_string(&files)?),
        ("labels".to_owned(), serde_json::to_string(&labels)?),
        ("model".to_owned(), model),
        ("sha256".to_owned(), sha256.to_owned()),
    ]);
    Ok(safetensors::serialize([("logits", view)], Some(metadata))?)
}
