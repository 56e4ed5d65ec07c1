//! Attention, every tensor of which passes a hook.

use burn::{
    module::Module,
    tensor::{DType, Tensor},
};

use super::Linear;
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{HookPoint, Hooks, Inner},
};

/// What is added to the scores of what must not be seen: the least finite number of the type, as in transformers. With
/// infinity, a row that may see nothing would be NaN.
pub(crate) fn masked(dtype: DType) -> f64 {
    dtype.finfo().map_or(f64::from(f32::MIN), |info| info.min)
}

/// The four projections of an attention layer.
#[derive(Module, Debug)]
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    d_head: usize,
}

impl Attention {
    /// Takes four matrices without bias under `names` (query, key, value, output).
    ///
    /// `width` is that of the residual stream; heads × `d_head` need not equal it.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing or of another shape.
    pub fn load(
        weights: &Weights,
        names: [&str; 4],
        width: usize,
        heads: usize,
        d_head: usize,
    ) -> Result<Self, LoadError> {
        let [q, k, v, out] = names;
        let inward = |name| Linear::load(&weights.sub(name), width, heads * d_head, false);
        Ok(Self {
            q_proj: inward(q)?,
            k_proj: inward(k)?,
            v_proj: inward(v)?,
            out_proj: Linear::load(&weights.sub(out), heads * d_head, width, false)?,
            heads,
            d_head,
        })
    }

    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, head, time, d_head]`
    pub fn queries(&self, hooks: &mut Hooks, at: impl Fn(Inner) -> HookPoint, x: Tensor<3>) -> Tensor<4> {
        self.split(hooks, at(Inner::Q), self.q_proj.forward(x))
    }

    /// Queries, keys and values of the same `x`, in one pass where a backend can; shapes as in [`Self::queries`].
    pub fn queries_keys_values(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
    ) -> [Tensor<4>; 3] {
        let [q, k, v] = Linear::forward_all([&self.q_proj, &self.k_proj, &self.v_proj], x);
        let q = self.split(hooks, at(Inner::Q), q);
        let k = self.split(hooks, at(Inner::K), k);
        [q, k, self.split(hooks, at(Inner::V), v)]
    }

    /// Keys and values of `x`; shapes as in [`Self::queries`].
    pub fn keys_values(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
    ) -> (Tensor<4>, Tensor<4>) {
        let [k, v] = Linear::forward_all([&self.k_proj, &self.v_proj], x);
        (self.split(hooks, at(Inner::K), k), self.split(hooks, at(Inner::V), v))
    }

    /// `softmax(scale · q kᵀ + bias) v`, projected back to the residual stream.
    ///
    /// # Shapes
    /// - `q`: `[row, head, query, d_head]`; `k`, `v`: `[row, head, key, d_head]`
    /// - `bias`: `[row or 1, head or 1, query or 1, key]`; result: `[row, query, width]`
    pub fn attend(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        q: Tensor<4>,
        [k, v]: [Tensor<4>; 2],
        scale: f64,
        bias: Option<Tensor<4>>,
    ) -> Tensor<3> {
        let [rows, _, queries, _] = q.dims();
        let scores = q.matmul(k.swap_dims(2, 3));
        let scores = if scale == 1.0 { scores } else { scores * scale };
        let scores = match bias {
            Some(bias) => scores + bias,
            None => scores,
        };
        let pattern = hooks.at(at(Inner::Pattern), self.out_proj.softmax(scores));
        let z = hooks.at(at(Inner::Z), pattern.matmul(v).swap_dims(1, 2));
        self.out_proj.forward(z.reshape([rows, queries, self.heads * self.d_head]))
    }

    /// `[row, time, head · d_head]` past its hook, with the head axis moved before time.
    fn split(&self, hooks: &mut Hooks, point: HookPoint, x: Tensor<3>) -> Tensor<4> {
        let [rows, time, _] = x.dims();
        hooks.at(point, x.reshape([rows, time, self.heads, self.d_head])).swap_dims(1, 2)
    }
}
