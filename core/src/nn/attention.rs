//! Attention, every tensor of which passes a hook.

use burn::{
    module::Module,
    tensor::{DType, Tensor},
};

use super::Linear;
use crate::{
    checkpoint::{Attended, Kernels, LoadError, PastAttention, Rows, StepInput, TextAttention, Weights},
    hooks::{HookPoint, Hooks, Inner},
};

/// What is added to the scores of what must not be seen: the least finite number of the type, as in transformers. With
/// infinity, a row that may see nothing would be NaN.
pub(crate) fn masked(dtype: DType) -> f64 {
    dtype.finfo().map_or(f64::from(f32::MIN), |info| info.min)
}

/// `x` with its elements in the order of its axes: copied once here, instead of in every product that reads it.
pub(crate) fn in_order<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let shape = x.dims();
    x.reshape([shape.iter().product::<usize>()]).reshape(shape)
}

/// The four projections of an attention layer.
#[derive(Module, Debug)]
pub struct Attention {
    inward: Inward,
    out_proj: Linear,
    heads: usize,
    d_head: usize,
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
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
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
            inward: Inward::Apart(Apart { q_proj: inward(q)?, k_proj: inward(k)?, v_proj: inward(v)? }),
            out_proj: Linear::load(&weights.sub(out), heads * d_head, width, false)?,
            heads,
            d_head,
        })
    }

    /// This layer as one whose queries, keys and values are of the same `x`, in one product where a backend has that.
    #[must_use]
    pub fn of_one_stream(mut self) -> Self {
        if let Inward::Apart(Apart { q_proj, k_proj, v_proj }) = &self.inward
            && let Some(joined) = Linear::joined(&[q_proj, k_proj, v_proj])
        {
            self.inward = Inward::Joined(joined);
        }
        self
    }

    /// Queries, keys and values of the same `x`, in one pass where a backend can.
    ///
    /// # Shapes
    /// - `x`: `[row, time, width]`; result: `[row, head, time, d_head]` each
    pub fn queries_keys_values(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
        rows: Rows,
    ) -> [Tensor<4>; 3] {
        let [queries, keys, values] = match &self.inward {
            Inward::Apart(Apart { q_proj, k_proj, v_proj }) => Linear::forward_all([q_proj, k_proj, v_proj], x, rows),
            Inward::Joined(joined) => self.parts(&joined.forward_rows(x, rows)),
        };
        let queries = self.split(hooks, at(Inner::Q), queries);
        let keys = self.split(hooks, at(Inner::K), keys);
        [queries, keys, self.split(hooks, at(Inner::V), values)]
    }

    /// Queries of a stream that has its keys from elsewhere; shapes as in [`Self::queries_keys_values`].
    ///
    /// # Panics
    /// If this layer is one of [`Self::of_one_stream`]: a bug of the model.
    pub fn queries(&self, hooks: &mut Hooks, at: impl Fn(Inner) -> HookPoint, x: Tensor<3>, rows: Rows) -> Tensor<4> {
        let q = self.apart().q_proj.forward_rows(x, rows);
        self.split(hooks, at(Inner::Q), q)
    }

    /// Keys and values of `x`; shapes as in [`Self::queries_keys_values`].
    ///
    /// # Panics
    /// As [`Self::queries`].
    pub fn keys_values(
        &self,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
    ) -> (Tensor<4>, Tensor<4>) {
        let Apart { k_proj, v_proj, .. } = self.apart();
        let [k, v] = Linear::forward_all([k_proj, v_proj], x, Rows::Positions);
        (self.split(hooks, at(Inner::K), k), self.split(hooks, at(Inner::V), v))
    }

    /// `softmax(scale · q kᵀ + bias) v` of every head, side by side.
    ///
    /// # Shapes
    /// - `q`: `[row, head, query, d_head]`; `k`, `v`: `[row, head, key, d_head]`
    /// - `bias`: `[row or 1, head or 1, query or 1, key]`; result: `[row, query, head · d_head]`
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
        let scores = self.out_proj.matmul(q, k.swap_dims(2, 3));
        let scores = if scale == 1.0 { scores } else { scores * scale };
        let scores = match bias {
            Some(bias) => scores + bias,
            None => scores,
        };
        let pattern = hooks.at(at(Inner::Pattern), self.out_proj.softmax(scores));
        let z = moved(self.out_proj.matmul(pattern, v));
        hooks.at(at(Inner::Z), z).reshape([rows, queries, self.heads * self.d_head])
    }

    /// Projection of [`Self::attend`] back to the residual stream.
    pub fn out_proj(&self) -> &Linear {
        &self.out_proj
    }

    /// [`Self::queries_keys_values`] and [`Self::attend`] of a decode step, by kernels that keep the KV cache.
    ///
    /// # Shapes
    /// - `x`: `[row, 1, width]`; `past`: `[row, head, capacity, d_head]`; result: `[row, 1, head · d_head]`
    pub(crate) fn step_past(
        &self,
        kernels: &dyn Kernels,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
        (past, step): ([&Tensor<4>; 2], &StepInput),
        scale: f64,
    ) -> Tensor<3> {
        let width = self.heads * self.d_head;
        let rows = x.dims()[0];
        let qkv = match &self.inward {
            Inward::Joined(joined) => joined.forward_rows(x, Rows::Steps),
            Inward::Apart(Apart { q_proj, k_proj, v_proj }) => {
                Tensor::cat(Linear::forward_all([q_proj, k_proj, v_proj], x, Rows::Steps).to_vec(), 2)
            }
        };
        let qkv = if [Inner::Q, Inner::K, Inner::V].iter().any(|&inner| hooks.wants(at(inner))) {
            let [q, k, v] = self.parts(&qkv);
            let mut pass = |inner, x: Tensor<3>| {
                hooks.at(at(inner), x.reshape([rows, 1, self.heads, self.d_head])).reshape([rows, 1, width])
            };
            let (q, k) = (pass(Inner::Q, q), pass(Inner::K, k));
            Tensor::cat(vec![q, k, pass(Inner::V, v)], 2)
        } else {
            qkv
        };
        let [keys, values] = past;
        let attention = PastAttention { qkv: qkv.reshape([rows, 3 * width]), keys, values, step, scale };
        let pattern = hooks.wants(at(Inner::Pattern));
        let wanted = if pattern { Attended::Pattern } else { Attended::Mixed };
        self.mixed(kernels, hooks, at, kernels.attend_past(attention, wanted), pattern, values)
    }

    /// [`Self::queries`] and [`Self::attend`] of a decode step, by kernels.
    ///
    /// # Shapes
    /// - `x`: `[row, 1, width]`; `text`: `[row or 1, head, token, d_head]`; `bias`: `[row or 1, 1, 1, token]`
    /// - result: `[row, 1, head · d_head]`
    pub(crate) fn step_text(
        &self,
        kernels: &dyn Kernels,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        x: Tensor<3>,
        ([keys, values], bias): ([&Tensor<4>; 2], &Tensor<4>),
        scale: f64,
    ) -> Tensor<3> {
        let rows = x.dims()[0];
        let q = self.queries(hooks, &at, x, Rows::Steps).reshape([rows, self.heads * self.d_head]);
        let pattern = hooks.wants(at(Inner::Pattern));
        let wanted = if pattern { Attended::Pattern } else { Attended::Mixed };
        let attended = kernels.attend_text(TextAttention { q, keys, values, bias, scale }, wanted);
        self.mixed(kernels, hooks, at, attended, pattern, values)
    }

    /// What an attention kernel returned, past the hooks that look at it.
    fn mixed(
        &self,
        kernels: &dyn Kernels,
        hooks: &mut Hooks,
        at: impl Fn(Inner) -> HookPoint,
        attended: Tensor<2>,
        pattern: bool,
        values: &Tensor<4>,
    ) -> Tensor<3> {
        let z = if pattern {
            let [all, keys] = attended.dims();
            let rows = all / self.heads;
            let pattern = hooks.at(at(Inner::Pattern), attended.reshape([rows, self.heads, 1, keys]));
            kernels.mix(pattern.reshape([all, keys]), values)
        } else {
            attended
        };
        let rows = z.dims()[0];
        let z = hooks.at(at(Inner::Z), z.reshape([rows, 1, self.heads, self.d_head]));
        z.reshape([rows, 1, self.heads * self.d_head])
    }

    fn apart(&self) -> &Apart {
        match &self.inward {
            Inward::Apart(apart) => apart,
            Inward::Joined(_) => unreachable!("queries and keys of two streams are never joined"),
        }
    }

    /// Queries, keys and values that lie side by side.
    fn parts(&self, joined: &Tensor<3>) -> [Tensor<3>; 3] {
        let width = self.heads * self.d_head;
        [0, 1, 2].map(|part| joined.clone().narrow(2, part * width, width))
    }

    /// `[row, time, head · d_head]` past its hook, with the head axis moved before time.
    fn split(&self, hooks: &mut Hooks, point: HookPoint, x: Tensor<3>) -> Tensor<4> {
        let [rows, time, _] = x.dims();
        moved(hooks.at(point, x.reshape([rows, time, self.heads, self.d_head])))
    }
}

/// `x` with its second and third axis changed; a reshape where one of them is of length 1.
fn moved(x: Tensor<4>) -> Tensor<4> {
    let [rows, second, third, features] = x.dims();
    if second == 1 || third == 1 { x.reshape([rows, third, second, features]) } else { x.swap_dims(1, 2) }
}
