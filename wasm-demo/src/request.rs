//! What the page asks for, as JSON.

use serde::{Deserialize, Serialize};
use tonoscope_core::{
    hooks::Capture,
    models::musicgen::{Generate, Prompt, Sampling, SettingError},
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
        Generate::check(self.seconds, self.guidance, &self.random(0)).map_err(outside)
    }

    /// How `loaded` is to generate it: exactly as the command line would.
    pub(crate) fn generate(&self, loaded: &Loaded) -> Result<Generate, JsError> {
        let rate = loaded.model.frame_rate();
        let guidance = self.guidance.unwrap_or(loaded.generation.guidance_scale);
        Generate::new(self.seconds, guidance, self.sampling()?, rate).map_err(outside)
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
        Ok(self.random(seed))
    }

    fn random(&self, seed: u64) -> Sampling {
        Sampling::Random { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed }
    }

    /// The only prompt of the batch.
    pub(crate) fn sequence(&self, loaded: &Loaded) -> Result<Prompt, JsError> {
        sequence(&self.prompt, loaded)
    }

    pub(crate) fn captures(&self) -> Result<Vec<Capture>, JsError> {
        self.capture.iter().map(|text| text.trim().parse().map_err(|error: String| misuse(error))).collect()
    }
}

/// A setting outside its range, with what to do about it.
fn outside(error: SettingError) -> JsError {
    match error {
        SettingError::Temperature(_) => misuse(format!("{error}\nfor the likeliest token every time, choose greedy")),
        _ => failed(error),
    }
}

/// `prompt` with the key of its first sample.
pub(crate) fn sequence(prompt: &str, loaded: &Loaded) -> Result<Prompt, JsError> {
    Prompt::of_text(&loaded.tokenizer, prompt, 0).map_err(failed)
}
