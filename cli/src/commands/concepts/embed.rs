//! `tonoscope concepts embed`

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonoscope_core::audio::Waveform;

use super::listed::{INDEX, Listed};
use crate::{
    embedder::{Embedder, EmbedderArgs},
    files::{Inputs, OutputFolder},
    interrupt::{self, Interrupted},
    job::JobArgs,
    json_path, progress,
    session::{DeviceArgs, UsedDevice, sha256},
    sound::{find_sound, read_sound},
    study::unfinished,
    tensors::to_file,
    units::Units,
};

/// Samples per second that notes are embedded at.
const RATE: u32 = 48_000;
/// Samples of every note: what is missing of 10 s is silence, as published.
const SAMPLES: usize = 10 * RATE as usize;
/// Notes of one unit.
const UNIT: usize = 64;

/// Embed the chosen notes, each once for all concepts
///
/// Writes `embeddings.safetensors`: `embeddings` `[note, feature]`, and in its metadata `notes`, their names in order. A
/// note is mixed down to mono, resampled to 48 kHz as torchaudio does, and filled up with silence to 10 s, as published.
#[derive(Debug, clap::Args)]
pub(crate) struct EmbedArgs {
    /// Folder that `concepts build` has filled
    #[arg(default_value = "concepts")]
    folder: PathBuf,
    /// Folder of the notes' sound files [default: where they were when the concepts were built]
    #[arg(long, value_name = "FOLDER")]
    audio: Option<PathBuf>,
    #[command(flatten)]
    embedder: EmbedderArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    job: JobArgs,
    /// Folder for the results; a run that was stopped goes on where it was [default: that of the concepts]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Start anew in a folder that holds the results of other settings
    #[arg(long)]
    overwrite: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Everything that decides the embeddings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EmbedPlan {
    command: String,
    embedder: Value,
    device: Value,
    /// Features of an embedding.
    width: usize,
    /// sha256 of `concepts.json`.
    concepts: String,
    /// Names in order.
    notes: Vec<String>,
    /// How many embeddings it would take to embed a note once for every concept.
    once_per_concept: usize,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    notes: usize,
    width: usize,
    once_per_concept: usize,
    /// Embeddings that were not computed, as a share of once per concept.
    saved: f64,
    #[serde(serialize_with = "json_path::one")]
    file: PathBuf,
}

impl EmbedPlan {
    pub(crate) const COMMAND: &'static str = "concepts-embed";

    /// Names of the units.
    pub(crate) fn units(&self) -> impl ExactSizeIterator<Item = String> {
        (0..self.notes.len().div_ceil(UNIT)).map(unit_name)
    }
}

fn unit_name(index: usize) -> String {
    format!("notes_{index:06}")
}

pub(crate) fn run(args: &EmbedArgs, out: &mut dyn Write) -> Result<()> {
    let job = args.job.job()?;
    interrupt::listen();
    let listed = Listed::read(&args.folder)?;
    let paths: Vec<PathBuf> = match &args.audio {
        Some(audio) => listed.notes.keys().map(|name| find_sound(audio, name)).collect(),
        None => listed.notes.values().cloned().collect(),
    };
    // Before the model is loaded: a folder that was moved is noticed at once.
    read_note(&paths[0])?;
    let out_folder = args.out.as_ref().unwrap_or(&args.folder);
    let folder = OutputFolder::begin(out_folder, &Inputs::new([args.folder.join(INDEX)]))?;
    let opened = args.device.open()?;
    let embedder = args.embedder.load(&opened)?;
    let plan = EmbedPlan {
        command: EmbedPlan::COMMAND.to_owned(),
        embedder: embedder.key(),
        device: UsedDevice::new(&args.device, &opened).key(),
        width: embedder.width(),
        concepts: sha256(&args.folder.join(INDEX))?,
        once_per_concept: listed.once_per_concept(),
        notes: listed.notes.into_keys().collect(),
    };
    let units = Units::open(&folder, &serde_json::to_value(&plan)?, args.overwrite)?;
    let all: Vec<&[PathBuf]> = paths.chunks(UNIT).collect();
    let todo: Vec<usize> =
        job.share(all.len(), "blocks of notes").filter(|&index| !units.has(&unit_name(index))).collect();
    let count: usize = todo.iter().map(|&index| all[index].len()).sum();
    let bar = progress::steps(count as u64, "embedding notes", "notes");
    let started = Instant::now();
    for &index in &todo {
        if interrupt::asked() {
            return Err(units.interrupted(Interrupted::Resumable.into(), plan.units(), "blocks of notes"));
        }
        units.write(&unit_name(index), &embed(&embedder, all[index])?)?;
        bar.inc(all[index].len() as u64);
    }
    bar.finish_and_clear();
    if count > 0 {
        let seconds = started.elapsed().as_secs_f64();
        let each = seconds / count as f64;
        progress::note(&format!(
            "{count} notes in {seconds:.1} s, {:.1} ms each; once per concept all would take {:.1} s",
            1000.0 * each,
            each * plan.once_per_concept as f64
        ));
    }
    if unfinished(&units, plan.units(), "blocks of notes", out_folder, out)? {
        return Ok(());
    }
    finish(&plan, &units, &folder, args.json, out)
}

/// Writes `embeddings.safetensors` of finished units.
pub(crate) fn finish(
    plan: &EmbedPlan,
    units: &Units,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    units.clear_half_written()?;
    let mut bytes = Vec::with_capacity(plan.notes.len() * plan.width * size_of::<f32>());
    for (name, notes) in plan.units().zip(plan.notes.chunks(UNIT)) {
        let unit = units.read(&name)?;
        ensure!(unit.len() == notes.len() * plan.width * size_of::<f32>(), "unit `{name}` is damaged");
        bytes.extend(unit);
    }
    let view = TensorView::new(Dtype::F32, vec![plan.notes.len(), plan.width], &bytes)?;
    let metadata = BTreeMap::from([
        ("notes".to_owned(), serde_json::to_string(&plan.notes)?),
        ("model".to_owned(), serde_json::to_string(&plan.embedder)?),
    ]);
    let file = folder.write("embeddings.safetensors", &to_file(vec![("embeddings", view)], metadata)?)?;
    let (notes, once_per_concept) = (plan.notes.len(), plan.once_per_concept);
    let saved = 1.0 - notes as f64 / once_per_concept.max(1) as f64;
    let summary = Summary { notes, width: plan.width, once_per_concept, saved, file };
    if as_json {
        serde_json::to_writer_pretty(&mut *out, &json!(summary))?;
        return Ok(writeln!(out)?);
    }
    writeln!(
        out,
        "{notes} notes were embedded; once per concept it would have been {once_per_concept}, so {:.1} % were saved",
        100.0 * saved
    )?;
    Ok(writeln!(out, "{}", summary.file.display())?)
}

/// Embeddings of some notes, one after the other, as bytes.
fn embed(embedder: &Embedder, paths: &[PathBuf]) -> Result<Vec<u8>> {
    let sounds = paths.iter().map(|path| read_note(path)).collect::<Result<Vec<_>>>()?;
    let embeddings = embedder.embed(sounds)?;
    ensure!(embeddings.len() == paths.len(), "{} notes have {} embeddings", paths.len(), embeddings.len());
    Ok(embeddings.iter().flatten().flat_map(|value| value.to_le_bytes()).collect())
}

/// A note as it is embedded.
fn read_note(path: &Path) -> Result<Waveform> {
    let wave = read_sound(path)?.to_mono().resample_sinc(RATE).with_context(|| format!("`{}`", path.display()))?;
    let mut samples = wave.channels()[0].clone();
    samples.resize(SAMPLES, 0.0);
    Ok(Waveform::new(vec![samples], RATE)?)
}
