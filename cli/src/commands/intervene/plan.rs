//! What a run of interventions is about: the key of its units.

use std::ops::Range;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonoscope_core::{
    hooks::{Branch, Site},
    interventions::{Experiment, Feed, PUBLISHED_ROWS, Place, Technique, places},
};

use crate::{
    file_name::{file_name, pair_name},
    second_judge::SecondPlan,
    study::Basis,
};

/// A concept, or a file of prompts that stands for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedConcept {
    pub(crate) name: String,
    /// Slot of the template that it fills; empty for a file of prompts.
    pub(crate) category: String,
    /// Class whose odds are compared: that of its label.
    pub(crate) class: Option<usize>,
    /// The class of the published code.
    pub(crate) published: Option<usize>,
    /// Prompts that its means are taken over.
    pub(crate) prompts: Vec<String>,
}

/// Everything that decides the results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InterventionPlan {
    pub(crate) command: String,
    pub(crate) basis: Basis,
    pub(crate) techniques: Vec<Technique>,
    /// Names of the sites.
    pub(crate) sites: Vec<String>,
    /// Layers, from 0.
    pub(crate) layers: Vec<usize>,
    /// Heads of a layer.
    pub(crate) heads: usize,
    pub(crate) branch: Option<Branch>,
    pub(crate) feed: Feed,
    pub(crate) scale: f64,
    pub(crate) steps: Option<Range<usize>>,
    pub(crate) controls: usize,
    pub(crate) seed: u64,
    pub(crate) concepts: Vec<PlannedConcept>,
    /// Original and desired concept of every pair, by index.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// Prompts that are intervened on instead of the original concept's.
    pub(crate) prompts: Option<Vec<String>>,
    pub(crate) extremes: usize,
    pub(crate) tokens: bool,
    /// The second judge, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) second: Option<SecondPlan>,
}

/// One prompt of one pair: what is done in one go and kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) pair: (usize, usize),
    pub(crate) prompt: usize,
}

impl InterventionPlan {
    pub(crate) const COMMAND: &'static str = "intervene";

    /// Every unit, those of one original prompt beside each other, since they share its clean run.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let mut units = vec![];
        let mut originals: Vec<usize> = self.pairs.iter().map(|pair| pair.0).collect();
        originals.dedup();
        for original in originals {
            for prompt in 0..self.intervened(original).len() {
                let pairs = self.pairs.iter().filter(|pair| pair.0 == original);
                units.extend(pairs.map(|&pair| Unit { pair, prompt }));
            }
        }
        units
    }

    /// The prompts that are intervened on when `original` is the original concept.
    pub(crate) fn intervened(&self, original: usize) -> &[String] {
        self.prompts.as_deref().unwrap_or(&self.concepts[original].prompts)
    }

    /// Name of a unit.
    pub(crate) fn name(&self, unit: Unit) -> String {
        format!("{}_{:04}", self.pair_name(unit.pair), unit.prompt)
    }

    /// Name of a pair in the names of files and units.
    pub(crate) fn pair_name(&self, (from, to): (usize, usize)) -> String {
        pair_name(&self.concepts[from].name, &self.concepts[to].name)
    }

    /// Name of the clean run of a prompt.
    pub(crate) fn clean_name(&self, unit: Unit) -> String {
        format!("clean_{}_{:04}", file_name(&self.concepts[unit.pair.0].name), unit.prompt)
    }

    /// Every place that is intervened on, in the published order.
    pub(crate) fn places(&self) -> Result<Vec<Place>> {
        let sites = self.sites.iter().map(|site| Ok(site.parse::<Site>()?)).collect::<Result<Vec<_>>>()?;
        Ok(places(&sites, &self.layers, self.heads)?)
    }

    /// What is done with `technique`.
    pub(crate) fn experiment(&self, technique: Technique) -> Result<Experiment> {
        Ok(Experiment {
            technique,
            places: self.places()?,
            branch: self.branch,
            feed: self.feed,
            scale: self.scale,
            steps: self.steps.clone(),
            controls: self.controls,
            seed: self.seed,
            published_rows: PUBLISHED_ROWS,
        })
    }

    /// What the means of `concept` were taken over.
    pub(crate) fn means_key(&self, concept: &PlannedConcept) -> Value {
        let Basis { model, dtype, weights, frames, guidance, sampling, .. } = &self.basis;
        json!({
            "model": model, "dtype": dtype, "weights": weights, "frames": frames, "guidance": guidance,
            "sampling": sampling, "prompts": concept.prompts, "sites": self.sites, "layers": self.layers,
        })
    }

    /// For `run.json`.
    pub(crate) fn settings(&self) -> Value {
        let basis = &self.basis;
        let name = |index: usize| self.concepts[index].name.as_str();
        let pairs: Vec<String> =
            self.pairs.iter().map(|pair| format!("{} to {}", name(pair.0), name(pair.1))).collect();
        json!({
            "model_layers": basis.layers,
            "model_width": basis.width,
            "techniques": self.techniques,
            "sites": self.sites,
            "layers": self.layers,
            "branch": self.branch.map_or(json!("both"), |branch| json!(branch)),
            "feed": self.feed,
            "scale": self.scale,
            "steps": self.steps,
            "controls": self.controls,
            "pairs": pairs,
            "prompts_per_concept": self.concepts.iter().map(|concept| concept.prompts.len()).max(),
            "prompts": self.prompts,
            "seconds": basis.frames as f64 / basis.frame_rate as f64,
            "frames": basis.frames,
            "guidance": basis.guidance,
            "sampling": basis.sampling,
            "judge": basis.judge,
            "second_judge": self.second,
        })
    }
}

/// Name of a technique in tables and files.
pub(crate) fn technique_name(technique: Technique) -> &'static str {
    match technique {
        Technique::Replace => "replace",
        Technique::Adjust => "adjust",
    }
}
