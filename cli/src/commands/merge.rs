//! `tonoscope merge`

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use super::{concepts, diffuse, embed_generated, intervene, lens, probe};
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder},
    study::missing,
    units::{Units, is_beside},
};

/// Make the tables and figures of a run whose jobs have finished
///
/// The jobs of an array may share one folder, or each have one; all were started with the same settings.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    /// Folders of the jobs
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Folder for the results [default: the first of the folders]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &MergeArgs, out: &mut dyn Write) -> Result<()> {
    // A job for which nothing was left has a folder, but no units.
    let mut sources: Vec<(Units, &PathBuf)> = vec![];
    let mut refused = None;
    for folder in &args.folders {
        match Units::existing(folder) {
            Ok(units) => sources.push((units, folder)),
            Err(error) if error.is::<Misuse>() && folder.is_dir() => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    let Some((first, _)) = sources.first() else {
        return Err(refused.unwrap_or_else(|| Misuse::new("no folder to merge").into()));
    };
    let key = first.key().clone();
    let target = args.out.as_ref().unwrap_or(&args.folders[0]);
    let folder = OutputFolder::begin(target, &Inputs::default())?;
    // Another key in any of them is refused here or below, with the field that differs.
    let units = Units::open(&folder, &key, false)?;
    for (source, path) in &sources {
        if let Some(difference) = crate::units::first_difference(&key, source.key()) {
            let (first, path) = (sources[0].1.display(), path.display());
            let (field, there, here) = (difference.field, difference.there, difference.here);
            let what = format!("`{first}` and `{path}` are of different runs: `{field}` is {there} and {here}");
            return Err(Misuse::new(what).into());
        }
        for name in source.names()? {
            // A damaged one may be whole in another folder.
            if !units.has(&name) && source.has(&name) {
                units.write(&name, &source.read(&name)?)?;
            }
        }
        take_files(path, &folder)?;
    }
    match key.get("command").and_then(|command| command.as_str()) {
        Some(lens::LensPlan::COMMAND) => {
            let plan: lens::LensPlan = parsed(&key)?;
            complete(&units, (0..plan.prompts.len()).map(|index| plan.unit(index)))?;
            lens::finish(&plan, &units, &folder, args.json, out)
        }
        Some(intervene::InterventionPlan::COMMAND) => {
            let plan: intervene::InterventionPlan = parsed(&key)?;
            complete(&units, plan.units().into_iter().map(|unit| plan.name(unit)))?;
            intervene::finish(&plan, &units, &folder, args.json, out)
        }
        Some(diffuse::DiffusePlan::COMMAND) => {
            let plan: diffuse::DiffusePlan = parsed(&key)?;
            complete(&units, (0..plan.prompts.len()).map(|prompt| plan.unit(prompt)))?;
            diffuse::finish(&plan, &units, &folder, args.json, out)
        }
        Some(embed_generated::EmbedGeneratedPlan::COMMAND) => {
            let plan: embed_generated::EmbedGeneratedPlan = parsed(&key)?;
            complete(&units, plan.units())?;
            embed_generated::finish(&plan, &units, &folder, args.json, out)
        }
        Some(probe::ProbePlan::COMMAND) => {
            let plan: probe::ProbePlan = parsed(&key)?;
            complete(&units, plan.units().into_iter())?;
            probe::finish(&plan, &units, &folder, args.json, out)
        }
        Some(concepts::EmbedPlan::COMMAND) => {
            let plan: concepts::EmbedPlan = parsed(&key)?;
            complete(&units, plan.units())?;
            concepts::finish_embed(&plan, &units, &folder, args.json, out)
        }
        Some(other) => Err(Misuse::new(format!("a run of `{other}` needs no merging")).into()),
        None => Err(Misuse::new(format!("`{}` holds units of an unknown run", args.folders[0].display())).into()),
    }
}

fn parsed<T: DeserializeOwned>(key: &serde_json::Value) -> Result<T> {
    serde_json::from_value(key.clone()).context("the settings of the run cannot be read: another version made them")
}

fn complete(units: &Units, names: impl Iterator<Item = String>) -> Result<()> {
    match missing(units, names) {
        (Some(first), count) => {
            let what = format!("{count} units are missing, `{first}` being the first");
            Err(Misuse::new(what).hint("run the jobs that have not finished, with the same settings").into())
        }
        (None, _) => Ok(()),
    }
}

/// Copies what lies beside the units of a job that has a folder of its own: audio, latents, `run.json`.
fn take_files(from: &Path, to: &OutputFolder) -> Result<()> {
    let same = std::fs::canonicalize(from).ok() == std::fs::canonicalize(to.path()).ok();
    if same {
        return Ok(());
    }
    let copy = |from: &Path, to: &OutputFolder, name: &str| -> Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
        to.write(name, &bytes)?;
        Ok(())
    };
    let record = from.join("run.json");
    if record.is_file() && !to.path().join("run.json").exists() {
        copy(&record, to, "run.json")?;
    }
    for folder in entries(from)? {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()).filter(|name| is_beside(name)) else {
            continue;
        };
        if !folder.is_dir() {
            continue;
        }
        let target = to.within(name)?;
        for path in entries(&folder)? {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let made = path.is_file() && matches!(extension, Some("wav" | "safetensors"));
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| made) {
                copy(&path, &target, name)?;
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.with_context(|| format!("cannot read `{}`", folder.display()))
}
