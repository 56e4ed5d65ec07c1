//! What the long experiments share: how music is generated, which layers, and what is said about the run.

use std::{
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonoscope_backends::Opened;
use tonoscope_core::{
    audio::Waveform,
    models::musicgen::{Generate, Prompt, Sampling, SettingError, Window},
};

use crate::{
    failure::Misuse,
    files::OutputFolder,
    job::JobArgs,
    progress,
    readable::ReadableArgs,
    session::{DeviceArgs, FoundModel, LoadedModel, ModelArgs, Provenance, UsedDevice},
    tensors,
    units::Units,
};

/// Length of an experiment's music by default, seconds.
const USUAL_SECONDS: f64 = 4.0;

/// How tokens are chosen.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SamplingArgs {
    /// Weight of the prompt; 1 switches guidance off [default: the checkpoint's, else 3]
    #[arg(long)]
    guidance: Option<f64>,
    /// Sample among that many of the likeliest tokens; 0: among all
    #[arg(long, default_value_t = 250)]
    top_k: usize,
    /// Sample among the likeliest tokens that have this share of the probability; 0: among all
    #[arg(long, default_value_t = 0.0)]
    top_p: f64,
    /// Divides the logits before sampling
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Take the likeliest token instead of sampling
    #[arg(long)]
    greedy: bool,
    /// Seed; a prompt gives the same music for the same seed, whatever else is generated
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl SamplingArgs {
    /// What can be said of them and of `seconds` of music, if a length is asked for, before anything is read.
    pub(crate) fn check(&self, seconds: Option<f64>) -> Result<(), Misuse> {
        // Temperature and top-p are checked even where `--greedy` leaves them unused.
        Generate::check(seconds.unwrap_or(USUAL_SECONDS), self.guidance, &self.random()).map_err(misuse)
    }

    fn sampling(&self) -> Sampling {
        if self.greedy { Sampling::Greedy } else { self.random() }
    }

    fn random(&self) -> Sampling {
        Sampling::Random { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed }
    }

    /// How `seconds` of music are generated with `found`; by default `usual`, or what the model was trained on if that is
    /// less. Says so where more is asked for than the model was trained on.
    ///
    /// # Errors
    /// [`Misuse`] if that is less than a frame.
    pub(crate) fn generate(&self, seconds: Option<f64>, usual: f64, found: &FoundModel) -> Result<Generate, Misuse> {
        let frame_rate = found.files.config.audio_encoder.frame_rate();
        let trained = found.files.generation.trained_seconds.filter(|trained| *trained > 0.0);
        if let (Some(seconds), Some(trained)) = (seconds, trained.filter(|trained| seconds > Some(*trained))) {
            progress::note(&format!(
                "{seconds} s of music, but the model was trained on {trained} s: what is longer smears"
            ));
        }
        let seconds = seconds.unwrap_or(trained.map_or(usual, |trained| usual.min(trained)));
        let guidance = self.guidance.unwrap_or(found.files.generation.guidance_scale);
        Generate::new(seconds, guidance, self.sampling(), frame_rate).map_err(misuse)
    }
}

fn misuse(error: SettingError) -> Misuse {
    let misuse = Misuse::new(error.to_string());
    match error {
        SettingError::Temperature(_) => misuse.hint("for the likeliest token every time, use `--greedy`"),
        _ => misuse,
    }
}

/// What every long experiment is told.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct StudyArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) readable: ReadableArgs,
    /// Seconds of music [default: 4, or what the model was trained on if that is less]
    #[arg(long)]
    pub(crate) duration: Option<f64>,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Folder for the results; a run that was stopped goes on where it was
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// Start anew in a folder that holds the results of other settings
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Write the codes as well, to `tokens.safetensors`
    #[arg(long)]
    pub(crate) tokens: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What decides the numbers of every experiment: part of the key of its units.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// File of weights → sha256.
    pub(crate) model: Vec<(String, String)>,
    /// Layers of the decoder.
    pub(crate) layers: usize,
    /// Width of its residual stream.
    pub(crate) width: usize,
    /// sha256 of the judge's weights.
    pub(crate) judge: Option<String>,
    /// Type of the activations.
    pub(crate) dtype: String,
    /// How matrices are kept.
    pub(crate) weights: String,
    /// Frames of music.
    pub(crate) frames: usize,
    /// Frames per second.
    pub(crate) frame_rate: usize,
    /// Weight of the prompt.
    pub(crate) guidance: f64,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
}

impl Basis {
    /// How the music is generated.
    pub(crate) fn generate(&self) -> Generate {
        Generate {
            frames: self.frames,
            guidance: self.guidance,
            sampling: self.sampling,
            window: Window::published(self.frame_rate),
        }
    }

    /// Identity of the model's weights, in short.
    pub(crate) fn identity(&self) -> String {
        let sums: Vec<&str> = self.model.iter().map(|(_, sum)| sum.get(..16).unwrap_or(sum)).collect();
        sums.join("+")
    }
}

/// A model on a device, and what is to be said about both.
pub(crate) struct Ready {
    pub(crate) loaded: LoadedModel,
    pub(crate) basis: Basis,
    pub(crate) provenance: Provenance,
    pub(crate) device: UsedDevice,
}

impl StudyArgs {
    /// How the music is generated with `found`.
    pub(crate) fn generate(&self, found: &FoundModel) -> Result<Generate, Misuse> {
        self.sampling.generate(self.duration, USUAL_SECONDS, found)
    }

    /// Loads the model.
    pub(crate) fn load(&self, found: FoundModel, opened: &Opened, how: &Generate) -> Result<Ready> {
        let config = &found.files.config;
        let (layers, width) = (config.decoder.num_hidden_layers, config.decoder.hidden_size);
        let frame_rate = config.audio_encoder.frame_rate();
        let device = UsedDevice::new(&self.device, opened);
        let loaded = found.load(opened)?;
        let provenance = loaded.provenance()?;
        let basis = Basis {
            model: provenance.checksums.clone(),
            layers,
            width,
            judge: None,
            dtype: device.dtype.clone(),
            weights: device.weights.clone(),
            frames: how.frames,
            frame_rate,
            guidance: how.guidance,
            sampling: how.sampling,
        };
        Ok(Ready { loaded, basis, provenance, device })
    }
}

/// What `run.json` says of an experiment.
#[derive(Debug, Serialize)]
pub(crate) struct StudyRecord<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    provenance: &'a Provenance,
    device: &'a UsedDevice,
    settings: &'a Value,
    timings: StudyTimings,
}

/// How long this process took; a run that was resumed says nothing of the earlier ones.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StudyTimings {
    pub(crate) load_s: f64,
    pub(crate) units_made: usize,
    pub(crate) units_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generate_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interventions_per_minute: Option<f64>,
}

impl<'a> StudyRecord<'a> {
    pub(crate) fn new(
        command: &'static str,
        provenance: &'a Provenance,
        device: &'a UsedDevice,
        settings: &'a Value,
        timings: StudyTimings,
    ) -> Self {
        Self { command, version: env!("CARGO_PKG_VERSION"), provenance, device, settings, timings }
    }

    pub(crate) fn write(&self, folder: &OutputFolder) -> Result<()> {
        folder.write("run.json", &serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

/// The first of `names` that is no finished unit, and how many there are of it.
pub(crate) fn missing(units: &Units, names: impl Iterator<Item = String>) -> (Option<String>, usize) {
    let mut missing = names.filter(|name| !units.has(name));
    let first = missing.next();
    let count = missing.count() + usize::from(first.is_some());
    (first, count)
}

/// Whether units of `names` are still to be done; if so, says on `out` how many of `what`, and what to do.
pub(crate) fn unfinished(
    units: &Units,
    names: impl ExactSizeIterator<Item = String>,
    what: &str,
    folder: &Path,
    out: &mut dyn Write,
) -> Result<bool> {
    let all = names.len();
    let (Some(first), count) = missing(units, names) else { return Ok(false) };
    writeln!(
        out,
        "{count} of {all} {what} are not done yet, `{first}` being the first; run the other jobs, then `tonoscope merge {}`",
        folder.display()
    )?;
    Ok(true)
}

/// A prompt with the key of its random numbers.
pub(crate) fn keyed(found: &FoundModel, text: &str) -> Result<Prompt> {
    use anyhow::Context;
    Prompt::of_text(&found.tokenizer, text, 0).with_context(|| format!("prompt `{}`", tensors::shortened(text)))
}

/// Writes `wave` as a 16-bit WAV file called `name`.
pub(crate) fn write_wave(folder: &OutputFolder, name: &str, wave: &Waveform) -> Result<()> {
    folder.write(name, &tensors::wav(wave, false)?)?;
    Ok(())
}

/// Layers on the command line: `all`, or numbers and ranges such as `1,12,20..24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerList {
    All,
    Some(Vec<Range<usize>>),
}

impl FromStr for LayerList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let number = |digits: &str| {
            digits
                .trim()
                .parse::<usize>()
                .map_err(|_| format!("`{digits}` is no layer; layers look like `all`, `3` or `20..24`"))
        };
        let part = |part: &str| {
            let range = match part.split_once("..") {
                Some((start, end)) => match end.strip_prefix('=') {
                    Some(last) => number(start)?..number(last)?.saturating_add(1),
                    None => number(start)?..number(end)?,
                },
                None => number(part)?..number(part)?.saturating_add(1),
            };
            if range.is_empty() {
                Err(format!("`{part}` holds no layer: the end of a range is not part of it"))
            } else {
                Ok(range)
            }
        };
        Ok(Self::Some(text.split(',').map(part).collect::<Result<_, _>>()?))
    }
}

impl LayerList {
    /// The layers, sorted, each once; all are those of `known`.
    ///
    /// # Errors
    /// [`Misuse`] names the first that is not in `known`.
    pub(crate) fn expand(&self, known: Range<usize>) -> Result<Vec<usize>, Misuse> {
        let Self::Some(ranges) = self else { return Ok(known.collect()) };
        if let Some(range) = ranges.iter().find(|range| range.start < known.start || range.end > known.end) {
            let beyond = if range.start < known.start { range.start } else { range.end - 1 };
            let what = format!("layer {beyond}, but the model has the layers {} to {}", known.start, known.end - 1);
            return Err(Misuse::new(what)
                .hint("`all`, single layers such as `3`, or ranges such as `1..4`, which end before 4"));
        }
        let mut layers: Vec<usize> = ranges.iter().cloned().flatten().collect();
        layers.sort_unstable();
        layers.dedup();
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbers_and_ranges() {
        let layers = |text: &str| text.parse::<LayerList>().unwrap().expand(1..25);
        assert_eq!(layers("all").unwrap().len(), 24);
        assert_eq!(layers("12,1,20..24,22").unwrap(), [1, 12, 20, 21, 22, 23]);
        assert_eq!(layers("20..=24").unwrap(), [20, 21, 22, 23, 24]);
        assert_eq!(layers("25").unwrap_err().to_string(), "layer 25, but the model has the layers 1 to 24");
        assert_eq!(layers("0..3").unwrap_err().to_string(), "layer 0, but the model has the layers 1 to 24");
        assert!("4..4".parse::<LayerList>().is_err());
        assert!("four".parse::<LayerList>().is_err());
    }
}
