//! Does the GPU compute what the CPU does? Some drivers do not, and then music is noise.

use burn::tensor::{Int, Tensor, TensorData};
use serde::Serialize;
use tonoscope_backends::Dtype;
use tonoscope_core::{
    checkpoint::{Placement, Weights},
    hooks::{Hooks, read_floats},
    models::musicgen::{Columns, DecoderState, MusicGen, MusicgenConfig},
};
use wasm_bindgen::JsError;

use crate::failure::failed;

/// A model that is small, but whose matrices take more than one tile of any kernel.
const CONFIG: &str = include_str!("self_test.json");

/// Largest difference, relative to the largest number of a tensor, that rounding explains; what drivers get wrong is off
/// by far more. In 16 bits every step rounds by up to 5e-4.
const fn bound(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::F16 | Dtype::Bf16 => 2e-2,
    }
}

/// What the comparison found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether all differences are within `bound`.
    ok: bool,
    bound: f64,
    blocks: Vec<Block>,
}

#[derive(Debug, Serialize)]
struct Block {
    name: &'static str,
    /// Largest difference over the largest number; infinite where a number is none.
    error: f64,
}

/// Runs text encoder, decoder and codec of one small model on both.
pub(crate) async fn compare(gpu: &Placement, cpu: &Placement, dtype: Dtype) -> Result<Report, JsError> {
    let bound = bound(dtype);
    let (found, expected) = (run(gpu).await?, run(cpu).await?);
    let names = ["text encoder", "decoder", "codec"];
    let blocks: Vec<Block> = names
        .into_iter()
        .zip(found.iter().zip(&expected))
        .map(|(name, (found, expected))| Block { name, error: difference(found, expected) })
        .collect();
    Ok(Report { ok: blocks.iter().all(|block| block.error <= bound), bound, blocks })
}

async fn run(placement: &Placement) -> Result<[Vec<f32>; 3], JsError> {
    let config: MusicgenConfig = serde_json::from_str(CONFIG).map_err(failed)?;
    let model = MusicGen::load(&config, &Weights::random(7, placement.clone())).map_err(failed)?;
    let hooks = &mut Hooks::none();
    let text = model.encode_text(hooks, &[(1..20).collect()]);
    let states = values(text.states.clone()).await?;
    let (codebooks, time) = (config.decoder.num_codebooks, 12);
    let mut state = DecoderState::new(model.decoder(), hooks, &text, true, time);
    let codes: Vec<i64> =
        (0..2 * codebooks * time).map(|index| (index * 37 % config.decoder.vocab_size) as i64).collect();
    let codes = TensorData::new(codes, [2, codebooks, time]);
    let codes = Tensor::<3, Int>::from_data(codes, &model.device());
    let logits = values(model.decoder().forward(hooks, &mut state, codes, Columns::Last)).await?;
    let frames: Vec<Vec<u32>> = (0..codebooks as u32)
        .map(|codebook| {
            (0..10).map(|frame| (codebook * 11 + frame * 5) % config.audio_encoder.codebook_size as u32).collect()
        })
        .collect();
    let audio = values(model.decode_audio(&[frames])).await?;
    Ok([states, logits, audio])
}

async fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, JsError> {
    read_floats(tensor).await.map_err(failed)
}

fn difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || found.iter().any(|value| !value.is_finite()) {
        return f64::MAX;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| value.abs().max(largest));
    let off = found.iter().zip(expected).fold(0f32, |off, (found, expected)| (found - expected).abs().max(off));
    f64::from(off) / f64::from(largest)
}
