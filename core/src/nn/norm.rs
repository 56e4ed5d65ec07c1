//! Normalisation over the last axis.

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor},
};

use super::held;
use crate::checkpoint::{LoadError, Weights};

/// `(x − mean) / √(variance + ε) · weight + bias`
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Takes `weight` and `bias`, both `[width]`.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing or of another shape.
    pub fn load(weights: &Weights, width: usize, epsilon: f64) -> Result<Self, LoadError> {
        Ok(Self {
            weight: held(weights.tensor("weight", [width])?),
            bias: held(weights.tensor("bias", [width])?),
            epsilon,
        })
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        burn::tensor::module::layer_norm(x, self.weight.val(), Some(self.bias.val()), self.epsilon)
    }
}

/// `x / √(mean(x²) + ε) · weight`, the mean taken in 32 bit.
#[derive(Module, Debug)]
pub struct RmsNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// Takes `weight` `[width]`.
    ///
    /// # Errors
    /// [`LoadError`] if it is missing or of another shape.
    pub fn load(weights: &Weights, width: usize, epsilon: f64) -> Result<Self, LoadError> {
        Ok(Self { weight: held(weights.tensor("weight", [width])?), epsilon })
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let wide = x.cast(DType::F32);
        let mean_square = (wide.clone() * wide.clone()).mean_dim(2);
        let normal = wide / (mean_square + self.epsilon).sqrt();
        normal.cast(dtype) * self.weight.val().unsqueeze()
    }
}
