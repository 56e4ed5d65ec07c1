//! The products of a convolution over `[batch, time, channel]`.
//!
//! The channel axis comes last, so that a convolution is a few products of the input, moved by a step or two, with one
//! matrix per tap: nothing is rearranged. Measured on Burn's flex, that is faster than its `conv1d`.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData},
};

use super::{activation::Activation, held, matmul};
use crate::checkpoint::{Ends, Kernels, PackedTaps, TapValues, Weights};

/// `y[t] = b + Σⱼ f(x[t + j · dilation − left]) Wⱼ`, nothing beyond the ends of `x`.
#[derive(Module, Debug)]
pub(crate) struct Taps {
    /// `[in, out]` per tap, or `[tap · in, out]` if gathered; none if packed.
    weights: Vec<Param<Tensor<2>>>,
    bias: Option<Param<Tensor<1>>>,
    before: Option<Activation>,
    #[module(skip)]
    packed: Option<Arc<dyn PackedTaps>>,
    count: usize,
    dilation: usize,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
}

impl Taps {
    /// Plain tensors. `gathered`: all taps in one product, which pays where the input is narrow.
    pub(crate) fn plain(weights: &Weights, values: TapValues, gathered: bool) -> Self {
        let [count, from, to] = values.shape;
        let matrices = if gathered { 1 } else { count };
        let height = count * from / matrices;
        let matrix = |matrix: &[f32]| held(place(weights, matrix.to_vec(), [height, to]));
        Self {
            weights: values.weights.chunks_exact(height * to).map(matrix).collect(),
            bias: values.bias.map(|bias| held(place(weights, bias, [to]))),
            before: Activation::place(weights, values.before),
            packed: None,
            count,
            dilation: values.dilation,
            kernels: weights.kernels(),
        }
    }

    /// Of a matrix `[tap · in, out]` and a bias `[out]` that are on their device already, differentiable by both; taps that
    /// are gathered make one product.
    pub(crate) fn of_tensors(
        matrix: &Tensor<2>,
        bias: Option<Tensor<1>>,
        before: Option<Activation>,
        [count, dilation]: [usize; 2],
        gathered: bool,
    ) -> Self {
        let matrices = if gathered { 1 } else { count };
        let height = matrix.dims()[0] / matrices;
        let part = |index: usize| held(matrix.clone().narrow(0, index * height, height));
        let (weights, bias) = ((0..matrices).map(part).collect(), bias.map(held));
        Self { weights, bias, before, packed: None, count, dilation, kernels: None }
    }

    /// In the placement's own form, or as [`Self::plain`] makes them where it has none.
    pub(crate) fn packed(weights: &Weights, values: TapValues, gathered: bool) -> Self {
        let Some(packed) = weights.pack_taps(&values) else { return Self::plain(weights, values, gathered) };
        let ([count, ..], dilation) = (values.shape, values.dilation);
        Self { weights: vec![], bias: None, before: None, packed: Some(packed), count, dilation, kernels: None }
    }

    fn product(&self, x: Tensor<3>, matrix: &Param<Tensor<2>>) -> Tensor<3> {
        matmul(self.kernels.as_deref(), x, matrix.val().unsqueeze())
    }

    /// [`Self::forward`] with the ends of `x` reflected, if packed: then nothing is copied for it.
    pub(crate) fn reflected(&self, x: &Tensor<3>, left: usize, steps: usize) -> Option<Tensor<3>> {
        Some(self.packed.as_ref()?.forward(x.clone(), left, steps, Ends::Reflected))
    }

    /// `steps` steps, of which the first has its first tap `left` steps before `x`.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, steps, out]`
    pub(crate) fn forward(&self, x: Tensor<3>, left: usize, steps: usize) -> Tensor<3> {
        if let Some(packed) = &self.packed {
            return packed.forward(x, left, steps, Ends::Zero);
        }
        // Zero stays zero: it may come before the ends are filled up.
        let x = match &self.before {
            Some(before) => before.forward(x),
            None => x,
        };
        let x = window(x, left, steps + (self.count - 1) * self.dilation);
        let tap = |tap: usize| x.clone().narrow(1, tap * self.dilation, steps);
        let y = match &*self.weights {
            [gathered] if self.count > 1 => self.product(Tensor::cat((0..self.count).map(tap).collect(), 2), gathered),
            weights => (1..self.count)
                .fold(self.product(tap(0), &weights[0]), |sum, index| sum + self.product(tap(index), &weights[index])),
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

/// `values` on the device of `weights`, in their type.
pub(crate) fn place<const D: usize>(weights: &Weights, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let float = weights.float();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), (weights.device(), float))
}

/// `steps` steps of `x`, which begin `left` steps before it; zero where there is none.
pub(super) fn window(x: Tensor<3>, left: usize, steps: usize) -> Tensor<3> {
    let [batch, time, width] = x.dims();
    let zeros = |steps: usize| Tensor::zeros([batch, steps, width], (&x.device(), x.dtype()));
    let kept = time.min(steps.saturating_sub(left));
    let after = steps.saturating_sub(left + kept);
    let [before, after] = [left, after].map(|steps| (steps > 0).then(|| zeros(steps)));
    let x = if kept < time { x.narrow(1, 0, kept) } else { x };
    if before.is_none() && after.is_none() {
        return x;
    }
    Tensor::cat(before.into_iter().chain([x]).chain(after).collect(), 1)
}
