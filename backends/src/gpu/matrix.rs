//! Linear layers on a GPU: the few rows of a step of an autoregressive model, where kernels made for many leave most of a GPU
//! without work, by a kernel of our own; all else by Burn's. What a row becomes depends on whether it is one of a step, not on how
//! many there are.

use std::{any::Any, iter, sync::Arc};

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use tonoscope_core::checkpoint::{Act, Epilogue, Kernels, Limits, MatrixPacker, MatrixValues, PackedMatrix, Rows};

use super::{elementwise, kernels, kernels::After, own::GpuKernels, tiles};

/// Keeps matrices for products on a GPU.
#[derive(Debug)]
pub(super) struct GpuPacker {
    kernels: Arc<GpuKernels>,
    /// The type of the matrices.
    float: DType,
}

impl GpuPacker {
    pub(super) fn new(device: &Device, exact: bool) -> Self {
        Self { kernels: Arc::new(GpuKernels::new(device, exact)), float: device.settings().float_dtype.into() }
    }
}

impl MatrixPacker for GpuPacker {
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix> {
        let data = match values {
            MatrixValues::F32(values) => TensorData::new(values.into_owned(), shape),
            MatrixValues::F16(values) => TensorData::new(values.into_owned(), shape),
            MatrixValues::Bf16(values) => TensorData::new(values.into_owned(), shape),
        };
        let (device, float) = (self.kernels.device(), self.float);
        // CUDA pads some rows: in order once, not at every product.
        let weight = there(here(Tensor::<2>::from_data(data.convert_dtype(float), (device, float))));
        Arc::new(GpuMatrix { weight, kernels: Arc::clone(&self.kernels) })
    }

    fn wide(&self) -> Option<Arc<dyn MatrixPacker>> {
        Some(Arc::new(Self { kernels: Arc::clone(&self.kernels), float: DType::F32 }))
    }

    fn kernels(&self) -> Option<Arc<dyn Kernels>> {
        Some(Arc::clone(&self.kernels) as _)
    }

    fn limits(&self) -> Limits {
        self.kernels.limits()
    }
}

/// A matrix on a GPU.
#[derive(Debug)]
struct GpuMatrix {
    /// `[out, in]`
    weight: Tensor<2>,
    kernels: Arc<GpuKernels>,
}

impl GpuMatrix {
    /// This matrix and `others`.
    fn and<'a>(&'a self, others: &'a [&dyn PackedMatrix]) -> impl Iterator<Item = &'a Self> {
        let others = others.iter().map(|other| (*other as &dyn Any).downcast_ref());
        iter::once(Some(self)).chain(others).map(|matrix| matrix.expect("one backend packs all matrices of a model"))
    }

    /// Whether the kernel for few rows takes `x`.
    fn steps(&self, x: &Tensor<2>) -> bool {
        let [out, width] = self.weight.dims();
        let vectors = width.is_multiple_of(kernels::VECTOR) && (1..=kernels::MOST_CUBES).contains(&out);
        vectors && known(x) && x.dtype() == self.weight.dtype()
    }

    /// Whether the kernel for many rows takes `x`.
    fn tiled(&self, x: &Tensor<2>) -> bool {
        let wide = x.dtype() == DType::F32 && self.weight.dtype() == DType::F32;
        wide && known(x) && known(&self.weight) && tiles::fits(x.dims()[0], self.weight.dims()[0])
    }

    /// What the kernels take for `after`, without its activation.
    fn operands(&self, bias: Option<Tensor<1>>, residual: Option<Tensor<2>>) -> ([CubeTensor; 2], After) {
        let after = After { bias: bias.is_some(), gelu: false, silu: false, residual: residual.is_some() };
        let [no_bias, no_residual] = self.kernels.nothing(self.weight.dtype());
        ([bias.map_or(no_bias, here), residual.map_or(no_residual, here)], after)
    }
}

impl PackedMatrix for GpuMatrix {
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        if self.tiled(&x) {
            return self.finished(x, Rows::Positions, Epilogue::default());
        }
        let weight = self.weight.clone().transpose();
        match self.kernels.matmul(&x.clone().unsqueeze(), &weight.clone().unsqueeze()) {
            Some(product) => product.squeeze_dims(&[0, 1]),
            None => x.matmul(weight),
        }
    }

    fn product_of_steps(&self, x: Tensor<2>) -> Tensor<2> {
        self.finished(x, Rows::Steps, Epilogue::default())
    }

    fn finished(&self, x: Tensor<2>, rows: Rows, Epilogue { bias, act, residual }: Epilogue) -> Tensor<2> {
        let gated = act == Act::GatedSilu;
        let by_rows = rows == Rows::Steps && !gated && self.steps(&x);
        let nothing = bias.is_none() && act == Act::Identity && residual.is_none();
        let tiled = !by_rows && self.tiled(&x);
        if !by_rows && !tiled && nothing {
            return self.product(x);
        }
        let plain = |x: &Tensor<2>| known(x) && x.dtype() == self.weight.dtype();
        let fits = bias.as_ref().is_none_or(|bias| bias.dtype() == self.weight.dtype())
            && residual.as_ref().is_none_or(&plain)
            && (residual.is_none() || !gated);
        if !plain(&x) || !fits {
            let y = self.product(x);
            let y = bias.map_or_else(|| y.clone(), |bias| y.clone() + bias.unsqueeze());
            let y = match act {
                Act::Identity => y,
                Act::Gelu => burn::tensor::activation::gelu(y),
                Act::Silu => burn::tensor::activation::silu(y),
                Act::GatedSilu => tonoscope_core::checkpoint::gated_silu(y),
            };
            return residual
                .map_or_else(|| y.clone(), |residual| tonoscope_core::checkpoint::added(residual, y.clone()));
        }
        let all = residual.as_ref().map_or(x.dims()[0], |residual| residual.dims()[0]);
        let ([bias, residual], after) = self.operands(bias, residual);
        let after = After { gelu: act == Act::Gelu, silu: act == Act::Silu, ..after };
        there(if by_rows {
            kernels::product(here(x), here(self.weight.clone()), bias, residual, after)
        } else if tiled && !gated && tiles::fits(all, 1) {
            tiles::product(here(x), here(self.weight.clone()), bias, residual, after)
        } else if tiled {
            let [no_bias, no_residual] = self.kernels.nothing(DType::F32);
            let plain = After { bias: false, gelu: false, silu: false, residual: false };
            let y = tiles::product(here(x), here(self.weight.clone()), no_bias, no_residual, plain);
            elementwise::finish(y, bias, residual, after, gated)
        } else {
            elementwise::finish(here(self.product(x)), bias, residual, after, gated)
        })
    }

    fn kernels(&self) -> Option<&dyn Kernels> {
        Some(&*self.kernels)
    }

    fn joined(&self, others: &[&dyn PackedMatrix]) -> Option<Arc<dyn PackedMatrix>> {
        let weights = self.and(others).map(|matrix| matrix.weight.clone()).collect();
        let weight = there(here(Tensor::cat(weights, 0)));
        Some(Arc::new(Self { weight, kernels: Arc::clone(&self.kernels) }))
    }

    fn products(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        self.and(others).map(|matrix| matrix.product(x.clone())).collect()
    }

    fn products_of_steps(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        self.and(others).map(|matrix| matrix.product_of_steps(x.clone())).collect()
    }

    fn gelu(&self, y: Tensor<2>) -> Tensor<2> {
        if !known(&y) {
            return burn::tensor::activation::gelu(y);
        }
        let ([bias, residual], after) = self.operands(None, None);
        there(elementwise::finish(here(y), bias, residual, After { gelu: true, ..after }, false))
    }

    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        if known(&scores) {
            there(kernels::softmax(here(scores)))
        } else {
            burn::tensor::activation::softmax(scores, 1)
        }
    }
}

/// Whether the kernels know the type, and there is something to do.
pub(super) fn known<const D: usize>(x: &Tensor<D>) -> bool {
    x.dims().iter().all(|size| *size > 0) && knows(x.dtype())
}

/// Whether the kernels know the type.
pub(super) fn knows(dtype: DType) -> bool {
    kernels::element(dtype).is_some()
}

/// A tensor of a GPU, with its elements in order.
pub(super) fn here<const D: usize>(x: Tensor<D>) -> CubeTensor {
    into_contiguous(x.try_into_primitive::<CubeBackend>().unwrap_or_else(|error| {
        panic!("a matrix packed for a GPU was multiplied by a tensor that is elsewhere: {error:?}")
    }))
}

/// A tensor of a GPU as it lies.
pub(super) fn as_is<const D: usize>(x: Tensor<D>) -> CubeTensor {
    x.try_into_primitive::<CubeBackend>()
        .unwrap_or_else(|error| panic!("a tensor for a GPU's kernel is elsewhere: {error:?}"))
}

pub(super) fn there<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::<D>::from_primitive::<CubeBackend>(x)
}
