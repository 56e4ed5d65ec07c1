//! `tonoscope generate`

mod batches;
#[cfg(test)]
mod fuzz;
mod plan;
mod record;
mod unit;

use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::Result;
use tonoscope_core::{captures, hooks::Capture, models::musicgen::Sampling};

use self::{
    batches::{Work, audio_name},
    plan::Plan,
    record::{RunRecord, Timings, pieces},
};
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder, remove_if_there},
    prompt_file,
    readable::ReadableArgs,
    session::{DeviceArgs, ModelArgs, UsedDevice},
    study::SamplingArgs,
    tensors,
    units::Units,
};

/// Make music from text
///
/// Beside the audio, `run.json` says how it was made.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Text prompt; give it several times for several pieces. An empty one is no prompt at all
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Prompt file, one prompt a line, as `prompts generate` or `prompts template` writes it
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    readable: ReadableArgs,
    /// Seconds of music, what is continued included [default: 8, or what the model was trained on if that is less]
    #[arg(long)]
    duration: Option<f64>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Continue this recording, a sound file as for `embed`; of more than 30 s the model hears the last part
    #[arg(long, value_name = "AUDIO")]
    continue_from: Option<PathBuf>,
    /// Prompts that are computed together
    #[arg(long, default_value_t = 4)]
    batch_size: usize,
    /// Write the codes as well, `[prompt, codebook, frame]`, to `tokens.safetensors`
    #[arg(long)]
    tokens: bool,
    /// Record hook points, such as `decoder.*.resid_post:mean_time`, to `capture.safetensors`
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    capture: Vec<Capture>,
    /// Apply the edits of a file
    #[arg(long, value_name = "FILE")]
    edit: Vec<PathBuf>,
    /// Scale each piece to 1 dB below full scale, as audiocraft writes it
    #[arg(long)]
    normalise: bool,
    /// Write 32-bit float WAV instead of 16-bit
    #[arg(long)]
    float: bool,
    /// Folder for the results; the same command again goes on where an interrupted one stopped
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Start anew where the folder holds a run, finished or not
    #[arg(long)]
    overwrite: bool,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is written beside the pieces.
const FILES: [&str; 3] = ["run.json", "tokens.safetensors", "capture.safetensors"];

pub(crate) fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let (plan, found) = Plan::new(args)?;
    if args.dry_run {
        writeln!(
            out,
            "would generate {} pieces of {:.2} s ({} frames, {} decoder layers) with `{}` into `{}`",
            plan.prompts.len(),
            plan.seconds(),
            plan.how.frames,
            found.files.config.decoder.num_hidden_layers,
            args.model.model,
            args.out.display()
        )?;
        return Ok(());
    }
    let inputs = args.prompts.iter().chain(&args.continue_from).chain(&args.edit);
    let folder = OutputFolder::begin(&args.out, &Inputs::new(inputs))?;
    folder.refuse_inputs(FILES.map(str::to_owned).into_iter().chain((0..plan.prompts.len()).map(audio_name)))?;
    let started = Instant::now();
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let loaded = found.load(&opened)?;
    let mut timings = Timings { load_s: started.elapsed().as_secs_f64(), ..Timings::default() };
    let provenance = loaded.provenance()?;
    let key = plan.key(args, &provenance, &device, loaded.model.config())?;
    let stale = if args.overwrite { earlier_results(&folder) } else { vec![] };
    let units = Units::open(&folder, &key, args.overwrite)?;
    stale.iter().try_for_each(|path| remove_if_there(path))?;
    let sequences = plan.sequences(&loaded.model)?;
    let work = Work {
        model: &loaded.model,
        plan: &plan,
        edit_tensors: plan.edit_tensors.place(&loaded.model.device()),
        sequences: &sequences,
        args,
        folder: &folder,
        units: &units,
    };
    let made = work.run(&mut timings)?;
    if args.tokens {
        let codes: Vec<_> = made.iter().flat_map(|batch| batch.codes.iter().cloned()).collect();
        folder.write("tokens.safetensors", &tensors::codes_file(&codes, &plan.prompts)?)?;
    }
    let pieces = pieces(&plan, &sequences, &made);
    if !plan.spec.captures.is_empty() {
        let batches: Vec<_> = made.into_iter().map(|batch| (batch.codes.len(), batch.captures)).collect();
        let seed = match plan.how.sampling {
            Sampling::Random { seed, .. } => Some(seed),
            Sampling::Greedy => None,
        };
        let origin = captures::Origin {
            spec: &plan.spec,
            prompts: &plan.prompts,
            tokens: &plan.tokens,
            model: &provenance.model,
            revision: provenance.revision.as_deref(),
            seed,
        };
        let file = captures::to_file(&captures::join(&batches)?, &origin)?;
        folder.write("capture.safetensors", &file)?;
    }
    let record = RunRecord {
        version: env!("CARGO_PKG_VERSION"),
        provenance,
        device,
        settings: plan.settings(args),
        pieces,
        hooks: plan.spec,
        timings,
    };
    let text = serde_json::to_string_pretty(&record)?;
    folder.write("run.json", text.as_bytes())?;
    if args.json {
        writeln!(out, "{text}")?;
    } else {
        for piece in &record.pieces {
            writeln!(out, "{}", args.out.join(&piece.audio).display())?;
        }
    }
    Ok(())
}

impl GenerateArgs {
    /// What can be said before anything is read.
    fn check(&self) -> Result<(), Misuse> {
        self.sampling.check(self.duration)?;
        if self.batch_size == 0 {
            return Err(Misuse::new("a batch size of 0, expected 1 or more"));
        }
        Ok(())
    }

    /// The prompts, each with the concept that a prompt file gives it.
    fn read_prompts(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut prompts: Vec<_> = self.prompt.iter().map(|text| (text.clone(), None)).collect();
        if let Some(path) = &self.prompts {
            prompts.extend(prompt_file::read_lines(path)?.into_iter().map(|line| (line.text, line.concept)));
        }
        if prompts.is_empty() {
            return Err(Misuse::new("no prompt").hint("give one with `--prompt`, or a file with `--prompts`").into());
        }
        Ok(prompts)
    }
}

/// Files that an earlier run has written into `folder`, so that none of them is taken for a result of the next.
fn earlier_results(folder: &OutputFolder) -> Vec<PathBuf> {
    // Without a readable key nothing is known to be ours.
    let Ok(units) = Units::existing(folder.path()) else { return vec![] };
    let pieces = units.key()["prompts"].as_array().map_or(0, Vec::len);
    FILES
        .map(str::to_owned)
        .into_iter()
        .chain((0..pieces).map(audio_name))
        .map(|file| folder.path().join(file))
        .collect()
}
