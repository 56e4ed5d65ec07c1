//! What a run of the lens is about: the key of its units.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonoscope_core::concepts::Concept;

use crate::{file_name::file_name, study::Basis};

/// How a layer is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The model stops after the layer and goes on by itself: the published method
    EarlyExit,
    /// The layer's stream goes through the last norm and the heads, along the tokens of the whole model
    TeacherForced,
    /// As teacher-forced, through a translator to the last layer's stream that was fitted before
    Tuned,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EarlyExit => "early-exit",
            Self::TeacherForced => "teacher-forced",
            Self::Tuned => "tuned",
        }
    }
}

/// A prompt that is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlannedPrompt {
    /// The concept that it asks for.
    pub(crate) concept: Option<String>,
    /// Which of the concept's prompts, or of those that were given.
    pub(crate) index: usize,
    /// The prompt.
    pub(crate) text: String,
    /// Whether its audio is kept.
    pub(crate) audio: bool,
    /// Names of the concepts that it is measured against: its own, or those that it names.
    pub(crate) measured: Vec<String>,
}

/// Everything that decides the results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LensPlan {
    pub(crate) command: String,
    pub(crate) basis: Basis,
    pub(crate) mode: Mode,
    /// Layers that are read, counted by how many have run.
    pub(crate) read: Vec<usize>,
    /// Concepts whose recognisability is measured, with the classes that count.
    pub(crate) concepts: Vec<Concept>,
    pub(crate) prompts: Vec<PlannedPrompt>,
    /// Checksum of translators that were given.
    pub(crate) translators: Option<String>,
    /// Prompts that translators are fitted on.
    pub(crate) fitted_on: Vec<String>,
    pub(crate) alpha: f64,
    pub(crate) per_step: bool,
    pub(crate) tokens: bool,
}

impl LensPlan {
    pub(crate) const COMMAND: &'static str = "lens";

    /// Name of a prompt's unit.
    pub(crate) fn unit(&self, index: usize) -> String {
        let prompt = &self.prompts[index];
        match &prompt.concept {
            Some(concept) => format!("{concept}_{:04}", prompt.index),
            None => format!("prompt_{:04}", prompt.index),
        }
    }

    /// Name of a layer's audio.
    pub(crate) fn audio(&self, index: usize, layer: usize) -> String {
        format!("{}_layer_{layer:02}.wav", file_name(&self.unit(index)))
    }

    /// The concepts that a prompt is measured against.
    pub(crate) fn measured(&self, index: usize) -> impl Iterator<Item = &Concept> {
        let measured = &self.prompts[index].measured;
        self.concepts.iter().filter(move |concept| measured.contains(&concept.name))
    }

    /// What translators depend on, as the content of a file.
    pub(crate) fn translators_key(&self) -> Result<Vec<u8>> {
        let Self { basis, fitted_on, alpha, .. } = self;
        Ok(serde_json::to_vec_pretty(&json!({"basis": basis, "fitted_on": fitted_on, "alpha": alpha}))?)
    }

    /// For `run.json`.
    pub(crate) fn settings(&self) -> Result<Value> {
        let named: Vec<&str> = self.concepts.iter().map(|concept| concept.name.as_str()).collect();
        let basis = &self.basis;
        Ok(json!({
            "mode": self.mode,
            "layers": self.read,
            "seconds": basis.frames as f64 / basis.frame_rate as f64,
            "frames": basis.frames,
            "guidance": basis.guidance,
            "sampling": serde_json::to_value(basis.sampling)?,
            "concepts": named,
            "prompts": self.prompts.len(),
            "judge": basis.judge,
            "translators": self.translators,
            "fitted_on": self.fitted_on,
            "alpha": self.alpha,
        }))
    }
}
