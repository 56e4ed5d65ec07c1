//! From files to concepts with their rows.

#[cfg(test)]
mod fuzz;
mod generated;
mod given;
mod notes;
mod routes;
mod stored;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use tonoscope_core::{
    musicologist::{ConceptTables, Vocabulary, read_annotations},
    probes::Split,
};

use self::{
    generated::{Annotations, Generated},
    notes::NotesFolder,
    routes::Trajectory,
};
use super::{ProbeArgs, routes::Route, unit::Concept};
use crate::{failure::Misuse, progress, session::sha256};

/// Name of the route over the embeddings.
const EMBEDDINGS: &str = "embeddings of the sound";

/// All that was read; the rows of a concept are made when it is its turn.
pub(super) struct Inputs {
    /// Files, by what they are → sha256.
    pub(super) read: Vec<(String, String)>,
    pub(super) steps: Vec<usize>,
    pub(super) embed_model: String,
    /// Names of the routes that are compared.
    pub(super) routes: Vec<String>,
    /// Concepts; the features of their notes are read when it is their turn, since all of them fill gigabytes.
    pub(super) concepts: Vec<Concept>,
    rest: Option<Rest>,
}

/// What was generated, and how it is matched.
struct Rest {
    notes: NotesFolder,
    tables: ConceptTables,
    vocabulary: Vocabulary,
    annotations: Annotations,
    generated: Option<Generated>,
    trajectories: Vec<Trajectory>,
}

impl Inputs {
    /// Reads what the arguments name.
    pub(super) fn read(args: &ProbeArgs) -> Result<Self> {
        if let (Some(features), Some(labels)) = (&args.features, &args.labels) {
            let (mut concept, read) = given::read(features, labels)?;
            let mut all = Self {
                read,
                steps: concept.steps.iter().map(|(step, _)| *step).collect(),
                embed_model: "given".to_owned(),
                routes: vec![],
                concepts: vec![],
                rest: None,
            };
            if let Some(split) = all.splits(args)?.remove(&concept.name) {
                concept.split = Some(checked(split, &concept)?);
            }
            all.concepts.push(concept);
            return Ok(all);
        }
        Self::of_pipeline(args)
    }

    fn of_pipeline(args: &ProbeArgs) -> Result<Self> {
        let missing =
            |what: &str| Misuse::new(format!("no `{what}`")).hint("`--features` with `--labels` needs none of them");
        let notes = args.concepts.as_ref().ok_or_else(|| missing("--concepts"))?;
        let annotated = args.annotations.as_ref().ok_or_else(|| missing("--annotations"))?;
        let tables = match &args.tables {
            None => ConceptTables::published().clone(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                ConceptTables::from_toml(&path.to_string_lossy(), &text)?
            }
        };
        for name in &args.only {
            tables.concept(name).map_err(|error| Misuse::new(error.to_string()))?;
        }
        let bytes = std::fs::read(annotated).with_context(|| format!("cannot read `{}`", annotated.display()))?;
        let all = read_annotations(&bytes).with_context(|| format!("`{}`", annotated.display()))?;
        let annotations = Annotations::new(all);
        let mut read = vec![("annotations".to_owned(), sha256(annotated)?)];
        if let Some(path) = &args.tables {
            read.push(("tables".to_owned(), sha256(path)?));
        }
        let generated = args.embeddings.as_ref().map(|folder| Generated::open(folder, &annotations)).transpose()?;
        let stored = generated.iter().flat_map(|generated| &generated.steps);
        read.extend(stored.map(|(step, stored)| (format!("embeddings of step {step}"), stored.sha256.clone())));
        let mut trajectories = vec![];
        if let Some(folder) = &args.latents {
            let (found, files) = routes::latents(folder, &annotations)?;
            trajectories.push(found);
            read.extend(files);
        }
        if !args.capture.is_empty() {
            let (found, files) = routes::activations(&args.capture, &annotations)?;
            trajectories.extend(found);
            read.extend(files);
        }
        let folder = NotesFolder::open(notes)?;
        read.extend(folder.input());
        let embeddings = (!trajectories.is_empty() && generated.is_some()).then(|| EMBEDDINGS.to_owned());
        let mut inputs = Self {
            read,
            steps: generated.iter().flat_map(|generated| &generated.steps).map(|(step, _)| *step).collect(),
            embed_model: generated.as_ref().map_or_else(|| "unknown".to_owned(), Generated::model),
            routes: embeddings.into_iter().chain(trajectories.iter().map(|of| of.name.clone())).collect(),
            concepts: vec![],
            rest: None,
        };
        let mut splits = inputs.splits(args)?;
        let mut absent = vec![];
        for table in &tables {
            let name = table.name();
            if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
                continue;
            }
            let Some(found) = folder.concept(name)? else {
                if !args.only.is_empty() {
                    let what = format!("`{}` has no notes of `{name}`", notes.display());
                    return Err(Misuse::new(what).hint("run `tonoscope concepts build` first").into());
                }
                absent.push(format!("`{name}`"));
                continue;
            };
            if let Some((step, stored)) = generated.iter().flat_map(|generated| &generated.steps).next() {
                let (notes, sounds) = (found.rows.width, stored.width());
                anyhow::ensure!(notes == sounds, "notes have {notes} features, sounds of step {step} have {sounds}");
            }
            inputs.read.extend(found.inputs);
            let mut concept = Concept { name: name.to_owned(), notes: found.rows, ..Concept::default() };
            if let Some(split) = splits.remove(name) {
                concept.split = Some(checked(split, &concept)?);
            }
            concept.notes.features = vec![];
            inputs.concepts.push(concept);
        }
        if inputs.concepts.is_empty() {
            let what = format!("`{}` holds no table of a concept", notes.display());
            return Err(Misuse::new(what).hint("pass the folder that `tonoscope concepts build` has written").into());
        }
        if !absent.is_empty() {
            progress::note(&format!("`{}` has no notes of {}", notes.display(), absent.join(", ")));
        }
        inputs.rest = Some(Rest {
            notes: folder,
            tables,
            vocabulary: args.vocabulary.into(),
            annotations,
            generated,
            trajectories,
        });
        Ok(inputs)
    }

    /// Divisions of concepts that were given as a file.
    fn splits(&mut self, args: &ProbeArgs) -> Result<BTreeMap<String, Split>> {
        let Some(path) = &args.split else { return Ok(BTreeMap::new()) };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        self.read.push(("split".to_owned(), sha256(path)?));
        let expected = r#"expected JSON such as `{"is_guitar": {"train": [0, 2], "test": [1]}}`"#;
        serde_json::from_slice(&bytes).with_context(|| format!("`{}`: {expected}", path.display()))
    }

    /// The concept `index` with the rows of what was generated.
    pub(super) fn concept(&self, index: usize) -> Result<Concept> {
        let mut concept = self.concepts[index].clone();
        let Some(rest) = &self.rest else { return Ok(concept) };
        let notes = rest.notes.concept(&concept.name)?;
        concept.notes = notes.with_context(|| format!("the notes of `{}` are gone", concept.name))?.rows;
        let sides = rest.annotations.sides(rest.tables.concept(&concept.name)?, rest.vocabulary);
        if let Some(generated) = &rest.generated {
            let steps = generated.steps.iter();
            concept.steps = steps.clone().map(|(step, stored)| (*step, generated.rows(stored, &sides))).collect();
            if !rest.trajectories.is_empty() {
                let steps = steps.map(|(step, stored)| (*step, generated.one_sided(stored, &sides))).collect();
                concept.routes.push(Route { name: EMBEDDINGS.to_owned(), steps });
            }
        }
        concept.routes.extend(rest.trajectories.iter().map(|trajectory| trajectory.route(&sides)));
        Ok(concept)
    }

    /// Embeddings of all steps, whole.
    pub(super) fn tensors(&self) -> Vec<(usize, &[f32])> {
        let generated = self.rest.iter().filter_map(|rest| rest.generated.as_ref());
        generated
            .flat_map(|generated| &generated.steps)
            .map(|(step, stored)| (*step, stored.values.as_slice()))
            .collect()
    }
}

fn checked(split: Split, concept: &Concept) -> Result<Split> {
    match split.fault(concept.notes.positive.len()) {
        Some(fault) => Err(Misuse::new(format!("the split of `{}`: {fault}", concept.name)).into()),
        None => Ok(split),
    }
}

/// Whether `path` is there, for messages before hours are spent.
pub(super) fn exists(path: &Path) -> Result<()> {
    std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(())
}
