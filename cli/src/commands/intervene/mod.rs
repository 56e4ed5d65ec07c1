//! `tonoscope intervene`

mod args;
mod directions;
mod figures;
#[cfg(test)]
mod fuzz;
mod means;
mod plan;
mod tables;
mod unit;

use std::{collections::BTreeMap, io::Write, time::Instant};

use anyhow::{Context, Result};
use tonoscope_core::interventions::Means;

pub(crate) use args::InterveneArgs;
pub(crate) use plan::InterventionPlan;
pub(crate) use tables::finish;

use self::{
    means::Prompts,
    plan::Unit,
    unit::{CleanUnit, Worker},
};
use crate::{
    files::OutputFolder,
    interrupt, progress,
    second_judge::SecondJudge,
    study::{StudyRecord, StudyTimings, unfinished},
    units::Units,
};

pub(crate) fn run(args: &InterveneArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let job = args.study.job.job()?;
    let set = args.concepts.set()?;
    interrupt::listen();
    let found = args.study.model.find()?;
    let how = args.study.generate(&found)?;
    let judge = args.judge.find()?;
    let mut plan = args.plan(&set, &judge.labels, &found, &how)?;
    let second = args.second.find(plan.concepts.iter().map(|concept| concept.name.as_str()))?;
    let places = plan.places()?;
    let prompts = Prompts::new(&found, &plan, args.study.readable)?;
    let units = plan.units();
    if args.study.dry_run {
        writeln!(
            out,
            "would make {} interventions ({} places, {} techniques, {} controls each) on {} prompts of {} pairs with `{}` \
             into `{}`",
            units.len() * plan.techniques.len() * places.len() * (1 + plan.controls),
            places.len(),
            plan.techniques.len(),
            plan.controls,
            units.len(),
            plan.pairs.len(),
            args.study.model.model,
            args.study.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.study.out, &args.inputs())?;
    let started = Instant::now();
    let opened = args.study.device.open()?;
    let mut ready = args.study.load(found, &opened, &how)?;
    ready.basis.judge = Some(judge.sha256()?);
    plan.basis = ready.basis.clone();
    let judge = judge.load(opened.placement.clone())?;
    let second = second.map(|second| second.load(&opened)).transpose()?;
    plan.second = second.as_ref().map(SecondJudge::plan);
    let mut timings = StudyTimings { load_s: started.elapsed().as_secs_f64(), ..StudyTimings::default() };
    let kept = Units::open(&folder, &serde_json::to_value(&plan)?, args.study.overwrite)?;
    let share = job.share(units.len(), "prompts of pairs");
    let todo: Vec<Unit> = units[share]
        .iter()
        .copied()
        .filter(|&unit| !kept.has(&plan.name(unit)) || !kept.has(&plan.clean_name(unit)))
        .collect();
    let names = || units.iter().map(|&unit| plan.name(unit));
    let stopped = |error| kept.interrupted(error, names(), "prompts of pairs");
    let means = args.means(&ready, &plan, &prompts, &todo, &folder).map_err(stopped)?;
    if args.save_edits {
        directions::write(&plan, &means, &folder)?;
    }
    let worker = Worker {
        model: &ready.loaded.model,
        plan: &plan,
        places: &places,
        judge: &judge,
        second: second.as_ref(),
        folder: &folder,
        rows: args.rows,
    };
    let generating = work(&worker, &kept, &todo, &prompts, &means, &mut timings).map_err(stopped)?;
    let interventions = todo.len() * plan.techniques.len() * places.len() * (1 + plan.controls);
    if interventions > 0 {
        timings.generate_s = Some(generating);
        timings.interventions_per_minute = Some(interventions as f64 / (timings.units_s / 60.0));
    }
    StudyRecord::new(InterventionPlan::COMMAND, &ready.provenance, &ready.device, &plan.settings(), timings)
        .write(&folder)?;
    if unfinished(&kept, names(), "prompts of pairs", &args.study.out, out)? {
        return Ok(());
    }
    finish(&plan, &kept, &folder, args.study.json, out)
}

/// Does what is to be done; returns the seconds that went into generating.
fn work(
    worker: &Worker<'_>,
    kept: &Units,
    todo: &[Unit],
    prompts: &Prompts,
    means: &BTreeMap<usize, Means>,
    timings: &mut StudyTimings,
) -> Result<f64> {
    let plan = worker.plan;
    let experiment = plan.experiment(plan.techniques[0])?;
    let batches = experiment.rows().div_ceil(worker.rows).max(1) * plan.techniques.len();
    let per_unit = (batches * worker.steps()) as u64;
    let bar = progress::steps(todo.len() as u64 * per_unit, "intervening", "steps");
    let started = Instant::now();
    let mut generating = 0.0;
    for (done, &unit) in todo.iter().enumerate() {
        let prompt = &prompts.intervened[&unit.pair.0][unit.prompt];
        let clean_name = plan.clean_name(unit);
        if !kept.has(&clean_name) {
            let clean = worker.clean(unit, prompt, &mut |_| interrupt::check())?;
            kept.write(&clean_name, &serde_json::to_vec(&clean)?)?;
        }
        let damaged = || format!("unit `{clean_name}` is damaged");
        let clean: CleanUnit = serde_json::from_slice(&kept.read(&clean_name)?).with_context(damaged)?;
        clean.check(plan).with_context(damaged)?;
        // Only its clean run was damaged.
        if kept.has(&plan.name(unit)) {
            continue;
        }
        let mut ticks = done as u64 * per_unit;
        let both = [&means[&unit.pair.0], &means[&unit.pair.1]];
        let (made, seconds) = worker.pair(unit, prompt, &clean, both, &mut || {
            ticks += 1;
            bar.set_position(ticks);
            interrupt::check()
        })?;
        generating += seconds;
        kept.write(&plan.name(unit), &unit::to_bytes(&made)?)?;
        timings.units_made += 1;
    }
    bar.finish_and_clear();
    timings.units_s = started.elapsed().as_secs_f64();
    Ok(generating)
}
