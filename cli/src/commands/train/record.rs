//! What a training leaves behind: its state, its numbers, its model.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tonoscope_core::training::{NamedTensor, StepReport, half_bytes};

use super::settings::{Music, Settings};
use crate::{
    failure::Misuse,
    figures::{LinePlot, Panel, Series},
    files::{OutputFolder, refuse_made_by_others},
    tensors,
};

const STATE: &str = "state.safetensors";
const METRICS: &str = "metrics.jsonl";
const SETTINGS: &str = "settings.toml";
/// Folder of the finished model.
pub(super) const MODEL: &str = "model";

/// The folder of one training.
pub(super) struct Record {
    folder: OutputFolder,
    lines: Vec<Line>,
}

/// A line of [`METRICS`]: as it is written, and what it says. Numbers are always read off the text, also in the run that has
/// written it: those with many digits may come back from text with another last bit, and a training that resumes would
/// draw other figures than one that was never stopped.
struct Line {
    text: String,
    value: Value,
}

impl Line {
    fn new(value: &Value) -> Result<Self> {
        let text = value.to_string();
        Ok(Self { value: serde_json::from_str(&text)?, text })
    }

    /// `None` if it is damaged.
    fn read(text: &str) -> Option<Self> {
        Some(Self { value: serde_json::from_str(text).ok()?, text: text.to_owned() })
    }

    fn step(&self) -> u64 {
        self.value["step"].as_u64().unwrap_or(u64::MAX)
    }

    fn is(&self, kind: &str) -> bool {
        self.value["kind"] == kind
    }
}

impl Record {
    /// A folder that is new, or of a training with the same settings.
    pub(super) fn open(folder: OutputFolder, settings: &str) -> Result<Self> {
        let path = folder.path().join(SETTINGS);
        match std::fs::read(&path) {
            Ok(there) if there != settings.as_bytes() => {
                let what = format!("`{}` was trained with other settings", folder.path().display());
                return Err(Misuse::new(what).hint("choose another folder, or remove this one").into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                refuse_made_by_others(folder.path(), &["model", "sounds", METRICS, STATE])?;
                folder.write(SETTINGS, settings.as_bytes())?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
        // What a killed training has left half-written.
        for name in ["figures", "notes", "notes_held_out", "sounds"] {
            let within = folder.path().join(name);
            if within.is_dir() {
                OutputFolder::existing(&within).tidy()?;
            }
        }
        tidy_below(&folder.path().join(MODEL))?;
        let lines = std::fs::read_to_string(folder.path().join(METRICS)).unwrap_or_default();
        Ok(Self { folder, lines: lines.lines().filter_map(Line::read).collect() })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &OutputFolder {
        &self.folder
    }

    /// What is needed to go on, if the training has begun.
    pub(super) fn state(&self) -> Result<Option<Vec<u8>>> {
        let path = self.folder.path().join(STATE);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Forgets what came after the state that was saved.
    pub(super) fn cut(&mut self, steps: usize) {
        let steps = steps as u64;
        self.lines.retain(|line| line.step() < steps || (line.is("held_out") && line.step() == steps));
    }

    pub(super) fn step(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        let mut line = serde_json::to_value(report)?;
        line["kind"] = "step".into();
        line["seconds"] = seconds.into();
        self.lines.push(Line::new(&line)?);
        Ok(())
    }

    /// The means of the held-out clips after `step` steps.
    pub(super) fn held_out(&mut self, step: usize, terms: &BTreeMap<String, f64>) -> Result<()> {
        self.lines.push(Line::new(&json!({"kind": "held_out", "step": step, "terms": terms}))?);
        self.write_lines()
    }

    /// The held-out numbers that came last.
    pub(super) fn latest(&self) -> Option<BTreeMap<String, f64>> {
        let line = self.lines.iter().rev().find(|line| line.is("held_out"))?;
        serde_json::from_value(line.value["terms"].clone()).ok()
    }

    /// Writes down the state, and the numbers so far.
    pub(super) fn save(&self, state: &[u8]) -> Result<()> {
        self.write_lines()?;
        self.folder.write(STATE, state)?;
        Ok(())
    }

    fn write_lines(&self) -> Result<()> {
        let mut text = vec![];
        for line in &self.lines {
            writeln!(text, "{}", line.text)?;
        }
        self.folder.write(METRICS, &text)?;
        Ok(())
    }

    /// Draws the losses.
    pub(super) fn figure(&self, name: &str) -> Result<()> {
        let points = |kind: &str, loss: &dyn Fn(&Value) -> Option<f64>| -> Vec<_> {
            let lines = self.lines.iter().filter(|line| line.is(kind)).map(|line| &line.value);
            lines.filter_map(|line| Some((line["step"].as_f64()?, loss(line)?, None))).collect()
        };
        let learnt = points("step", &|line| line["loss"].as_f64());
        if learnt.is_empty() {
            return Ok(());
        }
        let held_out = points("held_out", &|line| line["terms"]["loss"].as_f64());
        let mut series = vec![Series { name: "training".to_owned(), points: learnt }];
        if !held_out.is_empty() {
            series.push(Series { name: "held out, mean of the weights".to_owned(), points: held_out });
        }
        let plot = LinePlot {
            name: "loss".to_owned(),
            caption: format!("Loss of {name} by step: of each step's clips, and of clips that were never learnt from."),
            x_label: "step".to_owned(),
            y_label: "loss".to_owned(),
            panels: vec![Panel { title: String::new(), series }],
            ..LinePlot::default()
        };
        plot.draw()?.write(self.folder.path())
    }
}

/// Removes half-written files of a killed process from `folder` and its subfolders. A missing folder is fine.
fn tidy_below(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    OutputFolder::existing(folder).tidy()?;
    let listed = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    for entry in listed.with_context(|| format!("cannot read the folder `{}`", folder.display()))? {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tidy_below(&entry.path())?;
        }
    }
    Ok(())
}

/// A file of a finished model, with its path within the folder.
pub(super) struct ModelFile {
    path: String,
    content: Content,
}

enum Content {
    Tensors(Vec<NamedTensor>),
    Bytes(Vec<u8>),
}

impl ModelFile {
    pub(super) fn tensors(path: &str, tensors: Vec<NamedTensor>) -> Self {
        Self { path: path.to_owned(), content: Content::Tensors(tensors) }
    }

    pub(super) fn bytes(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), content: Content::Bytes(bytes) }
    }

    pub(super) fn json(path: &str, value: &Value) -> Result<Self> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        Ok(Self::bytes(path, bytes))
    }
}

/// Writes the model's folder; how many bytes its weights have.
pub(super) fn model(
    path: &Path,
    settings: &Settings,
    files: Vec<ModelFile>,
    held_out: Option<BTreeMap<String, f64>>,
    steps: usize,
) -> Result<usize> {
    let folder = OutputFolder::open(path)?;
    let of_tensors = |file: &ModelFile| match &file.content {
        Content::Tensors(tensors) => tensors.iter().map(|(_, _, values)| values.len()).sum(),
        Content::Bytes(_) => 0,
    };
    let numbers = files.iter().map(of_tensors).sum();
    folder.write("README.md", card(settings, numbers, held_out, steps).as_bytes())?;
    let mut written = 0;
    for ModelFile { path, content } in files {
        let (within, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let bytes = match content {
            Content::Tensors(tensors) => {
                let bytes = halved(&tensors)?;
                written += bytes.len();
                bytes
            }
            Content::Bytes(bytes) => bytes,
        };
        OutputFolder::open(&folder.path().join(within))?.write(name, &bytes)?;
    }
    Ok(written)
}

/// A safetensors file in 16 bits.
fn halved(tensors: &[NamedTensor]) -> Result<Vec<u8>> {
    let stored: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| half_bytes(values)).collect();
    let views = tensors
        .iter()
        .zip(&stored)
        .map(|((name, shape, _), bytes)| Ok((name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    tensors::to_file(views, [("format".to_owned(), "pt".to_owned())].into())
}

fn card(settings: &Settings, numbers: usize, held_out: Option<BTreeMap<String, f64>>, steps: usize) -> String {
    let Settings { name, seed, batch, seconds, music, solos, start, keep, .. } = settings;
    let rows: Vec<String> =
        held_out.unwrap_or_default().iter().map(|(term, value)| format!("| {term} | {value:.4} |")).collect();
    let rows = rows.join("\n");
    let music = match music {
        Music::Harmonics => "notes of a few harmonics, computed; held-out clips by another seed",
        Music::Soundfont => {
            "phrases composed by a seed, played from recorded notes of the soundfont FluidR3Mono (MIT); held-out clips \
             are the validation part"
        }
    };
    let solos = if *solos > 0.0 { format!(", {:.0} % of them a melody alone", 100.0 * solos) } else { String::new() };
    // A trained model lies in the folder `model` of its training.
    let named = |start: &PathBuf| {
        let own = start.file_name()?;
        let training = if own == "model" { start.parent()?.file_name()? } else { own };
        Some(training.to_string_lossy().into_owned())
    };
    let kept = if *keep > 0.0 {
        format!("; the weights are a mean, {:.0} % of it that model's", 100.0 * keep)
    } else {
        String::new()
    };
    let begun = start
        .as_ref()
        .and_then(named)
        .map_or_else(|| "Trained from scratch".to_owned(), |start| format!("Trained on, from `{start}`,"));
    format!(
        "# {name}\n\n{begun} by `tonoscope train`, on music that was made for it.\n\n\
         - numbers in the checkpoint: {numbers}, 16 bits each (running means of the weights)\n\
         - data: {music}{solos}; {batch} clips of {seconds} s per step\n\
         - length: trained on {seconds} s; longer music smears\n\
         - budget: {steps} of {} steps, seed {seed}{kept}\n\n\
         ## Measured on held-out clips\n\n| what | value |\n|---|---|\n{rows}\n\n\
         ## Limits\n\nIt has heard nothing but that music: expect little of real recordings. What it learnt is only as \
         true as the numbers above.\n",
        settings.steps
    )
}
