//! Matrices in the layout that the kernels read, in order, once per product.

use burn::tensor::bf16;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use tonoscope_core::checkpoint::MatrixValues;

use super::{
    int8,
    kernel::{self, BLOCK, Block, Element, WIDTH, Weights},
};

/// A matrix in panels of [`WIDTH`] outputs, whatever its weights are stored as.
pub(super) trait Panel: Send + Sync {
    /// The product with one panel; `x` is `[block, row]`, `y` `[row]`.
    fn product(&self, panel: usize, x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]);

    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// A matrix cut into panels of [`WIDTH`] outputs, each cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct Panels<E: Element> {
    /// `[panel, block]`
    blocks: Vec<Block<E>>,
    blocks_per_panel: usize,
}

impl<E: Element> Panels<E> {
    /// Panels of the blocks that `encode` makes.
    fn new(shape: [usize; 2], values: &MatrixValues<'_>, encode: impl Fn(Weights<f32>) -> Block<E> + Sync) -> Self {
        let (panels, blocks_per_panel) = (shape[0].div_ceil(WIDTH), shape[1].div_ceil(BLOCK));
        let at = |index| [index / blocks_per_panel * WIDTH, index % blocks_per_panel * BLOCK];
        let blocks = (0..panels * blocks_per_panel).into_par_iter();
        let blocks = blocks.map(|index| encode(transposed(shape, values, at(index)))).collect();
        Self { blocks, blocks_per_panel }
    }
}

impl Panels<f32> {
    pub(super) fn f32(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, |weights| Block { weights, scales: () })
    }

    /// `[panel, block]`
    pub(super) fn into_blocks(self) -> Vec<Block<f32>> {
        self.blocks
    }
}

impl Panels<i8> {
    pub(super) fn int8(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, |weights| int8::rounded(&weights))
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
        if overflow {
            return None;
        }
        Some(Self::new(shape, values, |weights| {
            let mut rounded = [[f16::ZERO; WIDTH]; BLOCK];
            rounded.as_flattened_mut().convert_from_f32_slice(weights.as_flattened());
            Block { weights: rounded, scales: () }
        }))
    }
}

impl<E: Element> Panel for Panels<E> {
    fn product(&self, panel: usize, x: &[[f32; BLOCK]], y: &mut [[f32; WIDTH]]) {
        kernel::panel(&self.blocks[panel * self.blocks_per_panel..][..self.blocks_per_panel], x, y);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

/// The block of a row-major matrix that starts at `from`.
fn transposed(shape: [usize; 2], values: &MatrixValues<'_>, from: [usize; 2]) -> Weights<f32> {
    fn gather<T: Copy>(shape: [usize; 2], values: &[T], from: [usize; 2], number: impl Fn(T) -> f32) -> Weights<f32> {
        let mut block = [[0.0; WIDTH]; BLOCK];
        for output in 0..WIDTH.min(shape[0] - from[0]) {
            let row = &values[(from[0] + output) * shape[1]..][..shape[1]];
            for (to, value) in block.iter_mut().zip(&row[from[1]..]) {
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
