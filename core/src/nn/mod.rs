//! Layers that several models share. Each takes its tensors from [`Weights`] under the
//! names that PyTorch gives them.

mod activation;
mod attention;
mod conv;
mod linear;
mod norm;
mod taps;
mod tiles;

pub(crate) use activation::{Preceding, elu};
pub use attention::Attention;
pub(crate) use attention::{in_order, masked};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use conv::folded;
pub(crate) use conv::{Conv, ConvShape, ConvTranspose};
pub use linear::{Linear, Matrix};
pub use norm::{LayerNorm, RmsNorm};
pub(crate) use taps::place;
pub(crate) use tiles::{Local, in_tiles, largest, lengths, one_tile, reach};

use burn::{
    module::{Module, Param, ParamId},
    tensor::{DType, Int, Tensor},
};

use crate::checkpoint::{Kernels, LoadError, Weights};

/// `tensor` as part of a module. Unlike `Param::from_tensor` it takes what was computed of another tensor, as all is in
/// training.
pub(crate) fn held<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), tensor)
}

/// `x` in the type `dtype`; `x` itself if it is.
pub(crate) fn as_type<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// `a b` by the arithmetic of their type: every product of two activations goes through here.
pub(crate) fn matmul<const D: usize>(kernels: Option<&dyn Kernels>, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let Some(kernels) = kernels else { return a.matmul(b) };
    let [wide_a, wide_b]: [Tensor<4>; 2] = [&a, &b].map(|x| x.clone().unsqueeze());
    match kernels.matmul(&wide_a, &wide_b) {
        Some(product) => {
            let dims = product.dims();
            let shape: [usize; D] = std::array::from_fn(|axis| dims[axis + 4 - D]);
            product.reshape(shape)
        }
        None => a.matmul(b),
    }
}

/// Rows of a table, chosen by index.
#[derive(Module, Debug)]
pub struct Embedding {
    weight: Param<Tensor<2>>,
}

impl Embedding {
    /// Takes `weight` `[entries, width]`.
    ///
    /// # Errors
    /// [`LoadError`] if it is missing or of another shape.
    pub fn load(weights: &Weights, entries: usize, width: usize) -> Result<Self, LoadError> {
        Ok(Self { weight: held(weights.tensor("weight", [entries, width])?) })
    }

    /// # Shapes
    /// - `indices`: `[batch, time]`; result: `[batch, time, width]`
    pub fn forward(&self, indices: Tensor<2, Int>) -> Tensor<3> {
        burn::tensor::module::embedding(self.weight.val(), indices)
    }
}
