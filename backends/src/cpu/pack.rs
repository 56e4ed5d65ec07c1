//! Matrices in the layout that the kernels read, in order, once per product.

use burn::tensor::bf16;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use tonoscope_core::checkpoint::MatrixValues;

use super::{
    int8::Rounded,
    kernel::{self, BLOCK, Block, Element, WIDTH},
};

/// A matrix in panels of [`WIDTH`] outputs, whatever its weights are stored as.
pub(super) trait Panel: Send + Sync {
    /// Rows in the form that [`Self::product`] takes; `[block, row]`.
    fn activations(&self, x: Vec<[f32; BLOCK]>) -> Activations;

    /// The product with one panel; `y` is `[row]`.
    fn product(&self, panel: usize, x: &Activations, y: &mut [[f32; WIDTH]]);

    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// What a matrix is multiplied by, `[block, row]`.
pub(super) enum Activations {
    /// As it is.
    Float(Vec<[f32; BLOCK]>),
    /// In 16 bits.
    Rounded(Vec<Rounded>),
}

/// A matrix cut into panels of [`WIDTH`] outputs, each cut into blocks of [`BLOCK`] inputs, filled up with zeros.
pub(super) struct FloatPanels<E> {
    /// `[panel, block]`
    blocks: Vec<Block<E>>,
    blocks_per_panel: usize,
}

impl FloatPanels<f32> {
    pub(super) fn f32(shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        Self { blocks: for_each_block(shape, values, |block| block), blocks_per_panel: shape[1].div_ceil(BLOCK) }
    }
}

impl FloatPanels<f16> {
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
        let blocks = for_each_block(shape, values, |block| {
            let mut rounded = Block([[f16::ZERO; WIDTH]; BLOCK]);
            rounded.0.as_flattened_mut().convert_from_f32_slice(block.0.as_flattened());
            rounded
        });
        Some(Self { blocks, blocks_per_panel: shape[1].div_ceil(BLOCK) })
    }
}

impl<E: Element> Panel for FloatPanels<E> {
    fn activations(&self, x: Vec<[f32; BLOCK]>) -> Activations {
        Activations::Float(x)
    }

    fn product(&self, panel: usize, x: &Activations, y: &mut [[f32; WIDTH]]) {
        let Activations::Float(x) = x else { unreachable!("made by `activations`") };
        kernel::panel(&self.blocks[panel * self.blocks_per_panel..][..self.blocks_per_panel], x, y);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

/// The blocks of a row-major matrix, encoded; `[panel, block]`.
pub(super) fn for_each_block<B: Send>(
    shape: [usize; 2],
    values: &MatrixValues<'_>,
    encode: impl Fn(Block<f32>) -> B + Sync,
) -> Vec<B> {
    let (panels, blocks_per_panel) = (shape[0].div_ceil(WIDTH), shape[1].div_ceil(BLOCK));
    let at = |index| [index / blocks_per_panel * WIDTH, index % blocks_per_panel * BLOCK];
    let blocks = (0..panels * blocks_per_panel).into_par_iter();
    blocks.map(|index| encode(transposed(shape, values, at(index)))).collect()
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
