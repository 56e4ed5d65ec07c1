//! What is said of a prompt.

use serde::{Deserialize, Serialize};

use super::InputError;

/// The 25 aspects that annotators choose from, as published: instruments, qualities, sources.
pub const ASPECTS: [&str; 25] = [
    "bass",
    "brass",
    "drum",
    "flute",
    "guitar",
    "keyboard",
    "mallet",
    "organ",
    "reed",
    "string",
    "synth_lead",
    "vocal",
    "bright sound",
    "warm sound",
    "distortion",
    "fast_decay",
    "long_release",
    "multiphonic",
    "nonlinear_env",
    "percussive",
    "reverb",
    "tempo-synced",
    "acoustic",
    "electronic",
    "synthetic",
];

/// A prompt and what it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The prompt, without its number.
    pub prompt: String,
    /// Which of [`ASPECTS`]; published ones hold a few other words.
    pub aspects: Vec<String>,
    /// Beats per minute; 0: the prompt does not say.
    #[serde(default, serialize_with = "whole")]
    pub bpm: f64,
}

/// Whole tempi without a fraction, as they are published.
#[cfg_attr(target_pointer_width = "64", expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references"))]
fn whole<S: serde::Serializer>(bpm: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let rounded = *bpm as i64;
    if rounded as f64 == *bpm { serializer.serialize_i64(rounded) } else { serializer.serialize_f64(*bpm) }
}

/// Annotations of an `annotations.json`: a list in the order of the prompts.
///
/// Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// [`InputError::Format`] says in which line what is wrong, [`InputError::Empty`] if there is none.
pub fn read_annotations(bytes: &[u8]) -> Result<Vec<Annotation>, InputError> {
    const WHAT: &str = "annotations";
    let text = String::from_utf8_lossy(bytes);
    let error = |reason: String| InputError::Format { what: WHAT, reason };
    let read: Vec<Annotation> =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|cause| error(cause.to_string()))?;
    if let Some(index) = read.iter().position(|annotation| !(annotation.bpm >= 0.0 && annotation.bpm.is_finite())) {
        return Err(error(format!("entry {index} has a tempo of {} BPM", read[index].bpm)));
    }
    if read.is_empty() { Err(InputError::Empty { what: WHAT }) } else { Ok(read) }
}
