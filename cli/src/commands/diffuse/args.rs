//! What `tonoscope diffuse` is told.

use std::{fmt, ops::ControlFlow, path::PathBuf, str::FromStr};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    diffusion::{Sampler, SamplerSettings, Schedule, SolverType},
    hooks::Capture,
};

use crate::{
    diffuser::DiffuserArgs, failure::Misuse, files::Inputs, job::JobArgs, prompt_file, readable::ReadableArgs,
    session::DeviceArgs,
};

/// Samples per second that the published code cuts by, whatever the model's rate is.
const PUBLISHED_RATE: f64 = 48_000.0;
/// Length of the published music.
const PUBLISHED_SECONDS: f64 = 10.0;
/// More is no schedule, but a slip.
const MAX_STEPS: usize = 10_000;
/// More samples of one prompt than anybody listens to.
const MAX_SAMPLES: usize = 10_000;

/// Let a diffusion model make music, and listen to it on the way
///
/// Every prompt is sampled several times. At some denoising steps, the model's estimate of the clean latents is decoded,
/// divided by its peak, cut, and written as a 16-bit WAV file: `diff_step_N/prompt_I_sample_J.wav`, steps, prompts and
/// samples counted from 0. `audio_info.csv` lists the files once all prompts are finished. The defaults are the published
/// settings. A prompt's noise depends on the seed, its text and the number of the sample alone.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct DiffuseArgs {
    #[command(flatten)]
    pub(super) model: DiffuserArgs,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Text prompt; give it several times for several. An empty one is no prompt at all
    #[arg(long, value_name = "TEXT")]
    pub(super) prompt: Vec<String>,
    /// Prompt file, one prompt a line, as `prompts generate` or `prompts template` writes it
    #[arg(long, value_name = "FILE")]
    pub(super) prompts: Option<PathBuf>,
    #[command(flatten)]
    pub(super) readable: ReadableArgs,
    /// Annotations of the prompts, for `audio_info.csv`
    #[arg(long, value_name = "JSON")]
    pub(super) annotations: Option<PathBuf>,
    /// Steer away from this text instead of from no text
    #[arg(long, value_name = "TEXT")]
    pub(super) negative_prompt: Option<String>,
    /// Samples of each prompt
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(super) samples: usize,
    /// Denoising steps
    #[arg(long, default_value_t = 50)]
    pub(super) steps: usize,
    /// Steps whose estimate is decoded, from 0 [default: 5,10,15,… and the last]
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    pub(super) snapshots: Vec<usize>,
    /// Weight of the prompt; 1 switches guidance off
    #[arg(long, default_value_t = 6.0)]
    pub(super) guidance: f64,
    /// How far guidance is brought back to the spread of the conditional estimate, 0 to 1. The published call asks for it by
    /// an argument that does nothing, so 0 is what was run
    #[arg(long, default_value_t = 0.0)]
    pub(super) rescale: f64,
    /// Noise level of the last step
    #[arg(long, default_value_t = 0.01)]
    pub(super) sigma_min: f64,
    /// Noise level of the first step
    #[arg(long, default_value_t = 100.0)]
    pub(super) sigma_max: f64,
    /// How the noise levels are spread
    #[arg(long, value_enum, default_value_t = ScheduleName::Polyexponential)]
    pub(super) schedule: ScheduleName,
    /// Bends the schedule [default: 1 for polyexponential, 7 for karras]
    #[arg(long)]
    pub(super) rho: Option<f64>,
    /// Solver: `dpmpp-2m-sde`, `dpmpp-3m-sde` or `dpmpp-2m`
    #[arg(long, default_value_t = Sampler::Dpmpp2mSde)]
    pub(super) sampler: Sampler,
    /// How much of the noise that a step takes away is drawn anew
    #[arg(long, default_value_t = 1.0)]
    pub(super) eta: f64,
    /// Scales the noise that is drawn anew
    #[arg(long, default_value_t = 1.0)]
    pub(super) s_noise: f64,
    /// Second order of `dpmpp-2m-sde`
    #[arg(long, value_enum, default_value_t = Solver::Midpoint)]
    pub(super) solver: Solver,
    /// Where in a longer piece the music begins, as the model is told
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(super) seconds_start: f64,
    /// Length of the music, as the model is told, and of the files [default: 10, or all that the model makes if that is less]
    #[arg(long, value_name = "SECONDS")]
    pub(super) seconds_total: Option<f64>,
    /// How the files are cut: `published` keeps 48000 samples a second, whatever the model's rate, `corrected` goes by it
    #[arg(long, value_enum, default_value_t = Cut::Published)]
    pub(super) cut: Cut,
    /// Latent frames that are denoised: `full`, as published, or fewer for less work (no published result)
    #[arg(long, value_name = "FRAMES", default_value_t = LatentLength::Full)]
    pub(super) latent_length: LatentLength,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Recorded noise instead of drawn: a safetensors file with `initial` [row, channel, frame] and `steps` [step, row,
    /// channel, frame], a row per sample, or per prompt and sample
    #[arg(long, value_name = "FILE")]
    pub(super) noise: Option<PathBuf>,
    /// Samples that are computed together [default: all of a prompt]
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<usize>,
    /// Latent frames that are decoded in one piece: bounds the memory, changes no sample
    #[arg(long, value_name = "FRAMES", default_value_t = 128)]
    pub(super) tile: usize,
    /// Write the latents of the snapshots as well, to `latents/prompt_I.safetensors`
    #[arg(long)]
    pub(super) keep_latents: bool,
    /// Write the noise as well, to `noise/prompt_I.safetensors`, as `--noise` reads it
    #[arg(long)]
    pub(super) keep_noise: bool,
    /// Record hook points, such as `dit.*.resid_post:mean_time`, to `captures/prompt_I.safetensors`
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    pub(super) capture: Vec<Capture>,
    /// Apply the edits of a file; their steps are denoising steps
    #[arg(long, value_name = "FILE")]
    pub(super) edit: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// Folder for the results; a run that was stopped goes on where it was
    #[arg(long, default_value = "generated")]
    pub(super) out: PathBuf,
    /// Start anew in a folder that holds the results of other settings
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How noise levels are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ScheduleName {
    /// Evenly in the logarithm, for a rho of 1
    Polyexponential,
    /// As Karras et al. 2022
    Karras,
}

/// Second order of the stochastic solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Solver {
    /// As published
    Midpoint,
    /// The slope at the end of the step
    Heun,
}

/// How the files are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cut {
    /// 48000 samples for each second: 480000 for 10 s, which are 10.88 s at 44.1 kHz
    Published,
    /// As many samples as the length has at the model's rate: 441000 for 10 s at 44.1 kHz
    Corrected,
}

impl Cut {
    /// Samples that are kept of `seconds` of music at `rate` samples per second.
    pub(super) fn samples(self, seconds: f64, rate: u32) -> usize {
        let rate = match self {
            Self::Published => PUBLISHED_RATE,
            Self::Corrected => f64::from(rate),
        };
        (seconds * rate).round() as usize
    }
}

/// Latent frames on the command line: `full`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LatentLength {
    Full,
    Frames(usize),
}

impl LatentLength {
    /// The frames, of a model that was made for `full`.
    pub(super) fn frames(self, full: usize) -> Result<usize, Misuse> {
        match self {
            Self::Full => Ok(full),
            Self::Frames(frames) if (1..=full).contains(&frames) => Ok(frames),
            Self::Frames(frames) => {
                let misuse = Misuse::new(format!("{frames} latent frames, but the model has 1 to {full}"));
                Err(misuse.hint("pass `--latent-length full` for all of them"))
            }
        }
    }
}

impl fmt::Display for LatentLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Frames(frames) => frames.fmt(f),
        }
    }
}

impl FromStr for LatentLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            text => text.parse().map(Self::Frames).map_err(|_| "expected `full` or a number of frames".to_owned()),
        }
    }
}

impl DiffuseArgs {
    /// What is never written over.
    pub(super) fn inputs(&self) -> Inputs {
        let files = [&self.prompts, &self.annotations, &self.noise].into_iter().flatten();
        Inputs::new(files.chain(&self.edit))
    }

    /// What can be said before anything is read.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: String, hint: &str| ControlFlow::Break(Misuse::new(what).hint(hint));
        let checked = || -> ControlFlow<Misuse> {
            let within = |name: &str, value: usize, most: usize| {
                if (1..=most).contains(&value) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(Misuse::new(format!("`--{name}` is {value}, expected 1 to {most}")))
                }
            };
            within("steps", self.steps, MAX_STEPS)?;
            within("samples", self.samples, MAX_SAMPLES)?;
            within("batch", self.batch.unwrap_or(self.samples), MAX_SAMPLES)?;
            within("tile", self.tile, usize::MAX)?;
            if let Some(step) = self.snapshots.iter().find(|&&step| step >= self.steps) {
                let what = format!("a snapshot at step {step}, but there are only {} steps, from 0", self.steps);
                refuse(what, "choose among them with `--snapshots`, or take more `--steps`")?;
            }
            if !self.guidance.is_finite() {
                refuse(format!("a guidance of {}", self.guidance), "expected a number, such as 6")?;
            }
            if !(0.0..=1.0).contains(&self.rescale) {
                refuse(format!("a rescale of {}", self.rescale), "expected 0 to 1")?;
            }
            if !(self.eta >= 0.0 && self.eta.is_finite() && self.s_noise >= 0.0 && self.s_noise.is_finite()) {
                let what = format!("an eta of {} and noise scaled by {}", self.eta, self.s_noise);
                refuse(what, "expected numbers that are not negative")?;
            }
            if let Some(seconds) = self.seconds_total.filter(|seconds| !(*seconds > 0.0 && seconds.is_finite())) {
                refuse(format!("music of {seconds} s"), "`--seconds-total` takes a positive number")?;
            }
            if !(self.seconds_start >= 0.0 && self.seconds_start.is_finite()) {
                refuse(format!("music that begins at {} s", self.seconds_start), "`--seconds-start` counts from 0")?;
            }
            if self.prompt.is_empty() && self.prompts.is_none() {
                refuse("no prompt".to_owned(), "give one with `--prompt`, or a file with `--prompts`")?;
            }
            if !self.prompt.is_empty() && self.prompts.is_some() {
                refuse("both `--prompt` and `--prompts`".to_owned(), "put all prompts into the file")?;
            }
            ControlFlow::Continue(())
        };
        if let ControlFlow::Break(misuse) = checked() {
            return Err(misuse.into());
        }
        let levels = self.schedule().check(self.steps, self.sigma_min, self.sigma_max);
        levels.map_err(|error| {
            Misuse::new(error.to_string()).hint("see `--steps`, `--sigma-min`, `--sigma-max` and `--rho`").into()
        })
    }

    /// How the noise levels are spread.
    pub(super) fn schedule(&self) -> Schedule {
        match self.schedule {
            ScheduleName::Polyexponential => Schedule::Polyexponential { rho: self.rho.unwrap_or(1.0) },
            ScheduleName::Karras => Schedule::Karras { rho: self.rho.unwrap_or(7.0) },
        }
    }

    /// How a step is taken.
    pub(super) fn sampler(&self) -> SamplerSettings {
        let solver_type = match self.solver {
            Solver::Midpoint => SolverType::Midpoint,
            Solver::Heun => SolverType::Heun,
        };
        SamplerSettings { sampler: self.sampler, eta: self.eta, s_noise: self.s_noise, solver_type }
    }

    /// Length of the music, of a model that makes `most` seconds.
    pub(super) fn seconds_total(&self, most: f64) -> f64 {
        self.seconds_total.unwrap_or(PUBLISHED_SECONDS.min(most))
    }

    /// The steps whose estimate is decoded: sorted, each once.
    pub(super) fn snapshots(&self) -> Vec<usize> {
        let mut chosen = self.snapshots.clone();
        if chosen.is_empty() {
            chosen = (5..self.steps).step_by(5).chain([self.steps - 1]).collect();
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// The prompts, in order.
    pub(super) fn read_prompts(&self) -> Result<Vec<String>> {
        let Some(path) = &self.prompts else { return Ok(self.prompt.clone()) };
        prompt_file::read(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_as_published() {
        assert_eq!(Cut::Published.samples(10.0, 44_100), 480_000);
        assert_eq!(Cut::Corrected.samples(10.0, 44_100), 441_000);
    }

    #[test]
    fn latent_lengths_are_all_or_some() {
        let frames =
            |text: &str| text.parse::<LatentLength>().map(|length| length.frames(1024).map_err(|e| e.to_string()));
        assert_eq!(frames("full"), Ok(Ok(1024)));
        assert_eq!(frames("216"), Ok(Ok(216)));
        assert!(frames("1025").unwrap().unwrap_err().contains("1 to 1024"));
        assert!(frames("0").unwrap().is_err());
        assert!(frames("half").is_err());
    }
}
