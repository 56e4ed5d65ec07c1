//! Finished music on its way to the page.

use serde_json::json;
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    models::musicgen::Tie,
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::failure::{failed, misuse};

/// Music: codes, sound, and what was recorded on the way.
#[wasm_bindgen]
pub struct Piece {
    pub(crate) codes: Vec<Vec<u32>>,
    pub(crate) wave: Waveform,
    pub(crate) tie: Option<Tie>,
    pub(crate) captures: Option<Vec<u8>>,
}

#[wasm_bindgen]
impl Piece {
    /// `[codebook, frame]`, row-major.
    pub fn codes(&self) -> Vec<u32> {
        self.codes.concat()
    }

    /// JSON: codebooks, frames, channels, sample rate, the first tie.
    pub fn about(&self) -> String {
        json!({
            "codebooks": self.codes.len(),
            "frames": self.codes[0].len(),
            "channels": self.wave.channels().len(),
            "sample_rate": self.wave.sample_rate(),
            "seconds": self.wave.seconds(),
            "first_tie": self.tie,
        })
        .to_string()
    }

    /// Samples of a channel.
    ///
    /// # Errors
    /// If there is no such channel.
    pub fn samples(&self, channel: usize) -> Result<Vec<f32>, JsError> {
        let samples = self.wave.channels().get(channel);
        samples.cloned().ok_or_else(|| misuse(format!("no channel {channel}")))
    }

    /// A WAV file: 32-bit floating point, or 16-bit integers.
    ///
    /// # Errors
    /// If it is too long for one.
    pub fn wav(&self, float: bool) -> Result<Vec<u8>, JsError> {
        self.wave.to_wav_bytes(if float { WavFormat::Float32 } else { WavFormat::Pcm16 }).map_err(failed)
    }

    /// The recorded activations as a safetensors file, as `tonoscope generate --capture` writes it.
    pub fn captures(&self) -> Option<Vec<u8>> {
        self.captures.clone()
    }
}
