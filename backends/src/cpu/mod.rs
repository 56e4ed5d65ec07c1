//! Linear layers on the CPU: matrices packed once, then read once per product, at the speed of memory.
//!
//! Burn's flex multiplies two rows by a matrix three times slower than one (0.22.1), and guidance always has two.
//! Weights are kept in 32, 16 or 8 bits; arithmetic is `f32` throughout.

mod kernel;
mod pack;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Float, Tensor, TensorData, bf16},
};
use half::f16;
use rayon::prelude::*;
use tonoscope_core::nn::{MatrixPacker, MatrixValues, PackedMatrix};

use self::{
    kernel::{BLOCK, WIDTH},
    pack::{Panel, Panels},
};
use crate::WeightFormat;

/// Rows that are multiplied in one pass over the matrix: what of them one block of inputs takes fits the first cache.
const ROWS: usize = 72;
/// Multiplications below which a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 17;

/// Packs matrices for products on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct CpuPacker {
    format: WeightFormat,
}

impl CpuPacker {
    /// Keeps weights in `format`.
    pub fn new(format: WeightFormat) -> Self {
        Self { format }
    }
}

impl MatrixPacker for CpuPacker {
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix> {
        Arc::new(CpuMatrix::new(self.format, shape, &values))
    }
}

/// A packed matrix.
struct CpuMatrix {
    /// `[out, in]`
    shape: [usize; 2],
    format: WeightFormat,
    panels: Box<dyn Panel>,
}

impl fmt::Debug for CpuMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, format, panels } = self;
        let bytes = panels.bytes();
        f.debug_struct("CpuMatrix").field("shape", shape).field("format", format).field("bytes", &bytes).finish()
    }
}

impl CpuMatrix {
    fn new(format: WeightFormat, shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        let full = || -> Box<dyn Panel> { Box::new(Panels::f32(shape, values)) };
        let panels = match format {
            WeightFormat::F32 => full(),
            WeightFormat::F16 => match Panels::f16(shape, values) {
                Some(panels) => Box::new(panels),
                None => full(),
            },
            WeightFormat::Int8 => Box::new(Panels::i8(shape, values)),
        };
        Self { shape, format, panels }
    }

    /// `x Wᵀ` for `x` `[rows, in]`, row-major.
    fn multiply<T: Copy + Sync>(&self, x: &[T], rows: usize, number: impl Fn(T) -> f32 + Copy + Sync) -> Vec<f32> {
        let [out, width] = self.shape;
        if rows <= ROWS {
            return self.pass(x, rows, number);
        }
        let mut y = Vec::with_capacity(rows * out);
        for x in x.chunks(ROWS * width) {
            y.extend(self.pass(x, x.len() / width, number));
        }
        y
    }

    /// [`Self::multiply`] in one pass over the matrix.
    fn pass<T: Copy>(&self, x: &[T], rows: usize, number: impl Fn(T) -> f32) -> Vec<f32> {
        let [out, width] = self.shape;
        if rows == 0 || out == 0 || width == 0 {
            return vec![0.0; rows * out];
        }
        let x = blocks(x, rows, width, number);
        let mut y = vec![[0.0; WIDTH]; out.div_ceil(WIDTH) * rows];
        let queue = Mutex::new(y.chunks_exact_mut(rows).enumerate());
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((panel, y)) = next else { break };
                self.panels.product(panel, &x, y);
            }
        };
        // This thread starts at once, others take panels from the moment they are awake.
        if rows * out * width < WORTH_A_THREAD {
            work();
        } else {
            rayon::in_place_scope(|scope| {
                for _ in 1..rayon::current_num_threads() {
                    scope.spawn(|_| work());
                }
                work();
            });
        }
        if rows == 1 {
            let mut y = y.into_flattened();
            y.truncate(out);
            return y;
        }
        let mut result = vec![0.0; rows * out];
        let copy = |(row, result): (usize, &mut [f32])| {
            for (result, y) in result.chunks_mut(WIDTH).zip(y.chunks_exact(rows)) {
                result.copy_from_slice(&y[row][..result.len()]);
            }
        };
        if rows * out < WORTH_A_THREAD {
            result.chunks_exact_mut(out).enumerate().for_each(copy);
        } else {
            result.par_chunks_exact_mut(out).enumerate().for_each(copy);
        }
        result
    }
}

/// `x` as `[block, row]`, filled up with zeros.
fn blocks<T: Copy>(x: &[T], rows: usize, width: usize, number: impl Fn(T) -> f32) -> Vec<[f32; BLOCK]> {
    let mut blocks = vec![[0.0; BLOCK]; width.div_ceil(BLOCK) * rows];
    for (row, x) in x.chunks_exact(width).enumerate() {
        for (block, x) in x.chunks(BLOCK).enumerate() {
            for (to, from) in blocks[block * rows + row].iter_mut().zip(x) {
                *to = number(*from);
            }
        }
    }
    blocks
}

impl PackedMatrix for CpuMatrix {
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let [out, expected] = self.shape;
        assert_eq!(width, expected, "rows of {width} numbers times a matrix {:?}", self.shape);
        let x = x.try_into_primitive::<Flex>().unwrap_or_else(|error| {
            panic!("a matrix packed for the CPU was multiplied by a tensor that is elsewhere: {error:?}")
        });
        let x = if x.is_contiguous() { x } else { x.to_contiguous() };
        let same = "a contiguous tensor of this type";
        let shape = [rows, out];
        let y = match x.dtype() {
            DType::F32 => {
                let y = self.multiply(x.as_slice().expect(same), rows, |value: f32| value);
                TensorData::new(y, shape)
            }
            DType::F16 => {
                let y = self.multiply(x.as_slice().expect(same), rows, f16::to_f32);
                TensorData::new(y.into_iter().map(f16::from_f32).collect(), shape)
            }
            DType::BF16 => {
                let y = self.multiply(x.as_slice().expect(same), rows, bf16::to_f32);
                TensorData::new(y.into_iter().map(bf16::from_f32).collect(), shape)
            }
            other => panic!("{other:?} activations on the CPU"),
        };
        Tensor::<2, Float>::from_primitive::<Flex>(FlexTensor::from_data(y))
    }
}

#[cfg(test)]
mod tests;
