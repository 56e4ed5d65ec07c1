//! `tonoscope diffuse`

mod args;
mod info;
mod noise;
mod plan;
mod unit;

use std::{io::Write, time::Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tonoscope_core::{
    hooks::{Hooks, Spec},
    models::stable_audio::{InitialScale, SampleRequest},
};

use args::Cut;
pub(crate) use args::DiffuseArgs;
pub(crate) use info::INFO;
pub(crate) use plan::{DiffusePlan, audio, step_folder};

use self::{noise::NoiseSource, unit::Diffusion};
use crate::{
    diffuser::FoundDiffuser,
    failure::Misuse,
    files::OutputFolder,
    interrupt, json_path, progress,
    session::{UsedDevice, sha256},
    study::{StudyRecord, StudyTimings, unfinished},
    tensors::{self, EditTensors},
    units::Units,
};

pub(crate) fn run(args: &DiffuseArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let job = args.job.job()?;
    interrupt::listen();
    let found = args.model.find()?;
    let (mut plan, edit_tensors) = plan(args, &found)?;
    let noise = NoiseSource::open(args, &plan)?;
    let share = job.slice(plan.prompts.len());
    if share.is_empty() {
        let what = format!("job {} of {} has no prompts: there are {}", job.index, job.count, plan.prompts.len());
        return Err(Misuse::new(what).hint("split the work into fewer jobs, at most one for each prompt").into());
    }
    if args.dry_run {
        writeln!(
            out,
            "would sample {} of {} prompts {} times in {} steps with `{}`, and write {} files of at most {:.3} s into `{}`",
            share.len(),
            plan.prompts.len(),
            plan.samples,
            plan.request.steps,
            plan.model,
            share.len() * plan.samples * plan.snapshots.len(),
            plan.kept_samples().min(plan.made_samples) as f64 / f64::from(plan.sample_rate),
            args.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.out, &args.inputs())?;
    folder.refuse_inputs(["run.json", INFO, info::LISTENED])?;
    folder.refuse_inputs(unit::all_files(&plan))?;
    let started = Instant::now();
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let tokenizer = found.tokenizer.clone();
    let loaded = found.load(&opened)?;
    let provenance = loaded.provenance()?;
    plan.weights.clone_from(&provenance.checksums);
    let mut timings = StudyTimings { load_s: started.elapsed().as_secs_f64(), ..StudyTimings::default() };
    let stale = if args.overwrite { earlier_files(&folder) } else { vec![] };
    let units = Units::open(&folder, &serde_json::to_value(&plan)?, args.overwrite)?;
    folder.remove(&stale)?;
    let model = &loaded.model;
    let work = Diffusion {
        model,
        plan: &plan,
        points: model.points(),
        edit_tensors: edit_tensors.place(&model.device()),
        noise: &noise,
        tokenizer: &tokenizer,
        revision: provenance.revision.as_deref(),
        folder: &folder,
    };
    let names = || (0..plan.prompts.len()).map(|prompt| plan.unit(prompt));
    let todo: Vec<usize> = share.filter(|&prompt| !work.is_finished(&units, prompt)).collect();
    let total = todo.len() as u64 * work.ticks();
    let bar = progress::steps(total, &format!("diffusing {} prompts", todo.len()), "steps");
    let started = Instant::now();
    for &prompt in &todo {
        let made = work.unit(prompt, &mut || {
            bar.inc(1);
            interrupt::check()
        });
        let made = made.map_err(|error| units.interrupted(error, names(), "prompts"))?;
        units.write(&plan.unit(prompt), &serde_json::to_vec(&made)?)?;
        timings.units_made += 1;
    }
    bar.finish_and_clear();
    timings.units_s = started.elapsed().as_secs_f64();
    StudyRecord::new(DiffusePlan::COMMAND, &provenance, &device, &plan.settings(), timings).write(&folder)?;
    if unfinished(&units, names(), "prompts", &args.out, out)? {
        return Ok(());
    }
    finish(&plan, &units, &folder, args.json, out)
}

/// Files that an earlier run may have written into `folder`, so that none of them is taken for a result of the next.
fn earlier_files(folder: &OutputFolder) -> Vec<String> {
    // Without a readable key nothing is known to be ours.
    let plan = Units::existing(folder.path()).ok();
    let plan: Option<DiffusePlan> = plan.and_then(|units| serde_json::from_value(units.key().clone()).ok());
    plan.iter().flat_map(unit::all_files).chain(["run.json", INFO, info::LISTENED].map(str::to_owned)).collect()
}

/// Writes `audio_info.csv`, once every prompt is finished and its files are there, and says what there is.
pub(crate) fn finish(
    plan: &DiffusePlan,
    units: &Units,
    folder: &OutputFolder,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    for prompt in 0..plan.prompts.len() {
        if let Some(file) = unit::missing_file(plan, units, folder, prompt)? {
            let what = format!("`{}` is missing or cut short", folder.path().join(file).display());
            return Err(Misuse::new(what)
                .hint("run the same `tonoscope diffuse` again: it makes what is not there")
                .into());
        }
    }
    units.clear_half_written()?;
    info::write(plan, folder)?;
    let (prompts, samples, steps) = (plan.prompts.len(), plan.samples, &plan.snapshots);
    let info = folder.path().join(INFO);
    if json {
        let summary = json!({
            "prompts": prompts,
            "samples": samples,
            "steps": steps,
            "files": prompts * samples * steps.len(),
            "audio_info": json_path::shown(&info),
        });
        serde_json::to_writer_pretty(&mut *out, &summary)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{prompts} prompts, {samples} samples of each, at {} steps: {}", steps.len(), info.display())?;
    }
    Ok(())
}

/// All that can be known without the weights.
fn plan(args: &DiffuseArgs, found: &FoundDiffuser) -> Result<(DiffusePlan, EditTensors)> {
    let config = &found.files.config;
    let encode = |text: &str| -> Result<_> {
        let (ids, cut) = found.tokenizer.encode_truncated(text)?;
        if cut > 0 {
            let text = tensors::shortened(text);
            progress::note(&format!("the model does not see the last {cut} tokens of `{text}`"));
        }
        Ok(ids)
    };
    let prompts = plan::planned(args, &encode)?;
    let negative = args.negative_prompt.as_ref().map(|text| -> Result<_> {
        let ids = encode(text).context("the negative prompt")?;
        Ok((text.clone(), ids))
    });
    let negative = negative.transpose()?;
    let read = prompts.iter().map(|prompt| (prompt.text.as_str(), prompt.ids.as_slice()));
    let steered = negative.iter().map(|(text, ids): &(String, Vec<u32>)| (text.as_str(), ids.as_slice()));
    args.readable.check(&found.tokenizer, read.chain(steered))?;
    let (edits, edit_tensors) = tensors::read_edits(&args.edit)?;
    let hooks = Spec { captures: args.capture.clone(), edits };
    Hooks::check_spec(&hooks, &config.points())?;
    Hooks::check_edits(&hooks.edits, |name| edit_tensors.shape(name), prompts.len())?;
    let latent_length = args.latent_length.frames(config.latent_length())?;
    let request = SampleRequest {
        steps: args.steps,
        sigma_min: args.sigma_min,
        sigma_max: args.sigma_max,
        schedule: args.schedule(),
        sampler: args.sampler(),
        guidance: args.guidance,
        rescale: args.rescale,
        latent_length,
        initial: InitialScale::default(),
    };
    let plan = DiffusePlan {
        command: DiffusePlan::COMMAND.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: args.model.model.clone(),
        // Known once they are read.
        weights: vec![],
        config: serde_json::to_value(config)?,
        dtype: args.device.dtype.to_string(),
        format: args.device.weights.to_string(),
        prompts,
        annotations: args.annotations.as_ref().map(|path| path.to_string_lossy().into_owned()),
        negative,
        samples: args.samples,
        batch: args.batch.unwrap_or(args.samples).min(args.samples),
        snapshots: args.snapshots(),
        request,
        channels: config.latent_channels(),
        sample_rate: config.sample_rate(),
        made_samples: latent_length * config.downsampling(),
        seconds_start: args.seconds_start,
        seconds_total: args.seconds_total(config.seconds()),
        cut: args.cut,
        seed: args.seed,
        noise: args.noise.as_deref().map(sha256).transpose()?,
        tile: args.tile,
        keep_latents: args.keep_latents,
        keep_noise: args.keep_noise,
        hooks,
        edit_tensors: edit_tensors.digest(),
    };
    if plan.made_samples < Cut::Corrected.samples(plan.seconds_total, plan.sample_rate) {
        progress::note(&format!(
            "the model makes {} s of music, so that the files are no longer, though it is told {} s",
            plan.made_seconds(),
            plan.seconds_total
        ));
    }
    Ok((plan, edit_tensors))
}
