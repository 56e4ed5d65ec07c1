//! What a run of `diffuse` is about: the key of its units.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonoscope_core::{
    hooks::Spec,
    models::{occurrences, stable_audio::SampleRequest, t5::TokenIds},
    musicologist::{Annotation, read_annotations},
};

use super::args::{Cut, DiffuseArgs};
use crate::{failure::Misuse, tensors::shortened};

/// A prompt, and what is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlannedPrompt {
    pub(crate) text: String,
    pub(crate) ids: TokenIds,
    /// How many prompts before it have the same text.
    pub(crate) occurrence: usize,
    /// What an annotation says of it.
    pub(crate) aspects: Option<Vec<String>>,
    /// Beats per minute; 0 if the prompt does not say.
    pub(crate) bpm: Option<f64>,
}

/// Everything that decides the results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiffusePlan {
    pub(crate) command: String,
    pub(crate) version: String,
    /// As it was asked for.
    pub(crate) model: String,
    /// File of weights → sha256.
    pub(crate) weights: Vec<(String, String)>,
    /// Shape of the model.
    pub(crate) config: Value,
    /// Type of the activations.
    pub(crate) dtype: String,
    /// How matrices are kept.
    pub(crate) format: String,
    pub(crate) prompts: Vec<PlannedPrompt>,
    /// Where the annotations came from.
    pub(crate) annotations: Option<String>,
    pub(crate) negative: Option<(String, TokenIds)>,
    pub(crate) samples: usize,
    /// Samples that are computed together: may decide the last bit.
    pub(crate) batch: usize,
    /// Steps whose estimate is decoded, sorted.
    pub(crate) snapshots: Vec<usize>,
    pub(crate) request: SampleRequest,
    pub(crate) channels: usize,
    pub(crate) sample_rate: u32,
    /// Samples that the model makes of the latent frames.
    pub(crate) made_samples: usize,
    pub(crate) seconds_start: f64,
    pub(crate) seconds_total: f64,
    pub(crate) cut: Cut,
    pub(crate) seed: u64,
    /// Checksum of recorded noise.
    pub(crate) noise: Option<String>,
    pub(crate) tile: usize,
    pub(crate) keep_latents: bool,
    pub(crate) keep_noise: bool,
    pub(crate) hooks: Spec,
    pub(crate) edit_tensors: String,
}

impl DiffusePlan {
    pub(crate) const COMMAND: &'static str = "diffuse";

    /// Name of a prompt's unit.
    pub(crate) fn unit(&self, prompt: usize) -> String {
        let digits = self.prompts.len().saturating_sub(1).to_string().len().max(4);
        format!("prompt_{prompt:0digits$}")
    }

    /// Samples of a file, if the model makes as many.
    pub(super) fn kept_samples(&self) -> usize {
        self.cut.samples(self.seconds_total, self.sample_rate)
    }

    /// Length of the music in a file, seconds: what was asked for, or what is made if that is less.
    pub(super) fn made_seconds(&self) -> f64 {
        self.seconds_total.min(self.made_samples as f64 / f64::from(self.sample_rate))
    }

    /// For `run.json`.
    pub(super) fn settings(&self) -> Value {
        json!({
            "prompts": self.prompts.len(),
            "annotations": self.annotations,
            "negative_prompt": self.negative.as_ref().map(|(text, _)| text),
            "samples": self.samples,
            "batch": self.batch,
            "snapshots": self.snapshots,
            "sampling": self.request,
            "seconds_start": self.seconds_start,
            "seconds_total": self.seconds_total,
            "cut": self.cut,
            "seed": self.seed,
            "noise": self.noise,
            "hooks": self.hooks,
        })
    }
}

/// Folder of the files of a step.
pub(crate) fn step_folder(step: usize) -> String {
    format!("diff_step_{step}")
}

/// File of a sample at a step, within the folder of the results.
pub(crate) fn audio(step: usize, prompt: usize, sample: usize) -> String {
    format!("{}/prompt_{prompt}_sample_{sample}.wav", step_folder(step))
}

/// The prompts of the command line with ids and annotations.
pub(super) fn planned(args: &DiffuseArgs, encode: &dyn Fn(&str) -> Result<TokenIds>) -> Result<Vec<PlannedPrompt>> {
    let texts = args.read_prompts()?;
    let annotations = args.annotations.as_deref().map(read).transpose()?;
    let by_text: BTreeMap<&str, &Annotation> =
        annotations.iter().flatten().rev().map(|annotation| (annotation.prompt.trim(), annotation)).collect();
    let occurrences = occurrences(&texts);
    let mut prompts = Vec::with_capacity(texts.len());
    for (index, (text, occurrence)) in texts.into_iter().zip(occurrences).enumerate() {
        // In the order of the prompts they belong together even where a text comes twice.
        let at_its_place = annotations.as_ref().and_then(|all| all.get(index));
        let at_its_place = at_its_place.filter(|annotation| annotation.prompt.trim() == text.trim());
        let annotation = at_its_place.or_else(|| by_text.get(text.trim()).copied());
        if let (None, Some(path)) = (annotation, &args.annotations) {
            let what = format!("`{}` says nothing of prompt {index}, `{}`", path.display(), shortened(&text));
            let hint = "annotate the prompts again with `tonoscope prompts annotate`, or leave `--annotations` out";
            return Err(Misuse::new(what).hint(hint).into());
        }
        prompts.push(PlannedPrompt {
            ids: encode(&text).with_context(|| format!("prompt {index}, `{}`", shortened(&text)))?,
            occurrence: occurrence as usize,
            aspects: annotation.map(|annotation| annotation.aspects.clone()),
            bpm: annotation.map(|annotation| annotation.bpm),
            text,
        });
    }
    Ok(prompts)
}

fn read(path: &Path) -> Result<Vec<Annotation>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    read_annotations(&bytes).with_context(|| format!("`{}`", path.display()))
}
