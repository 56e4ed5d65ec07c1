//! What `run.json` says: all that is needed to repeat a run, and what came out.

use std::path::PathBuf;

use serde::Serialize;
use tonoscope_core::{
    hooks::Spec,
    models::musicgen::{Prompt, Sampling, Tie},
};

use super::{
    batches::audio_name,
    plan::Plan,
    unit::{Batch, MadePiece},
};
use crate::session::{Provenance, UsedDevice};

/// What `run.json` says.
#[derive(Debug, Serialize)]
pub(super) struct RunRecord {
    pub(super) version: &'static str,
    #[serde(flatten)]
    pub(super) provenance: Provenance,
    pub(super) device: UsedDevice,
    pub(super) settings: Settings,
    pub(super) pieces: Vec<Piece>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(super) hooks: Spec,
    pub(super) timings: Timings,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_empty(spec: &Spec) -> bool {
    *spec == Spec::default()
}

#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) seconds: f64,
    pub(super) frames: usize,
    pub(super) guidance: f64,
    pub(super) sampling: Sampling,
    pub(super) batch_size: usize,
    pub(super) normalise: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::json_path::optional")]
    pub(super) continue_from: Option<PathBuf>,
}

/// One prompt and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Piece {
    pub(super) prompt: String,
    /// The concept that a prompt file gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) concept: Option<String>,
    /// Which of the pieces with this prompt, from 0; part of the random key.
    pub(super) sample: u64,
    pub(super) tokens: usize,
    /// Tokens among them that stand for words that the model cannot read.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) unknown_tokens: usize,
    pub(super) audio: String,
    /// The first choice so close that another device may choose otherwise.
    pub(super) first_tie: Option<Tie>,
    /// Samples beyond full scale, clipped in a 16-bit file.
    pub(super) clipped: usize,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Timings {
    /// Pieces that an earlier run with the same settings had finished; they count in none of the times.
    pub(super) kept: usize,
    pub(super) load_s: f64,
    pub(super) generate_s: f64,
    pub(super) decode_s: f64,
    pub(super) steps: usize,
    pub(super) steps_per_s: f64,
}

/// What the record says of each piece.
pub(super) fn pieces(plan: &Plan, sequences: &[(u64, Prompt)], made: &[Batch]) -> Vec<Piece> {
    let made = made.iter().flat_map(|batch| &batch.pieces);
    let piece = |(index, made): (usize, &MadePiece)| {
        let (sample, prompt) = &sequences[index];
        Piece {
            prompt: plan.prompts[index].clone(),
            concept: plan.concepts[index].clone(),
            sample: *sample,
            tokens: prompt.ids.len(),
            unknown_tokens: plan.unknown[index],
            audio: audio_name(index),
            first_tie: made.tie(),
            clipped: made.clipped,
        }
    };
    made.enumerate().map(piece).collect()
}
