//! Convolutions over `[batch, time, channel]`, as their checkpoints have them.
//!
//! A stride is a reshape: `stride` steps side by side are one step of so many more channels, of which each output step sees
//! one or two. So a transposed convolution writes its samples in the order in which they are heard.

use std::ops::Range;

use burn::{module::Module, tensor::Tensor};

use super::{
    Preceding,
    taps::{Taps, window},
};
use crate::checkpoint::{Ends, LoadError, TapValues, Weights};

/// Inputs narrower than this are gathered tap by tap, so that the product has a depth worth the name.
const NARROW: usize = 16;

/// Extents of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvShape {
    /// Channels of the input and of the output.
    pub(crate) channels: [usize; 2],
    /// Taps.
    pub(crate) kernel: usize,
    /// Input steps per output step, or output steps per input step if transposed.
    pub(crate) stride: usize,
    /// Input steps between two taps; 1 unless the stride is.
    pub(crate) dilation: usize,
}

/// `y[t] = b + Σⱼ f(x[t · stride + j · dilation − left]) Wⱼ`
#[derive(Module, Debug)]
pub(crate) struct Conv {
    /// One per `stride` taps of the kernel.
    taps: Taps,
    #[module(skip)]
    shape: ConvShape,
    #[module(skip)]
    ends: Ends,
    /// Covers its input: `⌈time / stride⌉` steps. Otherwise it reaches equally far on both sides and has as many steps as
    /// fit: `⌊time / stride⌋` for kernels of two even strides.
    covers: bool,
}

impl Conv {
    /// Takes `weight` `[out, in, kernel]`, in any spelling of weight norm, and `bias` `[out]`; packed where the weights are
    /// placed so. Its steps cover the whole input.
    pub(crate) fn covering(
        weights: &Weights,
        shape: ConvShape,
        before: &Preceding,
        ends: Ends,
    ) -> Result<Self, LoadError> {
        // Packed, a narrow input would be filled up to many times its width.
        let taps = if Self::gathers(shape) { Taps::plain } else { Taps::packed };
        Ok(Self { taps: Self::taps(weights, shape, true, before, taps)?, shape, ends, covers: true })
    }

    /// Takes `weight` `[out, in, kernel]`, in any spelling of weight norm, and `bias` `[out]` if there is one; packed where
    /// the weights are placed so.
    pub(crate) fn zero_ended(
        weights: &Weights,
        shape: ConvShape,
        bias: bool,
        before: &Preceding,
    ) -> Result<Self, LoadError> {
        let taps = Self::taps(weights, shape, bias, before, Taps::packed)?;
        Ok(Self { taps, shape, ends: Ends::Zero, covers: false })
    }

    /// What `taps` makes of the values; of weights that are on their device already, plain ones.
    fn taps(
        weights: &Weights,
        shape: ConvShape,
        bias: bool,
        before: &Preceding,
        taps: impl Fn(&Weights, TapValues, bool) -> Taps,
    ) -> Result<Taps, LoadError> {
        let ConvShape { channels: [from, to], kernel, stride, dilation } = shape;
        let groups = kernel.div_ceil(stride);
        if weights.is_given() {
            let weight = widened(weights.tensor("weight", [to, from, kernel])?, groups * stride);
            let matrix = weight.permute([2, 1, 0]).reshape([groups * stride * from, to]);
            let bias = if bias { Some(weights.tensor("bias", [to])?) } else { None };
            let before = before.tensors(from, stride)?;
            return Ok(Taps::of_tensors(&matrix, bias, before, [groups, dilation], Self::gathers(shape)));
        }
        let weight = folded(weights, [to, from, kernel])?;
        // Missing taps of the last group stay zero.
        let mut matrix = vec![0.0; groups * stride * from * to];
        for (row, taps) in weight.chunks_exact(kernel).enumerate() {
            let (output, input) = (row / from, row % from);
            for (tap, &value) in taps.iter().enumerate() {
                matrix[(tap * from + input) * to + output] = value;
            }
        }
        let before = before.values(from, stride)?;
        let bias = if bias { Some(weights.values("bias", &[to])?) } else { None };
        let values = TapValues { weights: matrix, shape: [groups, stride * from, to], dilation, bias, before };
        Ok(taps(weights, values, Self::gathers(shape)))
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, steps, out]`, see [`Self::steps`]
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let ConvShape { channels: [from, _], kernel, stride, dilation } = self.shape;
        let [batch, time, _] = x.dims();
        let steps = self.steps(time);
        let [left, right] = self.padding();
        if stride == 1 {
            if self.ends == Ends::Zero {
                return self.taps.forward(x, left, steps);
            }
            let long = time > left.max(right);
            let reflected = if long { self.taps.reflected(&x, left, steps) } else { None };
            return reflected.unwrap_or_else(|| self.taps.forward(reflect(x, left, right), 0, steps));
        }
        let groups = kernel.div_ceil(stride);
        let rows = steps + (groups - 1) * dilation;
        let x = match self.ends {
            Ends::Zero => window(x, left, rows * stride),
            Ends::Reflected => window(reflect(x, left, right + steps * stride - time), 0, rows * stride),
        };
        self.taps.forward(x.reshape([batch, rows, stride * from]), 0, steps)
    }

    /// Output steps for `time` input steps.
    pub(crate) fn steps(&self, time: usize) -> usize {
        let stride = self.shape.stride;
        if self.covers {
            time.div_ceil(stride)
        } else {
            (time + 2 * self.padding()[0] + stride).saturating_sub(self.span()) / stride
        }
    }

    /// Input steps that the output steps `range` are made from; beyond the ends where there is none.
    pub(crate) fn inputs(&self, range: Range<isize>) -> Range<isize> {
        let [left, right] = self.padding().map(isize::try_from).map(|steps| steps.expect("a kernel is short"));
        let stride = isize::try_from(self.shape.stride).expect("a stride is short");
        range.start * stride - left..range.end * stride + right
    }

    /// Input steps per output step.
    pub(crate) fn stride(&self) -> usize {
        self.shape.stride
    }

    /// Numbers that one tensor inside holds at most for every step of the input, and of the output.
    pub(crate) fn numbers(&self) -> [usize; 2] {
        let [from, to] = self.shape.channels;
        let taps = if Self::gathers(self.shape) { self.shape.kernel } else { 1 };
        [from * taps, to]
    }

    /// Steps beyond the input before and after.
    fn padding(&self) -> [usize; 2] {
        let total = self.span().saturating_sub(self.shape.stride);
        [total - total / 2, total / 2]
    }

    /// Input steps from the first tap to the last.
    fn span(&self) -> usize {
        (self.shape.kernel - 1) * self.shape.dilation + 1
    }

    fn gathers(ConvShape { channels: [from, _], kernel, stride, .. }: ConvShape) -> bool {
        stride == 1 && kernel > 1 && from < NARROW
    }
}

/// `y[t · stride + r] = b + Σⱼ f(x[t − j]) W[j · stride + r]`, then cut to `time · stride` steps.
#[derive(Module, Debug)]
pub(crate) struct ConvTranspose {
    /// One per `stride` taps of the kernel, the earliest input first; a step of their output is `stride` steps.
    taps: Taps,
    #[module(skip)]
    shape: ConvShape,
}

impl ConvTranspose {
    /// Takes `weight` `[in, out, kernel]`, in any spelling of weight norm, and `bias` `[out]`; packed where the weights are
    /// placed so.
    pub(crate) fn load(weights: &Weights, shape: ConvShape, before: &Preceding) -> Result<Self, LoadError> {
        let ConvShape { channels: [from, to], kernel, stride, .. } = shape;
        let groups = kernel.div_ceil(stride);
        if weights.is_given() {
            let weight = widened(weights.tensor("weight", [from, to, kernel])?, groups * stride);
            let latest_last = weight.reshape([from, to, groups, stride]).flip([2]);
            let matrix = latest_last.permute([2, 0, 3, 1]).reshape([groups * from, stride * to]);
            let bias = Some(weights.tensor("bias", [to])?.repeat(&[stride]));
            let taps = Taps::of_tensors(&matrix, bias, before.tensors(from, 1)?, [groups, 1], true);
            return Ok(Self { taps, shape });
        }
        Ok(Self { taps: Taps::packed(weights, Self::values(weights, shape, before)?, true), shape })
    }

    fn values(weights: &Weights, shape: ConvShape, before: &Preceding) -> Result<TapValues, LoadError> {
        let ConvShape { channels: [from, to], kernel, stride, .. } = shape;
        let weight = folded(weights, [from, to, kernel])?;
        let groups = kernel.div_ceil(stride);
        let mut matrix = vec![0.0; groups * from * stride * to];
        for (row, taps) in weight.chunks_exact(kernel).enumerate() {
            let (input, output) = (row / to, row % to);
            for (tap, &value) in taps.iter().enumerate() {
                let (group, step) = (groups - 1 - tap / stride, tap % stride);
                matrix[((group * from + input) * stride + step) * to + output] = value;
            }
        }
        let bias = Some(weights.values("bias", &[to])?.repeat(stride));
        let before = before.values(from, 1)?;
        Ok(TapValues { weights: matrix, shape: [groups, from, stride * to], dilation: 1, bias, before })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time · stride, out]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let ConvShape { channels: [_, to], kernel, stride, .. } = self.shape;
        let [batch, time, _] = x.dims();
        let earlier = kernel.div_ceil(stride) - 1;
        let steps = time + earlier;
        let y = self.taps.forward(x, earlier, steps);
        y.reshape([batch, steps * stride, to]).narrow(1, self.left(), time * stride)
    }

    /// Input steps that the output steps `range` are made from.
    pub(crate) fn inputs(&self, range: Range<isize>) -> Range<isize> {
        let [stride, left, groups] = [self.shape.stride, self.left(), self.shape.kernel.div_ceil(self.shape.stride)]
            .map(|steps| isize::try_from(steps).expect("a kernel is short"));
        (range.start + left).div_euclid(stride) + 1 - groups..(range.end - 1 + left).div_euclid(stride) + 1
    }

    /// Output steps per input step.
    pub(crate) fn stride(&self) -> usize {
        self.shape.stride
    }

    /// As [`Conv::numbers`]. All taps of a step are gathered.
    pub(crate) fn numbers(&self) -> [usize; 2] {
        let ConvShape { channels: [from, to], kernel, stride, .. } = self.shape;
        [from * kernel.div_ceil(stride), to]
    }

    /// Output steps that are cut at the front; an odd one is cut here and not at the back.
    fn left(&self) -> usize {
        self.shape.kernel.saturating_sub(self.shape.stride).div_ceil(2)
    }
}

/// `weight` `[…, kernel]` with zeros up to `taps` taps.
fn widened(weight: Tensor<3>, taps: usize) -> Tensor<3> {
    let [rows, columns, kernel] = weight.dims();
    if kernel == taps {
        return weight;
    }
    let zeros = Tensor::zeros([rows, columns, taps - kernel], (&weight.device(), weight.dtype()));
    Tensor::cat(vec![weight, zeros], 2)
}

/// The weight that weight norm makes of a direction and a length per index of the first dimension, `g · v / ‖v‖`, in
/// whichever of its three spellings the checkpoint has it.
pub(crate) fn folded(weights: &Weights, shape: [usize; 3]) -> Result<Vec<f32>, LoadError> {
    let spellings =
        [("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")];
    let Some((length, direction)) = spellings.into_iter().find(|(_, direction)| weights.has(direction)) else {
        return weights.values("weight", &shape);
    };
    let lengths = weights.values(length, &[shape[0], 1, 1])?;
    let mut weight = weights.values(direction, &shape)?;
    for (row, length) in weight.chunks_exact_mut(shape[1] * shape[2]).zip(lengths) {
        let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let scale = (f64::from(length) / norm) as f32;
        for value in row {
            *value *= scale;
        }
    }
    Ok(weight)
}

/// `x` with its ends mirrored; an `x` too short for it is extended by zeros first, as in the reference.
fn reflect(x: Tensor<3>, left: usize, right: usize) -> Tensor<3> {
    if left + right == 0 {
        return x;
    }
    let time = x.dims()[1];
    let missing = (left.max(right) + 1).saturating_sub(time);
    let x = window(x, 0, time + missing);
    let last = time + missing - 1;
    let before = (left > 0).then(|| x.clone().narrow(1, 1, left).flip([1]));
    let after = (right > 0).then(|| x.clone().narrow(1, last - right, right).flip([1]));
    let padded = Tensor::cat(before.into_iter().chain([x]).chain(after).collect(), 1);
    if missing == 0 { padded } else { padded.narrow(1, 0, left + time + right) }
}
