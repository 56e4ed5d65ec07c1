//! What a convolution's input passes first.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu},
};

use super::{held, taps::place};
use crate::checkpoint::{Before, LoadError, SnakeValues, Weights};

/// What a convolution's input passes first, and where its numbers are.
pub(crate) enum Preceding {
    /// Nothing.
    Nothing,
    /// [`elu`]
    Elu,
    /// `x + sin²(exp(α) x) / (exp(β) + 1e-9)`, with `alpha` and `beta` `[1, channel, 1]` of these weights.
    Snake(Weights),
}

/// Of plain tensors.
#[derive(Module, Debug)]
pub(super) enum Activation {
    Elu(Elu),
    Snake(Snake),
}

/// `x` above zero, `exp(x) − 1` below.
#[derive(Module, Debug)]
pub(super) struct Elu;

/// `x + height · sin²(frequency · x)`
#[derive(Module, Debug)]
pub(super) struct Snake {
    /// `[1, 1, channel]`
    frequency: Param<Tensor<3>>,
    /// `[1, 1, channel]`
    height: Param<Tensor<3>>,
}

impl Preceding {
    /// For an input of `width` channels, of which `steps` steps lie side by side; on the host.
    pub(super) fn values(&self, width: usize, steps: usize) -> Result<Before, LoadError> {
        let Self::Snake(weights) = self else {
            return Ok(if matches!(self, Self::Elu) { Before::Elu } else { Before::Nothing });
        };
        let exp = |name| -> Result<_, LoadError> {
            let values = weights.values(name, &[1, width, 1])?.repeat(steps);
            Ok(values.into_iter().map(|value| f64::from(value).exp()))
        };
        let frequency = exp("alpha")?.map(|value| value as f32).collect();
        let height = exp("beta")?.map(|value| (1.0 / (value + 1e-9)) as f32).collect();
        Ok(Before::Snake(SnakeValues { frequency, height }))
    }

    /// As [`Self::values`], of tensors that are on their device already, differentiable by them.
    pub(super) fn tensors(&self, width: usize, steps: usize) -> Result<Option<Activation>, LoadError> {
        let Self::Snake(weights) = self else {
            return Ok(matches!(self, Self::Elu).then_some(Activation::Elu(Elu)));
        };
        let exp = |name| -> Result<Tensor<3>, LoadError> {
            let values = weights.tensor(name, [1, width, 1])?.reshape([1, 1, width]);
            Ok(values.repeat(&[1, 1, steps]).exp())
        };
        let (frequency, height) = (held(exp("alpha")?), held((exp("beta")? + 1e-9).recip()));
        Ok(Some(Activation::Snake(Snake { frequency, height })))
    }
}

impl Activation {
    /// What `before` asks for, on the device of `weights`.
    pub(super) fn place(weights: &Weights, before: Before) -> Option<Self> {
        match before {
            Before::Nothing => None,
            Before::Elu => Some(Self::Elu(Elu)),
            Before::Snake(SnakeValues { frequency, height }) => {
                let place = |values: Vec<f32>| {
                    let width = values.len();
                    held(place(weights, values, [1, 1, width]))
                };
                Some(Self::Snake(Snake { frequency: place(frequency), height: place(height) }))
            }
        }
    }

    /// # Shapes
    /// - `x`, result: `[batch, time, channel]`
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Elu(_) => elu(x),
            Self::Snake(Snake { frequency, height }) => {
                let sine = (x.clone() * frequency.val()).sin();
                x + sine.clone() * sine * height.val()
            }
        }
    }
}

/// `min(exp(x), 1) − 1 + max(x, 0)`: without the mask of Burn's own it takes two passes less, and `exp` first writes
/// the copy that the passes after it change in place.
pub(crate) fn elu(x: Tensor<3>) -> Tensor<3> {
    x.clone().exp().clamp_max(1.0) - 1.0 + relu(x)
}
