//! Convolutions on the CPU: taps packed like matrices, the input copied once into the layout that the kernels read, with the
//! activation before the convolution computed on the way.
//!
//! In that layout a tap is a shift, so that nothing is gathered. A sum runs over taps and inputs in one order, whatever
//! stretch of the signal is computed: tiles of a long signal are the whole, bit for bit.

use std::{fmt, ops::Range};

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Float, Tensor, TensorData},
};
use rayon::prelude::*;
use tonoscope_core::checkpoint::{Before, Ends, MatrixValues, PackedTaps, TapValues};

use super::{
    activations,
    kernel::{self, BLOCK, Exact, WIDTH},
    pack::Panels,
};

/// Output steps that are computed in one pass over the taps of a panel: what of them one block of inputs takes fits the
/// first cache.
const STEPS: usize = 72;
/// Numbers of the input that a thread copies before it multiplies: they fit the second cache.
const COPIED: usize = 1 << 15;

/// A packed convolution.
pub(super) struct CpuTaps {
    /// Taps, channels of the input, channels of the output.
    shape: [usize; 3],
    dilation: usize,
    /// `[panel, tap, block]`
    weights: Vec<Exact<f32>>,
    /// `[panel]`
    bias: Vec<[f32; WIDTH]>,
    before: Activation,
}

/// What the input passes before it is multiplied.
enum Activation {
    None,
    Elu,
    Snake(Snake),
}

/// `x + height · sin²(π · turns · x)`, in blocks of channels, filled up with zeros.
struct Snake {
    turns: Vec<[f32; BLOCK]>,
    height: Vec<[f32; BLOCK]>,
}

impl fmt::Debug for CpuTaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, dilation, .. } = self;
        let mut shown = f.debug_struct("CpuTaps");
        shown.field("shape", shape).field("dilation", dilation).finish_non_exhaustive()
    }
}

impl CpuTaps {
    pub(super) fn new(values: TapValues) -> Self {
        let [taps, width, out] = values.shape;
        let padded = width.next_multiple_of(BLOCK);
        // Row-major `[out, tap · in]`, each tap filled up to whole blocks.
        let mut matrix = vec![0.0; out * taps * padded];
        for (row, weights) in values.weights.chunks_exact(out).enumerate() {
            let column = row / width * padded + row % width;
            for (output, &weight) in weights.iter().enumerate() {
                matrix[output * taps * padded + column] = weight;
            }
        }
        let weights = Panels::f32([out, taps * padded], &MatrixValues::F32(matrix.into())).into_blocks();
        let bias = blocks(&values.bias.unwrap_or_else(|| vec![0.0; out]));
        let before = match values.before {
            Before::Nothing => Activation::None,
            Before::Elu => Activation::Elu,
            Before::Snake(snake) => {
                let turns = |value: &f32| (f64::from(*value) / std::f64::consts::PI) as f32;
                let turns: Vec<f32> = snake.frequency.iter().map(turns).collect();
                Activation::Snake(Snake { turns: blocks(&turns), height: blocks(&snake.height) })
            }
        };
        Self { shape: values.shape, dilation: values.dilation, weights, bias, before }
    }

    /// `x` is `[batch, time, in]`; the result is `[batch, steps, out]`.
    pub(super) fn convolve(
        &self,
        x: &[f32],
        [batch, time]: [usize; 2],
        left: usize,
        steps: usize,
        ends: Ends,
    ) -> Vec<f32> {
        let [_, width, out] = self.shape;
        let mut y = vec![0.0; batch * steps * out];
        if y.is_empty() {
            return y;
        }
        let at_once = (COPIED / width / STEPS).clamp(1, 8) * STEPS;
        // Half a second's tiles are few at the coarse end of a decoder: there must be work for every thread.
        let at_once = at_once.min((batch * steps).div_ceil(2 * rayon::current_num_threads()).next_multiple_of(6));
        let rows = y.par_chunks_mut(steps * out).zip(x.par_chunks(time * width));
        rows.for_each(|(y, x)| {
            y.par_chunks_mut(at_once * out).enumerate().for_each_init(Vec::new, |copied, (part, y)| {
                self.part(&Input { x, time, left, ends }, part * at_once, copied, y);
            });
        });
        y
    }

    /// The output steps from `first`; `copied` is memory to be used.
    fn part(&self, input: &Input<'_>, first: usize, copied: &mut Vec<[f32; BLOCK]>, y: &mut [f32]) {
        let [taps, width, out] = self.shape;
        let steps = y.len() / out;
        let span = steps + (taps - 1) * self.dilation;
        self.copy(input, first, span, copied);
        let blocks = width.div_ceil(BLOCK);
        let mut sums = [[0.0; WIDTH]; STEPS];
        for (panel, bias) in self.bias.iter().enumerate() {
            let weights = &self.weights[panel * taps * blocks..][..taps * blocks];
            for start in (0..steps).step_by(STEPS) {
                let sums = &mut sums[..STEPS.min(steps - start)];
                sums.fill(*bias);
                kernel::add_taps(weights, copied, Shifts { span, start, dilation: self.dilation, blocks }, sums);
                for (to, from) in y[start * out..].chunks_exact_mut(out).zip(sums.iter()) {
                    let to = &mut to[panel * WIDTH..];
                    let outputs = WIDTH.min(to.len());
                    to[..outputs].copy_from_slice(&from[..outputs]);
                }
            }
        }
    }

    /// `span` steps of the input from `left` before `first`, as `[block, step]`.
    fn copy(&self, input: &Input<'_>, first: usize, span: usize, copied: &mut Vec<[f32; BLOCK]>) {
        let &Input { x, time, left, ends } = input;
        let width = self.shape[1];
        copied.clear();
        copied.resize(width.div_ceil(BLOCK) * span, [0.0; BLOCK]);
        let inside: Range<usize> = left.saturating_sub(first).min(span)..(time + left).saturating_sub(first).min(span);
        for (block, copied) in copied.chunks_exact_mut(span).enumerate() {
            let channels = block * BLOCK..((block + 1) * BLOCK).min(width);
            let mut copy = |step: usize, from: usize| {
                let from = from * width;
                copied[step][..channels.len()].copy_from_slice(&x[from + channels.start..from + channels.end]);
            };
            for step in inside.clone() {
                copy(step, first + step - left);
            }
            if ends == Ends::Reflected {
                (0..inside.start).for_each(|step| copy(step, left - first - step));
                (inside.end..span).for_each(|step| copy(step, 2 * (time - 1) + left - first - step));
            }
            // Zero stays zero in each of them: the ends may be left out.
            let copied = if ends == Ends::Zero { &mut copied[inside.clone()] } else { copied };
            match &self.before {
                Activation::None => {}
                Activation::Elu => activations::elu(copied),
                Activation::Snake(snake) => activations::snake(&snake.turns[block], &snake.height[block], copied),
            }
        }
    }
}

/// What is convolved.
struct Input<'a> {
    /// `[time, in]`
    x: &'a [f32],
    time: usize,
    /// Steps from the first tap of the first step to `x`.
    left: usize,
    ends: Ends,
}

/// Where the steps of a tap lie in `[block, step]`.
#[derive(Clone, Copy)]
pub(super) struct Shifts {
    /// Steps per block.
    pub(super) span: usize,
    /// The first tap of the first output step.
    pub(super) start: usize,
    /// Steps between two taps.
    pub(super) dilation: usize,
    /// Blocks of inputs.
    pub(super) blocks: usize,
}

/// `values` in blocks, filled up with zeros.
fn blocks<const N: usize>(values: &[f32]) -> Vec<[f32; N]> {
    let block = |values: &[f32]| {
        let mut block = [0.0; N];
        block[..values.len()].copy_from_slice(values);
        block
    };
    values.chunks(N).map(block).collect()
}

impl PackedTaps for CpuTaps {
    fn forward(&self, x: Tensor<3>, left: usize, steps: usize, ends: Ends) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        assert_eq!(width, self.shape[1], "{width} channels into a convolution {:?}", self.shape);
        let dtype = x.dtype();
        // Halves are few here, and are not computed with: they are widened before and rounded after.
        let x = x.cast(DType::F32).try_into_primitive::<Flex>().unwrap_or_else(|error| {
            panic!("a convolution packed for the CPU was given a tensor that is elsewhere: {error:?}")
        });
        let x = if x.is_contiguous() { x } else { x.to_contiguous() };
        let x = x.as_slice().expect("a contiguous tensor of this type");
        let y = self.convolve(x, [batch, time], left, steps, ends);
        let y = FlexTensor::from_data(TensorData::new(y, [batch, steps, self.shape[2]]));
        Tensor::<3, Float>::from_primitive::<Flex>(y).cast(dtype)
    }
}
