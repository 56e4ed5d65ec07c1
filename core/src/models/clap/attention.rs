//! Attention with biases, as both towers have it; every tensor passes a hook.

use burn::tensor::Tensor;

use crate::{
    checkpoint::{LoadError, Weights},
    hooks::{HookPoint, Hooks, Inner},
    nn::Linear,
};

/// `dense(softmax(q kᵀ / √d + bias) v)`
#[derive(Debug, Clone)]
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    heads: usize,
    d_head: usize,
}

impl Attention {
    /// Takes `self.{query,key,value}` and `output.dense`, all from and to `width`.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(weights: &Weights, width: usize, heads: usize, bias: bool) -> Result<Self, LoadError> {
        let inward = |name| Linear::load(&weights.sub("self").sub(name), width, width, bias);
        Ok(Self {
            query: inward("query")?,
            key: inward("key")?,
            value: inward("value")?,
            dense: Linear::load(&weights.sub("output.dense"), width, width, true)?,
            heads,
            d_head: width / heads,
        })
    }

    /// # Shapes
    /// - `states`, result: `[row, token, width]`
    /// - `bias`: `[period, head or 1, query or 1, key]`, row `r` taking that of `r % period`; all heads and queries are
    ///   there unless `period` is 1 or the number of rows
    pub(super) fn forward(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        states: Tensor<3>,
        bias: Tensor<4>,
    ) -> Tensor<3> {
        let [rows, tokens, width] = states.dims();
        let period = bias.dims()[0];
        let mut split =
            |inner, part: Tensor<3>| hooks.at(at(inner), part.reshape([rows, tokens, self.heads, self.d_head]));
        let q = split(Inner::Q, self.query.forward(states.clone())) * (self.d_head as f64).powf(-0.5);
        let k = split(Inner::K, self.key.forward(states.clone())).swap_dims(1, 2);
        let v = split(Inner::V, self.value.forward(states)).swap_dims(1, 2);
        let scores = self.dense.matmul(q.swap_dims(1, 2), k.swap_dims(2, 3));
        let scores = if period == 1 || period == rows {
            scores + bias
        } else {
            let periods = scores.reshape([rows / period, period * self.heads, tokens, tokens]);
            let periods = periods + bias.reshape([1, period * self.heads, tokens, tokens]);
            periods.reshape([rows, self.heads, tokens, tokens])
        };
        let pattern = hooks.at(at(Inner::Pattern), self.dense.softmax(scores));
        let z = hooks.at(at(Inner::Z), self.dense.matmul(pattern, v).swap_dims(1, 2));
        self.dense.forward(z.reshape([rows, tokens, width]))
    }
}
