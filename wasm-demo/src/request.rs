//! What the page asks for, as JSON.

use serde::{Deserialize, Serialize};
use tonoscope_core::{
    hooks::Capture,
    models::musicgen::{Generate, Prompt, Sampling, SequenceKey, Window},
};
use wasm_bindgen::JsError;

use crate::{
    failure::{failed, misuse},
    model::Loaded,
};

/// Longest music that the page makes, in seconds.
const LONGEST: f64 = 120.0;

/// One piece of music; the names of the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PieceRequest {
    pub(crate) prompt: String,
    pub(crate) seconds: f64,
    /// `None`: the checkpoint's.
    #[serde(default)]
    pub(crate) guidance: Option<f64>,
    #[serde(default)]
    pub(crate) greedy: bool,
    /// As text, for JavaScript's numbers do not hold all of them.
    #[serde(default)]
    pub(crate) seed: String,
    pub(crate) top_k: usize,
    #[serde(default)]
    pub(crate) top_p: f64,
    pub(crate) temperature: f64,
    /// Hook points to record, as for `--capture`.
    #[serde(default)]
    pub(crate) capture: Vec<String>,
    /// The loaded edits; `None`: do not apply them.
    #[serde(default)]
    pub(crate) edits: Option<EditRequest>,
    /// What to follow through layers and time.
    #[serde(default)]
    pub(crate) heat: Option<Followed>,
}

/// What was loaded and can be read off the layers of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Followed {
    /// The directions of the edits.
    Directions,
    /// The probes.
    Probes,
}

/// How the loaded edits are applied.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditRequest {
    /// Multiplies the scale of everything that is added; 0 leaves every bit as it is.
    pub(crate) strength: f64,
    /// First and last layer, counted from 0.
    pub(crate) layers: [usize; 2],
}

impl PieceRequest {
    pub(crate) fn parse(json: &str) -> Result<Self, JsError> {
        let request: Self = serde_json::from_str(json).map_err(failed)?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), JsError> {
        if !(self.seconds > 0.0 && self.seconds <= LONGEST) {
            return Err(misuse(format!(
                "a duration of {} s, expected more than 0 and at most {LONGEST}",
                self.seconds
            )));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(misuse(format!(
                "a temperature of {}, expected a positive number\nfor the likeliest token every time, choose greedy",
                self.temperature
            )));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(misuse(format!("a top-p of {}, expected 0 to 1", self.top_p)));
        }
        if self.guidance.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(misuse("a guidance that is not a number"));
        }
        Ok(())
    }

    /// How `loaded` is to generate it: exactly as the command line would.
    pub(crate) fn generate(&self, loaded: &Loaded) -> Result<Generate, JsError> {
        let rate = loaded.model.frame_rate();
        let frames = (self.seconds * rate as f64).round() as usize;
        if frames == 0 {
            return Err(misuse(format!("{} s is less than one frame of {} s", self.seconds, 1.0 / rate as f64)));
        }
        Ok(Generate {
            frames,
            guidance: self.guidance.unwrap_or(loaded.generation.guidance_scale),
            sampling: self.sampling()?,
            window: Window::published(rate),
        })
    }

    fn sampling(&self) -> Result<Sampling, JsError> {
        if self.greedy {
            return Ok(Sampling::Greedy);
        }
        let seed = match self.seed.trim() {
            "" => 0,
            text => {
                text.parse().map_err(|_| misuse(format!("a seed of `{text}`, expected a whole number below 2⁶⁴")))?
            }
        };
        Ok(Sampling::Random { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed })
    }

    /// The only prompt of the batch.
    pub(crate) fn sequence(&self, loaded: &Loaded) -> Result<Prompt, JsError> {
        sequence(&self.prompt, loaded)
    }

    pub(crate) fn captures(&self) -> Result<Vec<Capture>, JsError> {
        self.capture.iter().map(|text| text.trim().parse().map_err(|error: String| misuse(error))).collect()
    }
}

/// `prompt` with the key of its first sample.
pub(crate) fn sequence(prompt: &str, loaded: &Loaded) -> Result<Prompt, JsError> {
    let ids = loaded.tokenizer.encode(prompt).map_err(failed)?;
    Ok(Prompt { ids, key: SequenceKey::new(prompt, 0), start: vec![] })
}
