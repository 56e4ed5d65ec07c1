//! Layers that several models share. Each takes its tensors from [`Weights`] under the
//! names that PyTorch gives them.

mod attention;
mod conv;
mod linear;
mod norm;
mod taps;
mod tiles;

pub use attention::Attention;
pub(crate) use attention::masked;
pub(crate) use conv::{Conv, ConvShape, ConvTranspose};
pub use linear::{Linear, Matrix};
pub use norm::{LayerNorm, RmsNorm};
pub(crate) use taps::{elu, place};
pub(crate) use tiles::{Local, in_tiles, lengths, one_tile, reach};

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};

use crate::checkpoint::{LoadError, Weights};

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
        Ok(Self { weight: Param::from_tensor(weights.tensor("weight", [entries, width])?) })
    }

    /// # Shapes
    /// - `indices`: `[batch, time]`; result: `[batch, time, width]`
    pub fn forward(&self, indices: Tensor<2, Int>) -> Tensor<3> {
        burn::tensor::module::embedding(self.weight.val(), indices)
    }
}
