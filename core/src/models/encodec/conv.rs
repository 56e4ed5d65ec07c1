//! Convolutions over `[batch, time, channel]`.
//!
//! The channel axis comes last, so that a convolution is a few products of the input, moved by a step or two, with one
//! matrix per tap, and a transposed one writes its samples in the order in which they are heard: nothing is rearranged.
//! Measured on Burn's flex, that is than its `conv1d` and `conv_transpose1d`.

use std::ops::Range;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData},
};

use crate::checkpoint::{LoadError, Weights};

/// Inputs narrower than this are gathered tap by tap, so that the product has a depth worth the name.
const NARROW: usize = 16;

/// Extents of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Channels of the input and of the output.
    pub(super) channels: [usize; 2],
    /// Taps.
    pub(super) kernel: usize,
    /// Input steps per output step, or output steps per input step if transposed.
    pub(super) stride: usize,
    /// Input steps between two taps.
    pub(super) dilation: usize,
}

/// `y[t] = Σⱼ x[t · stride + j · dilation − left] Wⱼ + b`, the ends of `x` reflected; `⌈time / stride⌉` steps.
#[derive(Module, Debug)]
pub(super) struct Conv {
    /// `[stride · in, out]` per group of `stride` taps, or `[kernel · in, out]` if gathered.
    taps: Vec<Param<Tensor<2>>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    shape: Shape,
}

impl Conv {
    /// Takes `conv.weight` `[out, in, kernel]`, in any spelling of weight norm, and `conv.bias` `[out]`.
    pub(super) fn load(weights: &Weights, shape: Shape) -> Result<Self, LoadError> {
        let weights = weights.sub("conv");
        let Shape { channels: [from, to], kernel, stride, .. } = shape;
        let weight = folded(&weights, [to, from, kernel])?;
        // Rows are taps, then input channels; missing taps of the last group stay zero.
        let rows = |taps: Range<usize>| {
            let mut matrix = vec![0.0; taps.len() * from * to];
            for (row, tap) in taps.enumerate().filter(|(_, tap)| *tap < kernel) {
                for (input, output) in (0..from).flat_map(|input| (0..to).map(move |output| (input, output))) {
                    matrix[(row * from + input) * to + output] = weight[(output * from + input) * kernel + tap];
                }
            }
            let height = matrix.len() / to;
            Param::from_tensor(place(&weights, matrix, [height, to]))
        };
        let taps = if Self::gathers(shape) {
            vec![rows(0..kernel)]
        } else {
            (0..kernel.div_ceil(stride)).map(|group| rows(group * stride..(group + 1) * stride)).collect()
        };
        Ok(Self { taps, bias: Param::from_tensor(weights.tensor("bias", [to])?), shape })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, ⌈time / stride⌉, out]`
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let Shape { channels: [from, _], kernel, stride, dilation } = self.shape;
        let [batch, time, _] = x.dims();
        let frames = time.div_ceil(stride);
        let [left, right] = self.padding();
        let x = reflect(x, left, right + frames * stride - time);
        if Self::gathers(self.shape) {
            let taps = (0..kernel).map(|tap| x.clone().narrow(1, tap * dilation, frames)).collect();
            return matmul(Tensor::cat(taps, 2), &self.taps[0]) + self.bias.val().unsqueeze();
        }
        let groups = self.taps.len();
        let x = zeros_after(x, groups * stride - kernel);
        let steps = x.dims()[1] / stride;
        let x = x.reshape([batch, steps, stride * from]);
        let at = |group: usize| matmul(x.clone().narrow(1, group * dilation, frames), &self.taps[group]);
        (1..groups).fold(at(0), |sum, group| sum + at(group)) + self.bias.val().unsqueeze()
    }

    /// Input steps that the output steps `range` are made from; beyond the ends where those are reflected.
    pub(super) fn inputs(&self, range: Range<isize>) -> Range<isize> {
        let [left, right] = self.padding().map(isize::try_from).map(|steps| steps.expect("a kernel is short"));
        let stride = isize::try_from(self.shape.stride).expect("a stride is short");
        range.start * stride - left..range.end * stride + right
    }

    /// Reflected steps before and after.
    fn padding(&self) -> [usize; 2] {
        let span = (self.shape.kernel - 1) * self.shape.dilation + 1;
        let total = span.saturating_sub(self.shape.stride);
        [total - total / 2, total / 2]
    }

    fn gathers(Shape { channels: [from, _], kernel, stride, .. }: Shape) -> bool {
        stride == 1 && kernel > 1 && from < NARROW
    }
}

/// `y[t · stride + r] = Σⱼ x[t − j] W[j · stride + r] + b`, then cut to `time · stride` steps.
#[derive(Module, Debug)]
pub(super) struct ConvTranspose {
    /// `[groups · in, stride · out]`: rows are groups of `stride` taps, the latest input first, then input channels;
    /// columns are the output steps of one input step, then output channels.
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    shape: Shape,
}

impl ConvTranspose {
    /// Takes `conv.weight` `[in, out, kernel]`, in any spelling of weight norm, and `conv.bias` `[out]`.
    pub(super) fn load(weights: &Weights, shape: Shape) -> Result<Self, LoadError> {
        let weights = weights.sub("conv");
        let Shape { channels: [from, to], kernel, stride, .. } = shape;
        let weight = folded(&weights, [from, to, kernel])?;
        let mut matrix = vec![0.0; kernel.div_ceil(stride) * from * stride * to];
        for (row, taps) in weight.chunks_exact(kernel).enumerate() {
            let (input, output) = (row / to, row % to);
            for (tap, &value) in taps.iter().enumerate() {
                let (group, step) = (tap / stride, tap % stride);
                matrix[((group * from + input) * stride + step) * to + output] = value;
            }
        }
        let extents = [kernel.div_ceil(stride) * from, stride * to];
        Ok(Self {
            weight: Param::from_tensor(place(&weights, matrix, extents)),
            bias: Param::from_tensor(weights.tensor("bias", [to])?),
            shape,
        })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time · stride, out]`
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let Shape { channels: [_, to], kernel, stride, .. } = self.shape;
        let [batch, time, _] = x.dims();
        let earlier = kernel.div_ceil(stride) - 1;
        let x = zeros_after(zeros_before(x, earlier), earlier);
        let steps = time + earlier;
        let groups = (0..=earlier).map(|group| x.clone().narrow(1, earlier - group, steps)).collect();
        let y = matmul(Tensor::cat(groups, 2), &self.weight).reshape([batch, steps * stride, to]);
        (y + self.bias.val().unsqueeze()).narrow(1, self.left(), time * stride)
    }

    /// Input steps that the output steps `range` are made from.
    pub(super) fn inputs(&self, range: Range<isize>) -> Range<isize> {
        let [stride, left, groups] = [self.shape.stride, self.left(), self.shape.kernel.div_ceil(self.shape.stride)]
            .map(|steps| isize::try_from(steps).expect("a kernel is short"));
        (range.start + left).div_euclid(stride) + 1 - groups..(range.end - 1 + left).div_euclid(stride) + 1
    }

    /// Output steps per input step.
    pub(super) fn stride(&self) -> usize {
        self.shape.stride
    }

    /// Output steps that are cut at the front; an odd one is cut here and not at the back.
    fn left(&self) -> usize {
        self.shape.kernel.saturating_sub(self.shape.stride).div_ceil(2)
    }
}

/// The weight that weight norm makes of a direction and a length per index of the first dimension, `g · v / ‖v‖`, in
/// whichever of its three spellings the checkpoint has it.
fn folded(weights: &Weights, shape: [usize; 3]) -> Result<Vec<f32>, LoadError> {
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

/// `values` on the device of `weights`, in its default float type.
pub(super) fn place<const D: usize>(weights: &Weights, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let device = weights.device();
    let float = device.settings().float_dtype.into();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), device)
}

fn matmul(x: Tensor<3>, matrix: &Param<Tensor<2>>) -> Tensor<3> {
    x.matmul(matrix.val().unsqueeze())
}

/// `x` with its ends mirrored; an `x` too short for it is extended by zeros first, as in the reference.
fn reflect(x: Tensor<3>, left: usize, right: usize) -> Tensor<3> {
    if left + right == 0 {
        return x;
    }
    let time = x.dims()[1];
    let missing = (left.max(right) + 1).saturating_sub(time);
    let x = zeros_after(x, missing);
    let last = time + missing - 1;
    let before = (left > 0).then(|| x.clone().narrow(1, 1, left).flip([1]));
    let after = (right > 0).then(|| x.clone().narrow(1, last - right, right).flip([1]));
    let padded = Tensor::cat(before.into_iter().chain([x]).chain(after).collect(), 1);
    if missing == 0 { padded } else { padded.narrow(1, 0, left + time + right) }
}

fn zeros_after(x: Tensor<3>, steps: usize) -> Tensor<3> {
    if steps == 0 { x } else { Tensor::cat(vec![x.clone(), zeros(&x, steps)], 1) }
}

fn zeros_before(x: Tensor<3>, steps: usize) -> Tensor<3> {
    if steps == 0 { x } else { Tensor::cat(vec![zeros(&x, steps), x], 1) }
}

/// `steps` steps of silence beside `x`.
fn zeros(x: &Tensor<3>, steps: usize) -> Tensor<3> {
    let [batch, _, width] = x.dims();
    Tensor::zeros([batch, steps, width], (&x.device(), x.dtype()))
}
