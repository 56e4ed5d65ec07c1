//! Matrices in the layout that the kernel reads, in order, once per product.

use burn::tensor::bf16;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use tonoscope_core::nn::MatrixValues;

use super::kernel::{self, BLOCK, Block, Element, WIDTH};

/// A matrix cut into panels of [`WIDTH`] outputs, each cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct Panels<E> {
    /// `[panel, block]`
    blocks: Vec<Block<E>>,
    /// What each block's weights are multiplied by, `[panel, block]`; empty: one.
    scales: Vec<[f32; WIDTH]>,
    blocks_per_panel: usize,
}

/// A [`Panels`], whatever its weights are stored as.
pub(super) trait Panel: Send + Sync {
    /// The product with one panel; shapes as in [`kernel::panel`].
    fn product(&self, panel: usize, x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]);

    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

impl<E: Element> Panel for Panels<E> {
    fn product(&self, panel: usize, x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]) {
        let range = panel * self.blocks_per_panel..(panel + 1) * self.blocks_per_panel;
        let scales = if self.scales.is_empty() { &[] } else { &self.scales[range.clone()] };
        kernel::panel(&self.blocks[range], scales, x, y);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.blocks) + size_of_val(&*self.scales)
    }
}

impl Panels<f32> {
    pub(super) fn f32(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        pack(shape, values, |_, block| block.clone(), false)
    }
}

impl Panels<f16> {
    /// `None` if a number is too large for 16 bits.
    pub(super) fn f16(shape: [usize; 2], values: &MatrixValues<'_>) -> Option<Self> {
        // Half way from the largest number to the next: what is smaller is rounded to the largest.
        let too_large = |value: f32| value.is_finite() && value.abs() >= 65_520.0;
        let overflow = match values {
            MatrixValues::F32(values) => values.par_iter().any(|value| too_large(*value)),
            MatrixValues::Bf16(values) => values.par_iter().any(|value| too_large(value.to_f32())),
            MatrixValues::F16(_) => false,
        };
        let round = |_: &mut [f32; WIDTH], block: &Block<f32>| {
            let mut rounded = Block([[f16::ZERO; WIDTH]; BLOCK]);
            rounded.0.as_flattened_mut().convert_from_f32_slice(block.0.as_flattened());
            rounded
        };
        (!overflow).then(|| pack(shape, values, round, false))
    }
}

impl Panels<i8> {
    /// The largest weight of a block and output becomes ±127.
    pub(super) fn i8(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        let quantize = |scale: &mut [f32; WIDTH], block: &Block<f32>| {
            for row in &block.0 {
                for (scale, weight) in scale.iter_mut().zip(row) {
                    // Not `max`: a weight that is no number must stay visible in the result.
                    if weight.is_nan() || weight.abs() > *scale {
                        *scale = weight.abs();
                    }
                }
            }
            let mut quantized = Block([[0; WIDTH]; BLOCK]);
            let factor = scale.map(|largest| if largest > 0.0 { 127.0 / largest } else { 0.0 });
            for (to, from) in quantized.0.iter_mut().zip(&block.0) {
                for ((to, from), factor) in to.iter_mut().zip(from).zip(&factor) {
                    *to = (from * factor).round() as i8;
                }
            }
            for scale in scale {
                *scale /= 127.0;
            }
            quantized
        };
        pack(shape, values, quantize, true)
    }
}

fn pack<E: Element>(
    shape: [usize; 2],
    values: &MatrixValues<'_>,
    encode: impl Fn(&mut [f32; WIDTH], &Block<f32>) -> Block<E> + Sync,
    scaled: bool,
) -> Panels<E> {
    let (panels, blocks_per_panel) = (shape[0].div_ceil(WIDTH), shape[1].div_ceil(BLOCK));
    let mut scales = vec![[0.0; WIDTH]; panels * blocks_per_panel];
    let blocks = scales
        .par_iter_mut()
        .enumerate()
        .map(|(index, scale)| {
            let from = [index / blocks_per_panel * WIDTH, index % blocks_per_panel * BLOCK];
            encode(scale, &transposed(shape, values, from))
        })
        .collect();
    if !scaled {
        scales.clear();
    }
    Panels { blocks, scales, blocks_per_panel }
}

/// The block of a row-major matrix that starts at `from`.
fn transposed(shape: [usize; 2], values: &MatrixValues<'_>, from: [usize; 2]) -> Block<f32> {
    fn gather<T: Copy>(shape: [usize; 2], values: &[T], from: [usize; 2], number: impl Fn(T) -> f32) -> Block<f32> {
        let mut block = Block([[0.0; WIDTH]; BLOCK]);
        for output in 0..WIDTH.min(shape[0] - from[0]) {
            let row = &values[(from[0] + output) * shape[1]..][..shape[1]];
            for (to, value) in block.0.iter_mut().zip(&row[from[1]..]) {
                to[output] = number(*value);
            }
        }
        block
    }
    match values {
        MatrixValues::F32(values) => gather(shape, values, from, |value| value),
        MatrixValues::F16(values) => gather(shape, values, from, f16::to_f32),
        MatrixValues::Bf16(values) => gather(shape, values, from, bf16::to_f32),
    }
}
