//! Prompts, and the means over them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result};
use tonoscope_core::{
    interventions::{Means, MeansError, Place},
    models::musicgen::{Progress, Prompt},
};

use super::{InterveneArgs, InterventionPlan, plan::Unit, unit::interrupted};
use crate::{
    file_name::file_name,
    files::OutputFolder,
    interrupt, progress,
    readable::ReadableArgs,
    session::FoundModel,
    study::{Ready, keyed},
};

/// The prompts that are intervened on, by original concept, and those that means are taken over, by concept.
pub(super) struct Prompts {
    pub(super) intervened: BTreeMap<usize, Vec<Prompt>>,
    pub(super) averaged: Vec<Vec<Prompt>>,
}

impl Prompts {
    pub(super) fn new(found: &FoundModel, plan: &InterventionPlan, readable: ReadableArgs) -> Result<Self> {
        let all_keyed = |texts: &[String]| texts.iter().map(|text| keyed(found, text)).collect::<Result<Vec<Prompt>>>();
        let averaged = plan.concepts.iter().map(|concept| all_keyed(&concept.prompts)).collect::<Result<Vec<_>>>()?;
        let originals = plan.pairs.iter().map(|pair| pair.0);
        let intervened =
            originals.map(|original| Ok((original, all_keyed(plan.intervened(original))?))).collect::<Result<_>>()?;
        let texts = plan.concepts.iter().flat_map(|concept| &concept.prompts).chain(plan.prompts.iter().flatten());
        let mut seen = BTreeSet::new();
        let texts: Vec<&str> = texts.map(String::as_str).filter(|text| seen.insert(*text)).collect();
        let ids = texts.iter().map(|text| Ok(keyed(found, text)?.ids)).collect::<Result<Vec<_>>>()?;
        readable.check(&found.tokenizer, texts.into_iter().zip(ids.iter().map(Vec::as_slice)))?;
        Ok(Self { intervened, averaged })
    }
}

impl InterveneArgs {
    /// The means of every concept that `todo` needs: read if they are there, else taken.
    pub(super) fn means(
        &self,
        ready: &Ready,
        plan: &InterventionPlan,
        prompts: &Prompts,
        todo: &[Unit],
        folder: &OutputFolder,
    ) -> Result<BTreeMap<usize, Means>> {
        let at = self.means.clone().unwrap_or_else(|| folder.path().join("means"));
        if at.is_dir() {
            // A folder of several runs: those beside us may be writing into it.
            OutputFolder::existing(&at).tidy()?;
        }
        let model = &ready.loaded.model;
        let device = model.device();
        let mut points: Vec<_> = plan.places()?.into_iter().map(Place::point).collect();
        points.sort();
        points.dedup();
        let shapes = Means::shapes(model, &points, &plan.basis.generate());
        let mut means = BTreeMap::new();
        for (index, concept) in plan.concepts.iter().enumerate() {
            let needed = todo.iter().any(|unit| unit.pair.0 == index || unit.pair.1 == index);
            if !needed && !self.save_edits {
                continue;
            }
            let key = plan.means_key(concept);
            let name = format!("{}.safetensors", file_name(&concept.name));
            let path = at.join(&name);
            if path.is_file() && !self.study.overwrite {
                let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                match Means::from_bytes(&path.to_string_lossy(), bytes, &key, &shapes, &device) {
                    Ok(read) => {
                        means.insert(index, read);
                        continue;
                    }
                    // As a damaged unit: the key decides every bit of it.
                    Err(MeansError::File(error)) => progress::note(&format!("{error}; the means are taken again")),
                    Err(error) => return Err(error.into()),
                }
            }
            let bar = progress::steps(0, &format!("averaging {}", concept.name), "steps");
            let how = plan.basis.generate();
            let mut watch = |progress: Progress| {
                bar.set_length(progress.total as u64);
                bar.set_position(progress.done as u64);
                interrupt::check()
            };
            let batch = (self.rows / 2).max(1);
            let taken = Means::collect(model, &prompts.averaged[index], &points, &how, batch, &mut watch);
            let taken = pollster::block_on(taken).map_err(|error| interrupted(error.into()))?;
            bar.finish_and_clear();
            let bytes = pollster::block_on(taken.to_bytes(&key))?;
            OutputFolder::open(&at)?.write(&name, &bytes)?;
            means.insert(index, taken);
        }
        Ok(means)
    }
}
