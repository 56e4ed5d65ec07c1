//! The logit lens of any model: what its head makes of the residual stream after every layer.
//!
//! Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.

use burn::tensor::Tensor;

use super::{LensError, TokenReading, read::read_token};
use crate::{
    hooks::{Cache, Capture, HookPoint, HookedModel, Reduce, Selector, Site, Spec, read_floats},
    metrics::log_softmax,
    models::musicgen::MusicGen,
};

/// A model whose head can read the residual stream after every layer.
pub trait ReadsOut: HookedModel {
    /// The residual stream after every layer, in the order of the layers.
    fn residual_stream(&self) -> Vec<HookPoint> {
        let after = |point: &HookPoint| point.site == Site::RESID_POST;
        self.hook_points().into_iter().filter(after).collect()
    }

    /// What the final norm and the head make of a residual stream.
    ///
    /// # Shapes
    /// - `stream`: `[row, step, width]`
    /// - result: `[row, codebook, step, vocabulary]`; a model with one kind of token has one codebook
    fn read_out(&self, stream: Tensor<3>) -> Tensor<4>;
}

impl ReadsOut for MusicGen {
    fn residual_stream(&self) -> Vec<HookPoint> {
        (0..self.config().decoder.num_hidden_layers).map(|layer| Site::RESID_POST.of(layer)).collect()
    }

    fn read_out(&self, stream: Tensor<3>) -> Tensor<4> {
        self.decoder().read_out(&mut crate::hooks::Hooks::none(), stream)
    }
}

/// What [`logit_lens`] needs to have been captured.
pub fn lens_spec(model: &impl ReadsOut) -> Spec {
    let capture = |point| Capture { points: Selector::point(point), reduce: Reduce::Everything };
    Spec { captures: model.residual_stream().into_iter().map(capture).collect(), edits: vec![] }
}

/// What the head of `model` makes of the residual streams in `cache`: `[layer][row][codebook][step]`, layers from 0, rows
/// being the prompts of the conditional branch, then those of the unconditional one. `top` tokens are kept of each reading;
/// ranks are those of the token that the last layer finds likeliest.
///
/// # Errors
/// [`LensError::Hook`] if a stream was not captured whole, [`LensError::Device`] if the device fails.
pub async fn logit_lens(
    model: &impl ReadsOut,
    cache: &Cache,
    top: usize,
) -> Result<Vec<Vec<Vec<Vec<TokenReading>>>>, LensError> {
    let mut layers = vec![];
    for point in model.residual_stream() {
        let stream = cache.get(point)?.tensor.clone();
        let [branches, prompts, steps, _, width] = stream.dims();
        let logits = model.read_out(stream.reshape([branches * prompts, steps, width]));
        let shape = logits.dims();
        layers.push((shape, read_floats(logits).await?));
    }
    let Some((shape, last)) = layers.last() else { return Ok(vec![]) };
    let [_, codebooks, steps, vocabulary] = *shape;
    let wide = |row: &[f32]| row.iter().map(|&logit| f64::from(logit)).collect::<Vec<f64>>();
    let last: Vec<Vec<f64>> = last.chunks_exact(vocabulary).map(|row| log_softmax(&wide(row))).collect();
    let likeliest = |row: &Vec<f64>| {
        let best = row.iter().enumerate().max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)));
        best.map_or(0, |(token, _)| token as u32)
    };
    let readings = |(_, logits): &([usize; 4], Vec<f32>)| {
        let rows = logits.chunks_exact(vocabulary).zip(&last);
        let read: Vec<TokenReading> =
            rows.map(|(logits, last)| read_token(logits, last, likeliest(last), top)).collect();
        let by_codebook = read.chunks(steps.max(1)).map(<[TokenReading]>::to_vec).collect::<Vec<_>>();
        by_codebook.chunks(codebooks.max(1)).map(<[_]>::to_vec).collect()
    };
    Ok(layers.iter().map(readings).collect())
}
