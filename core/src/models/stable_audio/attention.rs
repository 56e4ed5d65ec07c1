//! Attention of the diffusion transformer: heads of queries that share keys, and a pattern that never stands in memory
//! as a whole unless a hook looks at it.

use std::{ops::Range, sync::Arc};

use burn::{module::Module, tensor::Tensor};

use super::{conditioner::upload, config::DitConfig};
use crate::{
    checkpoint::{Kernels, LoadError, Rows, TurnedHeads, Weights},
    hooks::{HookPoint, Hooks, Inner},
    nn::{Linear, in_order},
};

/// The four projections of an attention layer, without bias.
#[derive(Module, Debug)]
pub(super) struct Attention {
    inward: Inward,
    to_out: Linear,
    heads: usize,
    /// Heads of keys and values: each serves `heads / groups` neighbouring heads of queries.
    groups: usize,
    d_head: usize,
    /// Numbers of a pattern that are computed at once.
    at_once: usize,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
}

/// Queries, keys and values.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few of them, each as long as it lives")]
enum Inward {
    Apart(Apart),
    /// Side by side.
    Joined(Linear),
}

/// A projection each.
#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoint")]
struct Apart {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
}

/// Keys and values of conditions, as far as they are the same in every step.
#[derive(Debug, Clone)]
pub(super) enum Conditions {
    /// `[row · group, key, d_head]` each, in order.
    ByHead([Tensor<3>; 2]),
    /// `[row, key, group · d_head]` each: a hook looks at them in every step.
    Watched([Tensor<3>; 2]),
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
        let to_q = Linear::load(&weights.sub("to_q"), width, width, false)?;
        Ok(Self {
            inward: Inward::Apart(Apart { to_q, to_k: inward("to_k")?, to_v: inward("to_v")? }),
            to_out: Linear::load(&weights.sub("to_out.0"), width, width, false)?,
            heads: config.num_attention_heads,
            groups,
            d_head,
            at_once: weights.limits().at_once,
            kernels: weights.kernels(),
        })
    }

    /// This layer as one whose queries, keys and values are of the same `x`, in one product where a backend has that.
    #[must_use]
    pub(super) fn of_one_stream(mut self) -> Self {
        if let Inward::Apart(Apart { to_q, to_k, to_v }) = &self.inward
            && let Some(joined) = Linear::joined(&[to_q, to_k, to_v])
        {
            self.inward = Inward::Joined(joined);
        }
        self
    }

    /// Projection of [`Self::attend`] back to the residual stream.
    pub(super) fn to_out(&self) -> &Linear {
        &self.to_out
    }

    fn apart(&self) -> &Apart {
        match &self.inward {
            Inward::Apart(apart) => apart,
            Inward::Joined(_) => unreachable!("queries and keys of two streams are never joined"),
        }
    }

    /// Attention of the positions of `x` to each other.
    ///
    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, time, width]`, for [`Self::to_out`]
    pub(super) fn attend_to_all(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
        rotary: &Rotary,
    ) -> Tensor<3> {
        let [rows, time, _] = x.dims();
        let [heads, groups] = [self.heads, self.groups];
        let widths = [heads, groups, groups].map(|heads| heads * self.d_head);
        if let (Inward::Joined(joined), Some(kernels)) = (&self.inward, &self.kernels) {
            let mut qkv = joined.forward(x);
            if [Inner::Q, Inner::K, Inner::V].iter().any(|&inner| hooks.wants(at(inner))) {
                let passed = parts(&qkv, widths).into_iter().zip([Inner::Q, Inner::K, Inner::V]).zip(widths);
                let passed = passed.map(|((x, inner), width)| {
                    let by_head = x.reshape([rows, time, width / self.d_head, self.d_head]);
                    hooks.at(at(inner), by_head).reshape([rows, time, width])
                });
                qkv = Tensor::cat(passed.collect(), 2);
            }
            let [cos, sin] = rotary.tables();
            let turned = kernels.turned_heads(TurnedHeads { qkv, cos, sin, heads, groups, scale: self.scale() });
            return self.attend(hooks, at, turned, [rows, time]);
        }
        let [q, k, v] = match &self.inward {
            Inward::Apart(Apart { to_q, to_k, to_v }) => Linear::forward_all([to_q, to_k, to_v], x, Rows::Positions),
            Inward::Joined(joined) => parts(&joined.forward(x), widths),
        };
        let mut by_head = |inner, x: Tensor<3>| {
            let heads = x.dims()[2] / self.d_head;
            hooks.at(at(inner), x.reshape([rows, time, heads, self.d_head]))
        };
        let (q, k) = (by_head(Inner::Q, q), by_head(Inner::K, k));
        let v = by_head(Inner::V, v);
        let q = rotary.turn(&q).swap_dims(1, 2) * self.scale();
        let parts = [q, rotary.turn(&k).swap_dims(1, 2), v.swap_dims(1, 2)];
        self.attend(hooks, at, parts.map(|x| self.below(x)), [rows, time])
    }

    /// Attention of `x` to conditions; shapes as in [`Self::attend_to_all`].
    pub(super) fn attend_to_conditions(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
        conditions: &Conditions,
    ) -> Tensor<3> {
        let [rows, time, width] = x.dims();
        let q = self.apart().to_q.forward(x);
        let q = hooks.at(at(Inner::Q), q.reshape([rows, time, self.heads, self.d_head]));
        let q = match &self.kernels {
            Some(kernels) => {
                let by_head = kernels.heads_first(q.reshape([rows, time, width]), self.heads, self.scale());
                by_head.reshape([rows * self.groups, self.heads / self.groups * time, self.d_head])
            }
            None => self.below(q.swap_dims(1, 2) * self.scale()),
        };
        let [k, v] = match conditions {
            Conditions::ByHead(laid_out) => laid_out.clone(),
            Conditions::Watched([k, v]) => {
                let mut by_head = |inner, x: &Tensor<3>| self.below(hooks.at(at(inner), self.split(x)).swap_dims(1, 2));
                let k = by_head(Inner::K, k);
                [k, by_head(Inner::V, v)]
            }
        };
        self.attend(hooks, at, [q, k, v], [rows, time])
    }

    /// Keys and values of conditions; `watched` if a hook looks at them.
    ///
    /// # Shapes
    /// - `x`: `[row, time, source]`, every row of which becomes `copies`
    pub(super) fn conditions(&self, x: Tensor<3>, copies: usize, watched: bool) -> Conditions {
        let Apart { to_k, to_v, .. } = self.apart();
        let keys_values = Linear::forward_all([to_k, to_v], x, Rows::Positions).map(|x| repeated(x, copies));
        if watched {
            return Conditions::Watched(keys_values);
        }
        Conditions::ByHead(keys_values.map(|x| in_order(self.below(self.split(&x).swap_dims(1, 2)))))
    }

    /// Keys or values by head: `[row, time, group, d_head]`.
    fn split(&self, x: &Tensor<3>) -> Tensor<4> {
        let [rows, time, _] = x.dims();
        x.clone().reshape([rows, time, self.groups, self.d_head])
    }

    /// `[row, head, time, d_head]` as `[row · group, head below each other · time, d_head]`: heads that share keys stand one
    /// below the other, as if they were more queries of one head.
    fn below(&self, x: Tensor<4>) -> Tensor<3> {
        let [rows, heads, time, d_head] = x.dims();
        x.reshape([rows * self.groups, heads / self.groups * time, d_head])
    }

    fn scale(&self) -> f64 {
        (self.d_head as f64).powf(-0.5)
    }

    /// `softmax(q kᵀ) v` of every head, side by side.
    ///
    /// Heads are taken in the same portions whether or not a hook looks at the pattern, so that it changes no bit.
    ///
    /// # Shapes
    /// - `q`: scaled; all three as [`Self::below`] makes them; result: `[row, query, width]`
    fn attend(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        [q, k, v]: [Tensor<3>; 3],
        [rows, queries]: [usize; 2],
    ) -> Tensor<3> {
        let ([groups, below, d_head], keys, heads) = (q.dims(), k.dims()[1], self.heads);
        let portions = portions(groups, below * keys, self.at_once);
        let pattern = |groups: &Range<usize>| {
            self.to_out.softmax(self.to_out.matmul(some(&q, groups), some(&k, groups).swap_dims(1, 2)))
        };
        let mixed = |pattern: Tensor<3>, groups: &Range<usize>| self.to_out.matmul(pattern, some(&v, groups));
        let z: Vec<Tensor<3>> = if hooks.wants(at(Inner::Pattern)) {
            let whole = joined(portions.iter().map(&pattern).collect());
            let whole = hooks.at(at(Inner::Pattern), whole.reshape([rows, heads, queries, keys]));
            let whole = whole.reshape([groups, below, keys]);
            portions.iter().map(|groups| mixed(some(&whole, groups), groups)).collect()
        } else {
            portions.iter().map(|groups| mixed(pattern(groups), groups)).collect()
        };
        let z = joined(z).reshape([rows, heads, queries, d_head]);
        hooks.at(at(Inner::Z), z.swap_dims(1, 2)).reshape([rows, queries, heads * d_head])
    }
}

/// Every row `copies` times, next to each other.
pub(super) fn repeated(x: Tensor<3>, copies: usize) -> Tensor<3> {
    if copies == 1 {
        return x;
    }
    let [rows, time, width] = x.dims();
    x.unsqueeze_dim::<4>(1).expand([rows, copies, time, width]).reshape([rows * copies, time, width])
}

/// What lies side by side along the last axis.
fn parts(x: &Tensor<3>, widths: [usize; 3]) -> [Tensor<3>; 3] {
    let mut start = 0;
    widths.map(|width| {
        let part = x.clone().narrow(2, start, width);
        start += width;
        part
    })
}

/// Stretches of `all` of about one length, each of `at_once` numbers at most if one of `all` is of `numbers`, but never
/// shorter than one: see [`Limits`](crate::checkpoint::Limits). Memory does not grow with the batch.
pub(super) fn portions(all: usize, numbers: usize, at_once: usize) -> Vec<Range<usize>> {
    let most = (at_once / numbers.max(1)).max(1);
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
            upload(values, [1, positions, 1, half], &like.device(), like.dtype())
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Cosines and sines: `[position, turned / 2]` each.
    fn tables(&self) -> [Tensor<2>; 2] {
        let [_, positions, _, half] = self.cos.dims();
        [&self.cos, &self.sin].map(|table| table.clone().reshape([positions, half]))
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
    use crate::checkpoint::Limits;

    #[test]
    fn portions_cover_everything_once_and_are_of_about_one_length() {
        let at_once = Limits::default().at_once;
        for all in [1, 2, 7, 48, 434, 2050, 14_350] {
            for numbers in [1, 1000, 12_288, 1025 * 1025, at_once, 2 * at_once] {
                let portions = portions(all, numbers, at_once);
                assert!(portions.iter().cloned().flatten().eq(0..all), "{all} of {numbers}");
                let most = portions.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
                assert!(most == 1 || most * numbers <= at_once, "{all} of {numbers}: {most} at once");
                let least = all.div_ceil((at_once / numbers).max(1));
                assert!(portions.len() <= least, "{all} of {numbers}: {} portions", portions.len());
            }
        }
        assert!(portions(0, 5, at_once).is_empty());
    }

    #[test]
    fn a_device_with_room_takes_the_whole_at_once() {
        assert_eq!(portions(336, 1025 * 1025, 336 * 1025 * 1025), [0..336]);
        assert_eq!(portions(336, 1025 * 1025, usize::MAX), [0..336]);
    }
}
