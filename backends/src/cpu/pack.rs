//! Matrices in the layout that the kernels read, in order, once per product.

use burn::tensor::bf16;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use tonoscope_core::checkpoint::MatrixValues;

use super::{
    int4::Int4,
    int8::Int8,
    kernel::{self, BLOCK, Block, Exact, WIDTH},
    rows::Rows,
    whole::Whole,
};

/// A matrix in panels of [`WIDTH`] outputs, whatever its weights are stored as.
pub(super) trait Panel: Send + Sync {
    /// The product with one panel; `y` is `[row]`.
    fn product(&self, panel: usize, x: &Rows, y: &mut [[f32; WIDTH]]);

    /// Whether that reads [`Rows::rounded`].
    fn takes_rounded(&self) -> bool;

    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// Numbers of [`BLOCK`] inputs and [`WIDTH`] outputs, those of one input side by side.
type Weights = [[f32; WIDTH]; BLOCK];

/// A matrix cut into panels of [`WIDTH`] outputs, each cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct Panels<B: Block> {
    /// `[panel, block]`
    blocks: Vec<B>,
    blocks_per_panel: usize,
}

impl<B: Block> Panels<B> {
    /// Panels of the blocks that `encode` makes.
    fn new(shape: [usize; 2], values: &MatrixValues<'_>, encode: impl Fn(Weights) -> B + Sync) -> Self {
        let (panels, blocks_per_panel) = (shape[0].div_ceil(WIDTH), shape[1].div_ceil(BLOCK));
        let at = |index| [index / blocks_per_panel * WIDTH, index % blocks_per_panel * BLOCK];
        let blocks = (0..panels * blocks_per_panel).into_par_iter();
        let blocks = blocks.map(|index| encode(transposed(shape, values, at(index)))).collect();
        Self { blocks, blocks_per_panel }
    }
}

impl Panels<Exact<f32>> {
    pub(super) fn f32(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, Exact)
    }

    /// `[panel, block]`
    pub(super) fn into_blocks(self) -> Vec<Exact<f32>> {
        self.blocks
    }
}

impl Panels<Whole<Int8>> {
    pub(super) fn int8(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, |weights| Whole(Int8::new(&weights)))
    }
}

impl Panels<Whole<Int4>> {
    pub(super) fn int4(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, |weights| Whole(Int4::new(&weights)))
    }
}

impl Panels<Exact<f16>> {
    /// Of numbers that [fit](fits_f16).
    pub(super) fn f16(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self::new(shape, values, |weights| {
            let mut rounded = [[f16::ZERO; WIDTH]; BLOCK];
            rounded.as_flattened_mut().convert_from_f32_slice(weights.as_flattened());
            Exact(rounded)
        })
    }
}

/// Whether all numbers are finite in 16 bits.
pub(super) fn fits_f16(values: &MatrixValues<'_>) -> bool {
    // Half way from the largest number to the next: what is smaller is rounded to the largest.
    let fits = |value: f32| value.abs() < 65_520.0;
    match values {
        MatrixValues::F32(values) => values.par_iter().all(|value| fits(*value)),
        MatrixValues::Bf16(values) => values.par_iter().all(|value| fits(value.to_f32())),
        MatrixValues::F16(values) => values.par_iter().all(|value| value.is_finite()),
    }
}

impl<B: Block> Panel for Panels<B> {
    fn product(&self, panel: usize, x: &Rows, y: &mut [[f32; WIDTH]]) {
        kernel::panel(&self.blocks[panel * self.blocks_per_panel..][..self.blocks_per_panel], B::rows(x), y);
    }

    fn takes_rounded(&self) -> bool {
        B::ROUNDED
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

/// The block of a row-major matrix that starts at `from`.
fn transposed(shape: [usize; 2], values: &MatrixValues<'_>, from: [usize; 2]) -> Weights {
    fn gather<T: Copy>(shape: [usize; 2], values: &[T], from: [usize; 2], number: impl Fn(T) -> f32) -> Weights {
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
