//! Normalisation over the last axis.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor, module::layer_norm},
};

use super::{as_type, held};
use crate::checkpoint::{Kernels, LoadError, Weights};

/// `(x − mean) / √(variance + ε) · weight + bias`
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    epsilon: f64,
    #[module(skip)]
    kernels: Option<Arc<dyn Kernels>>,
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
            kernels: weights.kernels(),
        })
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let Some(kernels) = &self.kernels else {
            // In 32 bits, whatever the stream has.
            let [weight, bias] = [weight, bias].map(|x| as_type(x, DType::F32));
            let dtype = x.dtype();
            return as_type(layer_norm(as_type(x, DType::F32), weight, Some(bias), self.epsilon), dtype);
        };
        let [batch, time, width] = x.dims();
        let rows = x.reshape([batch * time, width]);
        kernels.layer_norm(rows, weight, bias, self.epsilon).reshape([batch, time, width])
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
