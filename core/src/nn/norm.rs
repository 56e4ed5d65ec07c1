//! Normalisation over the last axis.

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor, module::layer_norm},
};

use super::held;
use crate::checkpoint::{LayerNormRows, LoadError, Weights};

/// `(x − mean) / √(variance + ε) · weight + bias`
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    epsilon: f64,
    /// A backend's own way.
    #[module(skip)]
    own: Option<LayerNormRows>,
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
            own: weights.layer_norm(),
        })
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let Some(own) = self.own else { return layer_norm(x, weight, Some(bias), self.epsilon) };
        let [batch, time, width] = x.dims();
        own(x.reshape([batch * time, width]), weight, bias, self.epsilon).reshape([batch, time, width])
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
