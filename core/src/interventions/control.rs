//! What a reviewer asks for: random directions of the same norm, and a run patched with itself.

use std::ops::ControlFlow;

use burn::tensor::{DType, Tensor, TensorData};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use super::{InterventionError, Place};
use crate::{
    hooks::{Axis, Capture, Change, Edit, EditTensors, Hooks, Reduce, Scope, Selector, Spec, Value},
    models::musicgen::{Generate, MusicGen, Progress, Prompt},
};

/// A direction that is the same in every step and branch, as long in each as `like` is there.
///
/// # Shapes
/// - `like`, result: `[1, branch, step, head, feature]`; the norm is over heads and features
///
/// `seed` and `name` decide the direction.
pub fn random_direction(like: &Tensor<5>, seed: u64, name: &str) -> Tensor<5> {
    let [_, _, _, heads, features] = like.dims();
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    let mut generator = ChaCha8Rng::from_seed(digest.into());
    let normal: Vec<f64> = (0..heads * features).map(|_| StandardNormal.sample(&mut generator)).collect();
    let length = normal.iter().map(|value| value * value).sum::<f64>().sqrt();
    let unit: Vec<f32> = normal.iter().map(|value| (value / length) as f32).collect();
    let unit = TensorData::new(unit, [1, 1, 1, heads, features]).convert_dtype(like.dtype());
    let unit = Tensor::<5>::from_data(unit, &like.device());
    let norm = like.clone().cast(DType::F32).powi_scalar(2).sum_dim(4).sum_dim(3).sqrt().cast(like.dtype());
    norm * unit
}

/// Generates `prompt` and again with its own activations put in their place at `place`, in all steps and branches.
///
/// Returns the codes `[codebook][frame]` of both: they are equal, or the hooks are wrong.
///
/// # Errors
/// [`InterventionError`].
pub async fn self_patch(
    model: &MusicGen,
    prompt: &Prompt,
    place: Place,
    how: &Generate,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<[Vec<Vec<u32>>; 2], InterventionError> {
    let points = Selector::point(place.point());
    let captures = vec![Capture { points: points.clone(), reduce: Reduce::Everything }];
    let known = model.points();
    let mut hooks = Hooks::new(&Spec { captures, edits: vec![] }, &known, &EditTensors::new())?;
    let halved = |half: usize| {
        move |progress: Progress| Progress { done: half * progress.total + progress.done, total: 2 * progress.total }
    };
    let first = halved(0);
    let clean = model.generate(&mut hooks, std::slice::from_ref(prompt), how, &mut |at| watch(first(at))).await?;
    let cache = hooks.finish()?;
    let own = cache.get(place.point())?;
    let [branches, _, steps, heads, features] = own.tensor.dims();
    let own = own.tensor.clone().reshape([1, branches, steps, heads, features]);
    let axes = [Axis::Branch, Axis::Step, Axis::Head, Axis::Feature];
    let axes = if branches == 1 { axes[1..].to_vec() } else { axes.to_vec() };
    let change = Change::Replace { value: Value { tensor: "own".to_owned(), axes } };
    let heads = place.head.map(|head| vec![head]);
    let edits = vec![Edit { points, scope: Scope { heads, ..Scope::default() }, change }];
    let tensors = EditTensors::from([("own".to_owned(), own)]);
    let mut hooks = Hooks::new(&Spec { captures: vec![], edits }, &known, &tensors)?;
    let second = halved(1);
    let patched = model.generate(&mut hooks, std::slice::from_ref(prompt), how, &mut |at| watch(second(at))).await?;
    hooks.finish()?;
    let codes = |made: crate::models::musicgen::Generation| made.codes.into_iter().next().unwrap_or_default();
    Ok([codes(clean), codes(patched)])
}
