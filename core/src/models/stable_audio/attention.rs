//! Attention of the diffusion transformer: heads of queries that share keys, and a pattern that never stands in memory
//! as a whole unless a hook looks at it.

use std::ops::Range;

use burn::{module::Module, tensor::Tensor};

use super::{conditioner::upload, config::DitConfig};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{HookPoint, Hooks, Inner},
    nn::Linear,
};

/// Numbers that are computed at once of what is only there for a moment: 16 MiB of 32-bit ones.
const AT_ONCE: usize = 1 << 22;

/// The four projections of an attention layer, without bias.
#[derive(Module, Debug)]
pub(super) struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    /// Heads of keys and values: each serves `heads / groups` neighbouring heads of queries.
    groups: usize,
    d_head: usize,
}

/// Angles by which positions turn queries and keys.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    /// `[1, position, 1, turned / 2]`
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Attention {
    /// Of a residual stream, whose keys and values come from a stream of width `source`.
    pub(super) fn load(config: &DitConfig, source: usize, groups: usize, weights: &Weights) -> Result<Self, LoadError> {
        let (width, d_head) = (config.width(), config.attention_head_dim);
        let inward = |name: &str| Linear::load(&weights.sub(name), source, groups * d_head, false);
        Ok(Self {
            to_q: Linear::load(&weights.sub("to_q"), width, width, false)?,
            to_k: inward("to_k")?,
            to_v: inward("to_v")?,
            to_out: Linear::load(&weights.sub("to_out.0"), width, width, false)?,
            heads: config.num_attention_heads,
            groups,
            d_head,
        })
    }

    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, time, head, d_head]`
    pub(super) fn queries(&self, x: Tensor<3>) -> Tensor<4> {
        let [rows, time, _] = x.dims();
        self.to_q.forward(x).reshape([rows, time, self.heads, self.d_head])
    }

    /// Queries, keys and values of the same `x`; shapes as in [`Self::queries`], keys and values by [`Self::by_head`].
    pub(super) fn queries_keys_values(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        let [rows, time, _] = x.dims();
        let [q, k, v] = Linear::forward_all([&self.to_q, &self.to_k, &self.to_v], x);
        [q.reshape([rows, time, self.heads, self.d_head]), self.by_head(k), self.by_head(v)]
    }

    /// Keys and values.
    ///
    /// # Shapes
    /// - `x`: `[row, time, source]`; result: `[row, time, groups · d_head]` each
    pub(super) fn keys_values(&self, x: Tensor<3>) -> [Tensor<3>; 2] {
        Linear::forward_all([&self.to_k, &self.to_v], x)
    }

    /// Keys or values by head: `[row, time, group, d_head]`.
    pub(super) fn by_head(&self, x: Tensor<3>) -> Tensor<4> {
        let [rows, time, _] = x.dims();
        x.reshape([rows, time, self.groups, self.d_head])
    }

    /// `softmax(q kᵀ / √d_head) v`, projected back to the residual stream.
    ///
    /// Heads are taken in the same portions whether or not a hook looks at the pattern, so that it changes no bit.
    ///
    /// # Shapes
    /// - `q`: `[row, query, head, d_head]`; `k`, `v`: `[row, key, group, d_head]`; result: `[row, query, width]`
    pub(super) fn attend(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        q: Tensor<4>,
        [k, v]: [Tensor<4>; 2],
    ) -> Tensor<3> {
        let [rows, queries, heads, d_head] = q.dims();
        let keys = k.dims()[1];
        // Heads that share keys stand one below the other, as if they were more queries of one head.
        let [groups, below] = [rows * self.groups, heads / self.groups * queries];
        let scale = (d_head as f64).powf(-0.5);
        let q = (q.swap_dims(1, 2) * scale).reshape([groups, below, d_head]);
        let [k, v] = [k, v].map(|x| x.swap_dims(1, 2).reshape([groups, keys, d_head]));
        let portions = portions(groups, below * keys);
        let pattern =
            |groups: &Range<usize>| self.to_out.softmax(some(&q, groups).matmul(some(&k, groups).swap_dims(1, 2)));
        let mixed = |pattern: Tensor<3>, groups: &Range<usize>| pattern.matmul(some(&v, groups));
        let z: Vec<Tensor<3>> = if hooks.wants(at(Inner::Pattern)) {
            let whole = joined(portions.iter().map(&pattern).collect());
            let whole = hooks.at(at(Inner::Pattern), whole.reshape([rows, heads, queries, keys]));
            let whole = whole.reshape([groups, below, keys]);
            portions.iter().map(|groups| mixed(some(&whole, groups), groups)).collect()
        } else {
            portions.iter().map(|groups| mixed(pattern(groups), groups)).collect()
        };
        let z = joined(z).reshape([rows, heads, queries, d_head]);
        let z = hooks.at(at(Inner::Z), z.swap_dims(1, 2));
        self.to_out.forward(z.reshape([rows, queries, heads * d_head]))
    }
}

/// Stretches of `all` of about one length, each of [`AT_ONCE`] numbers at most if one of `all` is of `numbers`, but never
/// shorter than one. They stay in the processor's caches, and memory does not grow with the batch.
pub(super) fn portions(all: usize, numbers: usize) -> Vec<Range<usize>> {
    let most = (AT_ONCE / numbers.max(1)).max(1);
    let portion = all.div_ceil(all.div_ceil(most).max(1)).max(1);
    (0..all).step_by(portion).map(|start| start..(start + portion).min(all)).collect()
}

/// Some of the first axis of `x`; `x` itself if they are all.
pub(super) fn some(x: &Tensor<3>, part: &Range<usize>) -> Tensor<3> {
    let [all, b, c] = x.dims();
    if part.len() == all { x.clone() } else { x.clone().slice([part.clone(), 0..b, 0..c]) }
}

/// The inverse of [`some`].
pub(super) fn joined(mut parts: Vec<Tensor<3>>) -> Tensor<3> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}

impl Rotary {
    /// Of `positions`, the prepended one being 0: `10000^(−2i / turned)` radians per position, in 32-bit arithmetic as the
    /// references compute them.
    pub(super) fn new(config: &DitConfig, positions: usize, like: &Tensor<3>) -> Self {
        let turned = config.rotary();
        let half = turned / 2;
        let frequency = |index: usize| 1.0 / 10_000f32.powf((2 * index) as f32 / turned as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = |position: usize| frequencies.iter().map(move |frequency| position as f32 * frequency);
        let table = |of: fn(f32) -> f32| {
            let values = (0..positions).flat_map(|position| angles(position).map(of)).collect();
            upload(values, [1, positions, 1, half], &like.device())
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Turns the first features of each head: `[row, position, head, d_head]`.
    pub(super) fn turn(&self, x: &Tensor<4>) -> Tensor<4> {
        let [rows, time, heads, width] = x.dims();
        let half = self.cos.dims()[3];
        let part = |from: usize, to: usize| x.clone().slice([0..rows, 0..time, 0..heads, from..to]);
        let (a, b) = (part(0, half), part(half, 2 * half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
        let rest = (2 * half < width).then(|| part(2 * half, width));
        Tensor::cat(turned.into_iter().chain(rest).collect(), 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_cover_everything_once_and_are_of_about_one_length() {
        for all in [1, 2, 7, 48, 434, 2050, 14_350] {
            for numbers in [1, 1000, 12_288, 1025 * 1025, AT_ONCE, 2 * AT_ONCE] {
                let portions = portions(all, numbers);
                assert!(portions.iter().cloned().flatten().eq(0..all), "{all} of {numbers}");
                let most = portions.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
                assert!(most == 1 || most * numbers <= AT_ONCE, "{all} of {numbers}: {most} at once");
                let least = all.div_ceil((AT_ONCE / numbers).max(1));
                assert!(portions.len() <= least, "{all} of {numbers}: {} portions", portions.len());
            }
        }
        assert!(portions(0, 5).is_empty());
    }
}
