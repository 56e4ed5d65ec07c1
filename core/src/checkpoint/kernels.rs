//! What a device computes in its own way beside products with matrices: kernels that stand for several operations of Burn's.

use std::fmt::Debug;

use burn::tensor::{Int, Tensor};

use super::PackedMatrix;

/// Kernels of a device. A model that has none composes the same results from Burn's operations.
pub trait Kernels: Debug + Send + Sync {
    /// `(x − mean) / √(variance + ε) · weight + bias` of every row of `x` `[rows, width]`.
    fn layer_norm(&self, x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<2>;

    /// `factor · Σ table[code + codebook · entries] + positions[step]` of every row: `[rows, width]`.
    fn embed(&self, step: &StepInput, tables: Tensor<2>, positions: Tensor<2>, factor: f64) -> Tensor<2>;

    /// Whether [`Self::attend_past`] and [`Self::attend_text`] take up to `keys` keys of this type and width.
    fn attends(&self, like: &Tensor<2>, keys: usize, d_head: usize) -> bool;

    /// Attention of a decode step: writes its keys and values into the KV cache, then attends to all of them.
    ///
    /// # Shapes
    /// - result: `[row, head · d_head]`, or with [`Attended::Pattern`] `[row · head, key]`
    fn attend_past(&self, attention: PastAttention<'_>, wanted: Attended) -> Tensor<2>;

    /// Attention of a decode step to a text; shapes as in [`Self::attend_past`].
    fn attend_text(&self, attention: TextAttention<'_>, wanted: Attended) -> Tensor<2>;

    /// The values, weighted by the rows of a pattern, by the arithmetic of [`Self::attend_past`] and
    /// [`Self::attend_text`]: no bit depends on whether the pattern was asked for.
    ///
    /// # Shapes
    /// - `pattern`: `[row · head, key]`; `values`: `[row or 1, head, key or more, d_head]`
    /// - result: `[row, head · d_head]`
    fn mix(&self, pattern: Tensor<2>, values: &Tensor<4>) -> Tensor<2>;

    /// `uncond + guidance · (cond − uncond)` of tensors of one shape.
    fn guide(&self, cond: Tensor<2>, uncond: Tensor<2>, guidance: f64) -> Tensor<2>;

    /// `a · x + b · y` of tensors of one shape.
    fn blend(&self, x: Tensor<2>, a: f64, y: Tensor<2>, b: f64) -> Tensor<2>;

    /// `scale · x` with the head axis before time.
    ///
    /// # Shapes
    /// - `x`: `[row, time, head · d_head]`; result: `[row · head, time, d_head]`
    fn heads_first(&self, x: Tensor<3>, heads: usize, scale: f64) -> Tensor<3>;

    /// Queries, keys and values by head; queries and keys turned by their positions, queries scaled.
    fn turned_heads(&self, heads: TurnedHeads) -> [Tensor<3>; 3];

    /// `first` before `x` along time, all of it `copies` times along rows.
    ///
    /// # Shapes
    /// - `first`: `[row, 1, width]`; `x`: `[row, time, width]`; result: `[copies · row, 1 + time, width]`
    fn prepend(&self, first: Tensor<3>, x: Tensor<3>, copies: usize) -> Tensor<3>;

    /// A product by the arithmetic of its type alone, where Burn's own may round to a shorter one; `None` where it does not.
    ///
    /// # Shapes
    /// - `a`: `[…, rows, in]`; `b`: `[…, in, columns]`; result: `[…, rows, columns]`
    fn matmul(&self, _a: &Tensor<4>, _b: &Tensor<4>) -> Option<Tensor<4>> {
        None
    }

    /// The steps of a recurrent layer, whose gates `i, f, g, o` lie side by side; `None` where the device has no kernel for
    /// these shapes.
    fn lstm(&self, recurrence: Recurrence<'_>) -> Option<Recurred>;
}

/// A recurrent layer, see [`Kernels::lstm`]: `c[t] = σ(f) c[t − 1] + σ(i) tanh(g)`; `h[t] = σ(o) tanh(c[t])`.
#[derive(Debug)]
pub struct Recurrence<'a> {
    /// What the inputs bring to the gates: `[time · batch, 4 · width]`.
    pub inputs: &'a Tensor<2>,
    /// What the hidden state brings to them: `[4 · width, width]`.
    pub weight: &'a dyn PackedMatrix,
    /// Hidden state and cell before the first step, `[batch, width]`; none at the beginning.
    pub state: Option<[Tensor<2>; 2]>,
    /// Sequences.
    pub batch: usize,
}

/// What a recurrent layer makes of its inputs.
#[derive(Debug)]
pub struct Recurred {
    /// Hidden states of all steps: `[time · batch, width]`.
    pub hidden: Tensor<2>,
    /// Hidden state and cell after the last step.
    pub state: [Tensor<2>; 2],
}

/// What a decode step brings to the device, in one tensor: one upload.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// Codes of all rows, `[row · codebook]`, and last how many columns the KV cache holds before this step.
    pub numbers: Tensor<1, Int>,
    /// Rows of the first layer.
    pub rows: usize,
    /// Codebooks.
    pub codebooks: usize,
    /// How many columns the KV cache holds before this step, as the host knows it.
    pub seen: usize,
}

/// What an attention kernel returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attended {
    /// The weighted sum of the values.
    Mixed,
    /// The weights themselves.
    Pattern,
}

/// Self-attention of a decode step.
#[derive(Debug)]
pub struct PastAttention<'a> {
    /// Query, key and value side by side: `[row, 3 · head · d_head]`.
    pub qkv: Tensor<2>,
    /// `[row, head, capacity, d_head]`, written in place.
    pub keys: &'a Tensor<4>,
    /// As `keys`.
    pub values: &'a Tensor<4>,
    /// Says how many columns there are.
    pub step: &'a StepInput,
    /// Factor of the scores.
    pub scale: f64,
}

/// Cross-attention of a decode step.
#[derive(Debug)]
pub struct TextAttention<'a> {
    /// `[row, head · d_head]`
    pub q: Tensor<2>,
    /// `[row or 1, head, token, d_head]`
    pub keys: &'a Tensor<4>,
    /// As `keys`.
    pub values: &'a Tensor<4>,
    /// Added to the scores: `[row or 1, 1, 1, token]`.
    pub bias: &'a Tensor<4>,
    /// Factor of the scores.
    pub scale: f64,
}

/// Queries, keys and values before they are turned by their positions.
#[derive(Debug)]
pub struct TurnedHeads {
    /// Side by side: `[row, time, (head + 2 · group) · d_head]`.
    pub qkv: Tensor<3>,
    /// `[position, turned / 2]`
    pub cos: Tensor<2>,
    /// `[position, turned / 2]`
    pub sin: Tensor<2>,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Factor of the queries.
    pub scale: f64,
}

/// How much a device computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Numbers of a temporary tensor that may also be computed in portions.
    pub at_once: usize,
    /// Numbers that one buffer can hold.
    pub buffer: usize,
}

impl Default for Limits {
    /// A processor's: 16 MiB of 32-bit numbers stay in its caches, and no buffer is too large for it.
    fn default() -> Self {
        Self { at_once: 1 << 22, buffer: usize::MAX }
    }
}
