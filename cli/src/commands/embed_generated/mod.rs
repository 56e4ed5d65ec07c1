//! `tonoscope embed-generated`

#[cfg(test)]
mod fuzz;
mod published;
mod source;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::source::Generated;
use super::diffuse::{INFO, step_folder};
use crate::{
    embedder::{Embedder, EmbedderArgs},
    failure::Misuse,
    files::{Inputs, OutputFolder},
    interrupt::{self, Interrupted},
    job::JobArgs,
    json_path, progress,
    session::{DeviceArgs, UsedDevice},
    sound::read_sound,
    study::unfinished,
    tensors,
    units::Units,
};

/// The tensor of a file.
const EMBEDDINGS: &str = "embeddings";

/// Embed what `diffuse` has generated
///
/// Every file of every step goes through CLAP, as `tonoscope embed` does it; the first 10 s count. Writes
/// `diff_step_N.safetensors` with `embeddings` [prompt, sample, feature], once all prompts are finished.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct EmbedGeneratedArgs {
    /// Folder of `diffuse`, or one of the published layout: `diff_step_N/prompt_I_sample_J.wav`
    generated: PathBuf,
    /// Steps whose files are embedded [default: all that are there]
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    steps: Vec<usize>,
    /// The prompts, one per line, where the folder has no `audio_info.csv`
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Embed nothing, but convert the published `diff_step_N/*_embeddings.pt`
    #[arg(long)]
    from_pt: bool,
    #[command(flatten)]
    embedder: EmbedderArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    job: JobArgs,
    /// Folder for the results; a run that was stopped goes on where it was
    #[arg(long, default_value = "embeddings")]
    out: PathBuf,
    /// Start anew in a folder that holds the results of other settings
    #[arg(long)]
    overwrite: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Everything that decides the results: the key of the units, one for each prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EmbedGeneratedPlan {
    command: String,
    version: String,
    /// As it was asked for.
    model: String,
    /// What the embedder says of itself.
    embedder: Value,
    dtype: String,
    format: String,
    width: usize,
    steps: Vec<usize>,
    samples: usize,
    prompts: Vec<String>,
    /// Of the settings that the sounds were made with.
    source: String,
}

impl EmbedGeneratedPlan {
    pub(crate) const COMMAND: &'static str = "embed-generated";

    /// Names of all units, in the order of the prompts.
    pub(crate) fn units(&self) -> impl ExactSizeIterator<Item = String> {
        (0..self.prompts.len()).map(unit_name)
    }
}

impl EmbedGeneratedArgs {
    /// What must not be written over: the record of the run that has generated the sounds, and what names its prompts.
    fn inputs(&self) -> Inputs {
        let of_run = ["run.json", INFO].map(|name| self.generated.join(name));
        Inputs::new(of_run.iter().chain(&self.prompts))
    }
}

/// File of the embeddings of a step.
fn file_name(step: usize) -> String {
    format!("{}.safetensors", step_folder(step))
}

fn unit_name(prompt: usize) -> String {
    format!("prompt_{prompt:04}")
}

pub(crate) fn run(args: &EmbedGeneratedArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    if args.from_pt {
        return published::convert(args, out);
    }
    let job = args.job.job()?;
    let generated = Generated::open(&args.generated, &args.steps, args.prompts.as_deref())?;
    generated.check_files()?;
    let share = job.share(generated.prompts.len(), "prompts");
    let sounds = generated.steps.len() * generated.samples;
    if args.dry_run {
        writeln!(
            out,
            "would embed {} files of {} of {} prompts at {} steps into `{}`",
            share.len() * sounds,
            share.len(),
            generated.prompts.len(),
            generated.steps.len(),
            args.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.out, &args.inputs())?;
    folder.refuse_inputs(
        ["run.json".to_owned()].into_iter().chain(generated.steps.iter().map(|&step| file_name(step))),
    )?;
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let embedder = args.embedder.load(&opened)?;
    let plan = EmbedGeneratedPlan {
        command: EmbedGeneratedPlan::COMMAND.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: args.embedder.clap.clone(),
        embedder: embedder.key(),
        dtype: device.dtype.clone(),
        format: device.weights.clone(),
        width: embedder.width(),
        steps: generated.steps.clone(),
        samples: generated.samples,
        prompts: generated.prompts.clone(),
        source: generated.digest()?,
    };
    let stale = if args.overwrite { earlier_files(&folder) } else { vec![] };
    let units = Units::open(&folder, &serde_json::to_value(&plan)?, args.overwrite)?;
    folder.remove(&stale)?;
    let todo: Vec<usize> = share.filter(|&prompt| !units.has(&unit_name(prompt))).collect();
    let bar = progress::steps((todo.len() * sounds) as u64, "embedding", "files");
    let started = Instant::now();
    for &prompt in &todo {
        let made = unit(&generated, &embedder, prompt, &mut |files| {
            bar.inc(files as u64);
            interrupt::check()
        });
        let made = made.map_err(|error| units.interrupted(error, plan.units(), "prompts"))?;
        units.write(&unit_name(prompt), &made)?;
    }
    bar.finish_and_clear();
    let record = json!({
        "command": EmbedGeneratedPlan::COMMAND,
        "version": env!("CARGO_PKG_VERSION"),
        "model": plan.model,
        "embedder": plan.embedder,
        "device": device,
        "generated": json_path::shown(&args.generated),
        "steps": plan.steps,
        "samples": plan.samples,
        "prompts": plan.prompts.len(),
        "timings": {"prompts_made": todo.len(), "embed_s": started.elapsed().as_secs_f64()},
    });
    folder.write("run.json", &serde_json::to_vec_pretty(&record)?)?;
    if unfinished(&units, plan.units(), "prompts", &args.out, out)? {
        return Ok(());
    }
    finish(&plan, &units, &folder, args.json, out)
}

/// Files that an earlier run may have written into `folder`, so that none of them is taken for a result of the next.
fn earlier_files(folder: &OutputFolder) -> Vec<String> {
    // Without a readable key nothing is known to be ours.
    let plan = Units::existing(folder.path()).ok();
    let plan: Option<EmbedGeneratedPlan> = plan.and_then(|units| serde_json::from_value(units.key().clone()).ok());
    plan.iter().flat_map(|plan| &plan.steps).map(|&step| file_name(step)).collect()
}

/// Embeddings of all files of a prompt, `[step, sample, feature]`, as the content of a unit.
fn unit(
    generated: &Generated,
    embedder: &Embedder,
    prompt: usize,
    tick: &mut dyn FnMut(usize) -> std::ops::ControlFlow<()>,
) -> Result<Vec<u8>> {
    let files: Vec<PathBuf> = generated.files(prompt).collect();
    let mut values = vec![];
    for files in files.chunks(embedder.batch()) {
        let sounds = files.iter().map(|path| read_sound(path)).collect::<Result<_>>()?;
        for embedding in embedder.embed(sounds).with_context(|| format!("files from `{}` on", files[0].display()))? {
            ensure!(embedding.len() == embedder.width(), "an embedding of {} values", embedding.len());
            values.extend(embedding);
        }
        if tick(files.len()).is_break() {
            return Err(Interrupted::Resumable.into());
        }
    }
    let shape = [generated.steps.len(), generated.samples, embedder.width()];
    to_file(&shape, &values, BTreeMap::new())
}

fn to_file(shape: &[usize], values: &[f32], metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensors::to_file(vec![(EMBEDDINGS, TensorView::new(Dtype::F32, shape.to_vec(), &bytes)?)], metadata)
}

/// Puts the units together, a file for each step.
pub(crate) fn finish(
    plan: &EmbedGeneratedPlan,
    units: &Units,
    folder: &OutputFolder,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    units.clear_half_written()?;
    let each = plan.samples * plan.width;
    let mut steps = vec![Vec::with_capacity(plan.prompts.len() * each); plan.steps.len()];
    for name in plan.units() {
        let bytes = units.read(&name)?;
        let read = || -> Result<Vec<f32>> {
            let file = SafeTensors::deserialize(&bytes)?;
            let view = file.tensor(EMBEDDINGS)?;
            let expected = [plan.steps.len(), plan.samples, plan.width];
            ensure!(view.shape() == expected, "shape {:?}, expected {expected:?}", view.shape());
            Ok(view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        let values = read().with_context(|| format!("the unit `{name}` is damaged"))?;
        for (step, values) in steps.iter_mut().zip(values.chunks(each)) {
            step.extend_from_slice(values);
        }
    }
    let steps: Vec<(usize, Vec<f32>)> = plan.steps.iter().copied().zip(steps).collect();
    write_steps(folder, &plan.model, &plan.prompts, [plan.samples, plan.width], &steps)?;
    say(folder.path(), plan.prompts.len(), plan.samples, &plan.steps, json, out)
}

/// Writes `diff_step_N.safetensors` for each of `steps`.
fn write_steps(
    folder: &OutputFolder,
    model: &str,
    prompts: &[String],
    [samples, width]: [usize; 2],
    steps: &[(usize, Vec<f32>)],
) -> Result<()> {
    for (step, values) in steps {
        let metadata = BTreeMap::from([
            ("model".to_owned(), model.to_owned()),
            ("prompts".to_owned(), serde_json::to_string(prompts)?),
        ]);
        let file = to_file(&[prompts.len(), samples, width], values, metadata)?;
        folder.write(&file_name(*step), &file)?;
    }
    Ok(())
}

fn say(folder: &Path, prompts: usize, samples: usize, steps: &[usize], json: bool, out: &mut dyn Write) -> Result<()> {
    if json {
        let files: Vec<String> = steps.iter().map(|&step| json_path::shown(folder.join(file_name(step)))).collect();
        let summary = json!({"prompts": prompts, "samples": samples, "steps": steps, "files": files});
        serde_json::to_writer_pretty(&mut *out, &summary)?;
        writeln!(out)?;
    } else {
        let folder = folder.display();
        writeln!(out, "{prompts} prompts, {samples} samples of each, at {} steps: {folder}", steps.len())?;
    }
    Ok(())
}

/// A step on the command line that has nothing to it.
fn no_step(step: usize, there: &[usize]) -> Misuse {
    let there: Vec<String> = there.iter().map(ToString::to_string).collect();
    Misuse::new(format!("nothing was generated at step {step}")).hint(format!("the steps are {}", there.join(", ")))
}
