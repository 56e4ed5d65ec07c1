//! What each layer already knows, to hear and to see.

use serde_json::json;
use tonoscope_core::{
    audio::Waveform,
    hooks::Hooks,
    lens::{LayerReading, Streams, early_exit},
    models::musicgen::Generate,
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    bridge,
    failure::{failed, misuse},
    judge::{Judge, Judgement},
    model::Loaded,
    request::PieceRequest,
};

/// Every layer's music.
#[wasm_bindgen]
pub struct Lens {
    /// By layer, from the first.
    codes: Vec<Vec<Vec<u32>>>,
    waves: Vec<Waveform>,
    readings: Vec<LayerReading>,
    /// By layer, if there is a judge.
    judged: Option<Vec<Judgement>>,
}

#[wasm_bindgen]
impl Lens {
    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.waves.len()
    }

    /// Samples of a channel of the music of `layer`, counted by how many have run, from 1.
    ///
    /// # Errors
    /// If there is no such layer or channel.
    pub fn samples(&self, layer: usize, channel: usize) -> Result<Vec<f32>, JsError> {
        let wave = layer.checked_sub(1).and_then(|index| self.waves.get(index));
        let samples = wave.and_then(|wave| wave.channels().get(channel));
        samples.cloned().ok_or_else(|| misuse(format!("no channel {channel} of layer {layer}")))
    }

    /// Codes of `layer`, `[codebook, frame]` row-major.
    ///
    /// # Errors
    /// If there is no such layer.
    pub fn codes(&self, layer: usize) -> Result<Vec<u32>, JsError> {
        let codes = layer.checked_sub(1).and_then(|index| self.codes.get(index));
        codes.map(|codes| codes.concat()).ok_or_else(|| misuse(format!("no layer {layer}")))
    }

    /// JSON, by layer: what the judge hears in its music, `top` and `ndcg`; `undefined` without a judge.
    ///
    /// # Errors
    /// Never, unless a number is none.
    pub fn judged(&self) -> Result<Option<String>, JsError> {
        self.judged.as_ref().map(|judged| serde_json::to_string(judged).map_err(failed)).transpose()
    }

    /// JSON, by layer: means over all tokens of entropy (nats), rank of the chosen token and KL divergence from the whole
    /// model (nats), and the share of tokens on which the layer agrees.
    pub fn readings(&self) -> String {
        let of_layer = |reading: &LayerReading| {
            let tokens: Vec<_> = reading.tokens.iter().flatten().collect();
            let count = tokens.len().max(1) as f64;
            json!({
                "layer": reading.layer,
                "entropy": tokens.iter().map(|token| token.entropy).sum::<f64>() / count,
                "rank": tokens.iter().map(|token| token.rank as f64).sum::<f64>() / count,
                "kl": tokens.iter().map(|token| token.kl).sum::<f64>() / count,
                "agrees": tokens.iter().filter(|token| token.rank == 0).count() as f64 / count,
            })
        };
        serde_json::Value::from(self.readings.iter().map(of_layer).collect::<Vec<_>>()).to_string()
    }
}

/// The layers of `loaded` along `codes`, which it wrote for the request; with `alone`, every depth writes its own music. With
/// a judge, what that one hears in them.
pub(crate) async fn read(
    loaded: &Loaded,
    request: &PieceRequest,
    codes: &[Vec<u32>],
    alone: bool,
    judge: Option<&Judge>,
) -> Result<Lens, JsError> {
    let model = &loaded.model;
    let how: Generate = request.generate(loaded)?;
    let prompt = request.sequence(loaded)?;
    let layers: Vec<usize> = (1..=model.config().decoder.num_hidden_layers).collect();
    let text = model.encode_text(&mut Hooks::none(), std::slice::from_ref(&prompt.ids));
    bridge::stage("reading");
    let streams = Streams::of(model, &text, codes, &how).map_err(failed)?;
    let readings = streams.readings(&prompt.key, &layers, None, 0).await.map_err(failed)?;
    drop(streams);
    let codes: Vec<Vec<Vec<u32>>> = if alone {
        bridge::stage("generating");
        let keys = std::slice::from_ref(&prompt.key);
        early_exit(model, &text, keys, &layers, &how, &mut bridge::watch).await.map_err(failed)?.codes
    } else {
        readings.iter().map(|reading| reading.codes.clone()).collect()
    };
    bridge::stage("decoding");
    let mut waves = vec![];
    for codes in &codes {
        waves.push(model.sound(codes).await.map_err(failed)?);
        if bridge::step(waves.len(), layers.len()).is_break() {
            return Err(misuse("cancelled"));
        }
    }
    let judged = match judge {
        Some(judge) => Some(judge.hear(&waves).await?),
        None => None,
    };
    Ok(Lens { codes, waves, readings, judged })
}
