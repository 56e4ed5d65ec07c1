//! Embeddings of what was generated, and on which side of a concept its prompts are.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tonoscope_core::musicologist::{Annotation, ConceptTable, Sides, Vocabulary};

use super::{super::unit::Rows, stored::Stored};
use crate::failure::Failed;

/// Embeddings of all steps, in memory: a published run has 150 MB.
pub(super) struct Generated {
    pub(super) steps: Vec<(usize, Stored)>,
    pub(super) samples: usize,
    /// Annotation of every prompt.
    annotation_of: Vec<usize>,
}

/// What is said of prompts, found by their text.
pub(super) struct Annotations {
    all: Vec<Annotation>,
    by_text: HashMap<String, usize>,
}

impl Annotations {
    pub(super) fn new(all: Vec<Annotation>) -> Self {
        let by_text = all.iter().enumerate().rev().map(|(index, of)| (of.prompt.trim().to_owned(), index)).collect();
        Self { all, by_text }
    }

    /// Index of the annotation of the prompt `text`.
    pub(super) fn find(&self, text: &str) -> Result<usize> {
        self.by_text.get(text.trim()).copied().ok_or_else(|| {
            let what = format!("no annotation of the prompt `{}`", crate::tensors::shortened(text));
            Failed::new(what, "pass the annotations of the prompts that were generated, with `--annotations`").into()
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// On which sides of a concept every annotation is.
    pub(super) fn sides(&self, table: &ConceptTable, vocabulary: Vocabulary) -> Vec<Sides> {
        self.all.iter().map(|annotation| table.prompt(annotation, vocabulary)).collect()
    }
}

impl Generated {
    /// Reads all steps of `folder`: `diff_step_N.safetensors`, or `*_embeddings.pt` in folders `diff_step_N`.
    pub(super) fn open(folder: &Path, annotations: &Annotations) -> Result<Self> {
        let files = files(folder)?;
        if files.is_empty() {
            let what = format!("`{}` holds no embeddings of diffusion steps", folder.display());
            return Err(Failed::new(what, "pass the folder that `tonoscope embed-generated` has written").into());
        }
        let mut steps: Vec<(usize, Stored)> = vec![];
        for (step, path) in files {
            let stored = Stored::read(&path)?;
            if stored.shape.len() != 3 {
                let what = format!("`{}` has shape {:?}", path.display(), stored.shape);
                return Err(Failed::new(what, "expected `[prompts, samples, features]`").into());
            }
            if let Some((_, first)) = steps.first() {
                let (this, that) = (stored.path.display(), first.path.display());
                let same =
                    stored.shape == first.shape && stored.metadata.get("prompts") == first.metadata.get("prompts");
                anyhow::ensure!(same, "`{this}` and `{that}` are of different prompts, samples or models");
            }
            steps.push((step, stored));
        }
        let first = &steps[0].1;
        let (prompts, samples) = (first.shape[0], first.shape[1]);
        let annotation_of = match first.texts("prompts")? {
            Some(texts) => {
                anyhow::ensure!(
                    texts.len() == prompts,
                    "`{}` is of {prompts} prompts and names {}",
                    first.path.display(),
                    texts.len()
                );
                texts.iter().map(|text| annotations.find(text)).collect::<Result<_>>()?
            }
            // Published files name no prompts: theirs are in the order of the annotations.
            None if prompts == annotations.len() => (0..prompts).collect(),
            None => {
                let what = format!(
                    "`{}` names no prompts, and has {prompts} of them where there are {} annotations",
                    first.path.display(),
                    annotations.len()
                );
                return Err(Failed::new(what, "pass the annotations of these prompts, in their order").into());
            }
        };
        Ok(Self { steps, samples, annotation_of })
    }

    /// Sounds of prompts on either side, the positives first; the clusters are the prompts.
    pub(super) fn rows(&self, stored: &Stored, sides: &[Sides]) -> Rows {
        let mut rows = Rows { width: stored.width(), ..Rows::default() };
        for class in [true, false] {
            for (prompt, annotation) in self.annotation_of.iter().enumerate() {
                let sides = sides[*annotation];
                if if class { sides.positive } else { sides.negative } {
                    self.push(&mut rows, stored, prompt, class);
                }
            }
        }
        rows
    }

    /// Sounds of prompts on one side alone, in the order of the prompts.
    pub(super) fn one_sided(&self, stored: &Stored, sides: &[Sides]) -> Rows {
        let mut rows = Rows { width: stored.width(), ..Rows::default() };
        for (prompt, annotation) in self.annotation_of.iter().enumerate() {
            if let Some(class) = class_of(sides[*annotation]) {
                self.push(&mut rows, stored, prompt, class);
                let from = rows.cluster.len() - self.samples;
                rows.cluster[from..].fill(*annotation);
            }
        }
        rows
    }

    fn push(&self, rows: &mut Rows, stored: &Stored, prompt: usize, class: bool) {
        let of_prompt = self.samples * stored.width();
        rows.features.extend_from_slice(&stored.values[prompt * of_prompt..(prompt + 1) * of_prompt]);
        rows.positive.extend(std::iter::repeat_n(class, self.samples));
        rows.cluster.extend(std::iter::repeat_n(prompt, self.samples));
    }

    /// What made the embeddings.
    pub(super) fn model(&self) -> String {
        let named = self.steps.first().and_then(|(_, stored)| stored.metadata.get("model")).cloned();
        named.unwrap_or_else(|| "laion-clap".to_owned())
    }
}

/// The side, of prompts that are on one alone.
pub(super) fn class_of(sides: Sides) -> Option<bool> {
    (sides.positive != sides.negative).then_some(sides.positive)
}

/// Files of embeddings by diffusion step.
fn files(folder: &Path) -> Result<BTreeMap<usize, PathBuf>> {
    let mut files = BTreeMap::new();
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(rest) = name.strip_prefix("diff_step_") else { continue };
        let step = |digits: &str| digits.parse::<usize>().ok();
        let found = if path.is_dir() {
            let inside = super::stored::only_file(&path, |file| file.ends_with("_embeddings.pt"))?;
            step(rest).zip(inside)
        } else if let Some(digits) = rest.strip_suffix(".safetensors") {
            step(digits).map(|step| (step, path.clone()))
        } else if rest.ends_with("_embeddings.pt") {
            rest.split_once('_').and_then(|(digits, _)| step(digits)).map(|step| (step, path.clone()))
        } else {
            None
        };
        if let Some((step, path)) = found
            && let Some(other) = files.insert(step, path.clone())
        {
            let what = format!("both `{}` and `{}` are of step {step}", other.display(), path.display());
            return Err(Failed::new(what, "leave one of them in the folder").into());
        }
    }
    Ok(files)
}
