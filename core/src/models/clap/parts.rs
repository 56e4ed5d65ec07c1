//! Small layers that both towers or their ends need.

use burn::tensor::{Tensor, activation::relu};

use super::config::HiddenAct;
use crate::{
    checkpoint::{Act, LoadError, Rows, Weights},
    nn::Linear,
};

/// What PyTorch's norms add to the variance unless told otherwise.
pub(super) const PYTORCH_EPSILON: f64 = 1e-5;

/// A layer and the non-linearity after it.
pub(super) fn activated(layer: &Linear, act: HiddenAct, x: Tensor<3>, rows: Rows) -> Tensor<3> {
    match act {
        HiddenAct::Gelu => layer.forward_act(x, rows, Act::Gelu),
        HiddenAct::Relu => relu(layer.forward_rows(x, rows)),
    }
}

/// `linear2(act(linear1(x)))`: from the width of a tower to the space of both.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    linear1: Linear,
    linear2: Linear,
    act: HiddenAct,
}

impl Projection {
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape.
    pub(super) fn load(weights: &Weights, from: usize, to: usize, act: HiddenAct) -> Result<Self, LoadError> {
        Ok(Self {
            linear1: Linear::load(&weights.sub("linear1"), from, to, true)?,
            linear2: Linear::load(&weights.sub("linear2"), to, to, true)?,
            act,
        })
    }

    /// `[row, width]` → `[row, projection_dim]`
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = activated(&self.linear1, self.act, x.unsqueeze_dim(1), Rows::Steps);
        self.linear2.forward_rows(hidden, Rows::Steps).squeeze_dim(1)
    }
}

/// `x · scale + shift`: what a batch norm is when it does not learn.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    scale: Tensor<1>,
    shift: Tensor<1>,
}

impl BatchNorm {
    /// Takes `weight`, `bias`, `running_mean` and `running_var`, all `[channels]`.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing or of another shape.
    pub(super) fn load(weights: &Weights, channels: usize) -> Result<Self, LoadError> {
        weights.ignore("num_batches_tracked");
        let of = |name| weights.values(name, &[channels]);
        let (weight, bias, mean, variance) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
        let scale: Vec<f64> = weight
            .iter()
            .zip(&variance)
            .map(|(&weight, &variance)| f64::from(weight) / (f64::from(variance) + PYTORCH_EPSILON).sqrt())
            .collect();
        let shift =
            scale.iter().zip(&mean).zip(&bias).map(|((scale, &mean), &bias)| f64::from(bias) - f64::from(mean) * scale);
        let float = weights.device().settings().float_dtype.into();
        let place = |values: Vec<f32>| {
            let data = burn::tensor::TensorData::new(values, [channels]).convert_dtype(float);
            Tensor::from_data(data, weights.device())
        };
        Ok(Self {
            shift: place(shift.map(|value| value as f32).collect()),
            scale: place(scale.iter().map(|&value| value as f32).collect()),
        })
    }

    /// Normalises the channels along `axis`.
    pub(super) fn forward(&self, x: Tensor<4>, axis: usize) -> Tensor<4> {
        let mut shape = [1; 4];
        shape[axis] = x.dims()[axis];
        x * self.scale.clone().reshape(shape) + self.shift.clone().reshape(shape)
    }
}
