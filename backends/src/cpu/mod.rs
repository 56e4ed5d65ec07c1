//! Linear layers on the CPU: matrices packed once, then read once per product, at the speed of memory.
//!
//! Burn's flex multiplies two rows by a matrix three times slower than one (0.22.1), and guidance always has two.
//! Weights are kept in 32, 16, 8 or 4 bits; arithmetic is `f32`, with 8 and 4 bits in whole numbers. Convolutions are always of 32 bits.

mod activations;
mod crew;
mod int4;
mod int8;
mod kernel;
mod pack;
mod product;
mod rows;
mod softmax;
mod taps;
mod whole;

use std::{any::Any, fmt, iter, sync::Arc};

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Element, Float, Tensor, TensorData, bf16},
};
use half::f16;
use tonoscope_core::checkpoint::{MatrixPacker, MatrixValues, PackedMatrix, PackedTaps, TapValues, gated_silu};

pub use self::crew::{Crew, Member};
use self::{
    crew::Rest,
    pack::{Panel, Panels},
    taps::CpuTaps,
};
use crate::WeightFormat;

/// Packs matrices for products on the CPU.
#[derive(Debug, Clone)]
pub struct CpuPacker {
    format: WeightFormat,
    crew: Option<Arc<dyn Crew>>,
}

impl CpuPacker {
    /// Keeps weights in `format`.
    #[must_use]
    pub fn new(format: WeightFormat) -> Self {
        Self { format, crew: None }
    }

    /// Divides large matrices among `crew` and itself; no bit of a product depends on it.
    #[must_use]
    pub fn with_crew(self, crew: Arc<dyn Crew>) -> Self {
        Self { crew: Some(crew), ..self }
    }
}

impl MatrixPacker for CpuPacker {
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix> {
        let format = match self.format {
            WeightFormat::F16 if !pack::fits_f16(&values) => WeightFormat::F32,
            format => format,
        };
        let given = self.crew.as_ref().and_then(|crew| Rest::new(crew, format, shape, &values));
        let Some((own, rest)) = given else { return Arc::new(CpuMatrix::new(format, shape, &values)) };
        Arc::new(CpuMatrix { rest: Some(rest), shape, ..CpuMatrix::new(format, [own, shape[1]], &values) })
    }

    fn pack_taps(&self, taps: &TapValues) -> Option<Arc<dyn PackedTaps>> {
        Some(Arc::new(CpuTaps::new(taps.clone())))
    }
}

/// A packed matrix.
struct CpuMatrix {
    /// `[out, in]`
    shape: [usize; 2],
    format: WeightFormat,
    /// Of the first outputs.
    panels: Arc<dyn Panel>,
    /// How many those are.
    own: usize,
    rest: Option<Rest>,
}

impl fmt::Debug for CpuMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, format, panels, .. } = self;
        let bytes = panels.bytes();
        let fields = &mut f.debug_struct("CpuMatrix");
        fields.field("shape", shape).field("format", format).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl CpuMatrix {
    fn new(format: WeightFormat, shape: [usize; 2], values: &MatrixValues<'_>) -> Self {
        let panels: Arc<dyn Panel> = match format {
            WeightFormat::F32 => Arc::new(Panels::f32(shape, values)),
            WeightFormat::F16 => Arc::new(Panels::f16(shape, values)),
            WeightFormat::Int8 => Arc::new(Panels::int8(shape, values)),
            WeightFormat::Int4 => Arc::new(Panels::int4(shape, values)),
        };
        Self { shape, format, panels, own: shape[0], rest: None }
    }

    /// `x Wᵀ` of every one of `matrices`, which are of one width.
    fn multiply(matrices: &[&Self], x: Tensor<2>) -> Vec<Tensor<2>> {
        let [rows, width] = x.dims();
        for Self { shape, .. } in matrices {
            assert_eq!(width, shape[1], "rows of {width} numbers times a matrix {shape:?}");
        }
        let x = here(x);
        let same = "a contiguous tensor of this type";
        match x.dtype() {
            DType::F32 => Self::multiplied(matrices, x.as_slice().expect(same), rows, |x: f32| x, |y| y),
            DType::F16 => {
                Self::multiplied(matrices, x.as_slice().expect(same), rows, f16::to_f32, narrowed(f16::from_f32))
            }
            DType::BF16 => {
                Self::multiplied(matrices, x.as_slice().expect(same), rows, bf16::to_f32, narrowed(bf16::from_f32))
            }
            other => panic!("{other:?} activations on the CPU"),
        }
    }

    /// [`Self::multiply`] for one type of element.
    fn multiplied<T: Element>(
        matrices: &[&Self],
        x: &[T],
        rows: usize,
        number: impl Fn(T) -> f32,
        element: impl Fn(Vec<f32>) -> Vec<T>,
    ) -> Vec<Tensor<2>> {
        let products = if let Some(crew) = crew::of(matrices) {
            let x: Vec<_> = x.iter().map(|x| number(*x)).collect();
            crew::multiply(&*crew, matrices, &x, rows)
        } else {
            let width = matrices.first().map_or(0, |matrix| matrix.shape[1]);
            let factors: Vec<_> = matrices.iter().map(|matrix| (&matrix.panels, matrix.own)).collect();
            product::multiply(&factors, width, x, rows, number)
        };
        let tensor = |(y, matrix): (Vec<f32>, &&Self)| {
            let y = TensorData::new(element(y), [rows, matrix.shape[0]]);
            Tensor::<2, Float>::from_primitive::<Flex>(FlexTensor::from_data(y))
        };
        products.into_iter().zip(matrices).map(tensor).collect()
    }
}

/// Numbers as those of a smaller type.
fn narrowed<T>(element: fn(f32) -> T) -> impl Fn(Vec<f32>) -> Vec<T> {
    move |y| y.into_iter().map(element).collect()
}

impl PackedMatrix for CpuMatrix {
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        Self::multiply(&[self], x).remove(0)
    }

    fn products(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        let others = others.iter().map(|other| (*other as &dyn Any).downcast_ref());
        let matrices: Option<Vec<&Self>> = iter::once(Some(self)).chain(others).collect();
        Self::multiply(&matrices.expect("one backend packs all matrices of a model"), x)
    }

    fn gelu(&self, y: Tensor<2>) -> Tensor<2> {
        if y.dtype() != DType::F32 {
            return burn::tensor::activation::gelu(y);
        }
        let mut y = here(y);
        activations::gelu(y.storage_mut());
        Tensor::<2, Float>::from_primitive::<Flex>(y)
    }

    fn gated_silu(&self, y: Tensor<2>) -> Tensor<2> {
        if y.dtype() != DType::F32 {
            return gated_silu(y);
        }
        let [rows, width] = y.dims();
        let gated = activations::gated_silu(here(y).as_slice().expect("a contiguous tensor of this type"), width);
        let y = FlexTensor::from_data(TensorData::new(gated, [rows, width / 2]));
        Tensor::<2, Float>::from_primitive::<Flex>(y)
    }

    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        if scores.dtype() != DType::F32 {
            let dtype = scores.dtype();
            return self.softmax(scores.cast(DType::F32)).cast(dtype);
        }
        let width = scores.dims()[1];
        let mut scores = here(scores);
        let (start, end) = scores.layout().contiguous_offsets().expect("a contiguous tensor");
        softmax::softmax(&mut scores.storage_mut()[start..end], width);
        Tensor::<2, Float>::from_primitive::<Flex>(scores)
    }
}

/// A tensor of the CPU, with its elements in order.
fn here(x: Tensor<2>) -> FlexTensor {
    let x = x.try_into_primitive::<Flex>().unwrap_or_else(|error| {
        panic!("a matrix packed for the CPU was multiplied by a tensor that is elsewhere: {error:?}")
    });
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

#[cfg(test)]
mod tests;
