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
pub(crate) use attention::masked;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use conv::folded;
pub(crate) use conv::{Conv, ConvShape, ConvTranspose};
pub use linear::{Linear, Matrix};
pub use norm::{LayerNorm, RmsNorm};
pub(crate) use taps::place;
pub(crate) use tiles::{Local, in_tiles, lengths, one_tile, reach};

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Int, Tensor},
};

use crate::checkpoint::{LoadError, Weights};

/// `tensor` as part of a module. Unlike `Param::from_tensor` it takes what was computed of another tensor, as all is in
/// training.
pub(crate) fn held<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), tensor)
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
