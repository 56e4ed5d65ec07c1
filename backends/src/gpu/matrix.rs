//! Linear layers on a GPU: the few rows of a step of an autoregressive model, where kernels made for many leave most of a GPU
//! without work, by a kernel of our own; all else by Burn's. What a row becomes depends on whether it is one of a step, not on how
//! many there are.

use std::{any::Any, iter, sync::Arc};

use burn::tensor::{Device, Float, Tensor, TensorData};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use tonoscope_core::checkpoint::{LayerNormRows, MatrixPacker, MatrixValues, PackedMatrix};

use super::kernels;

/// Keeps matrices for products on a GPU.
#[derive(Debug)]
pub(super) struct GpuPacker {
    pub(super) device: Device,
}

impl MatrixPacker for GpuPacker {
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix> {
        let data = match values {
            MatrixValues::F32(values) => TensorData::new(values.into_owned(), shape),
            MatrixValues::F16(values) => TensorData::new(values.into_owned(), shape),
            MatrixValues::Bf16(values) => TensorData::new(values.into_owned(), shape),
        };
        let float = self.device.settings().float_dtype.into();
        // CUDA pads some rows: in order once, not at every product.
        Arc::new(GpuMatrix { weight: there(here(Tensor::<2>::from_data(data.convert_dtype(float), &self.device))) })
    }

    fn layer_norm(&self) -> Option<LayerNormRows> {
        Some(layer_norm)
    }
}

/// A matrix on a GPU.
#[derive(Debug)]
struct GpuMatrix {
    /// `[out, in]`
    weight: Tensor<2>,
}

impl GpuMatrix {
    /// This matrix and `others`.
    fn and<'a>(&'a self, others: &'a [&dyn PackedMatrix]) -> impl Iterator<Item = &'a Self> {
        let others = others.iter().map(|other| (*other as &dyn Any).downcast_ref());
        iter::once(Some(self)).chain(others).map(|matrix| matrix.expect("one backend packs all matrices of a model"))
    }
}

impl PackedMatrix for GpuMatrix {
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone().transpose())
    }

    fn product_of_steps(&self, x: Tensor<2>) -> Tensor<2> {
        let [out, width] = self.weight.dims();
        let vectors = width.is_multiple_of(kernels::VECTOR) && (1..=kernels::MOST_CUBES).contains(&out);
        if !vectors || !known(&x) || x.dtype() != self.weight.dtype() {
            return self.product(x);
        }
        there(kernels::product(here(x), here(self.weight.clone())))
    }

    fn products(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        self.and(others).map(|matrix| matrix.product(x.clone())).collect()
    }

    fn products_of_steps(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        self.and(others).map(|matrix| matrix.product_of_steps(x.clone())).collect()
    }

    fn gelu(&self, y: Tensor<2>) -> Tensor<2> {
        if known(&y) { there(kernels::gelu(here(y))) } else { burn::tensor::activation::gelu(y) }
    }

    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        if known(&scores) {
            there(kernels::softmax(here(scores)))
        } else {
            burn::tensor::activation::softmax(scores, 1)
        }
    }
}

/// `(x − mean) / √(variance + ε) · weight + bias` of the rows of `x` `[rows, width]`.
fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !known(&x) || weight.dtype() != x.dtype() || bias.dtype() != x.dtype() {
        return burn::tensor::module::layer_norm(x, weight, Some(bias), epsilon);
    }
    there(kernels::layer_norm(here(x), here(weight), here(bias), epsilon))
}

/// Whether the kernels know the type, and there is something to do.
fn known(x: &Tensor<2>) -> bool {
    x.dims().iter().all(|size| *size > 0) && kernels::element(x.dtype()).is_some()
}

/// A tensor of a GPU, with its elements in order.
fn here<const D: usize>(x: Tensor<D>) -> CubeTensor {
    into_contiguous(x.try_into_primitive::<CubeBackend>().unwrap_or_else(|error| {
        panic!("a matrix packed for a GPU was multiplied by a tensor that is elsewhere: {error:?}")
    }))
}

fn there(x: CubeTensor) -> Tensor<2> {
    Tensor::<2, Float>::from_primitive::<CubeBackend>(x)
}
