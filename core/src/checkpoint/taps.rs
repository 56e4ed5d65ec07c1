//! Convolutions on their way from a checkpoint into the form that a backend keeps them in.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// What a convolution over time computes: `y[t] = b + Σⱼ f(x[t + j · dilation − left]) Wⱼ`.
#[derive(Debug, Clone)]
pub struct TapValues {
    /// `Wⱼ`, row-major `[tap, in, out]`.
    pub weights: Vec<f32>,
    /// Taps, channels of the input, channels of the output.
    pub shape: [usize; 3],
    /// Input steps between two taps.
    pub dilation: usize,
    /// `b`, `[out]`.
    pub bias: Option<Vec<f32>>,
    /// `f`
    pub before: Before,
}

/// What an input passes before a convolution. All of them leave zero as it is.
#[derive(Debug, Clone)]
pub enum Before {
    /// The input itself.
    Nothing,
    /// `x` above zero, `exp(x) − 1` below.
    Elu,
    /// A periodic function of one's own period and height per channel.
    Snake(SnakeValues),
}

/// `f(x) = x + height · sin²(frequency · x)`, per channel.
#[derive(Debug, Clone)]
pub struct SnakeValues {
    /// `[in]`
    pub frequency: Vec<f32>,
    /// `[in]`
    pub height: Vec<f32>,
}

/// What a convolution finds beyond the ends of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The input mirrored, without its last step; it reaches less far than the input is long.
    Reflected,
    /// Nothing, as far as one likes.
    Zero,
}

/// A convolution that a backend keeps in a form of its own.
pub trait PackedTaps: Debug + Send + Sync {
    /// `steps` steps, of which the first has its first tap `left` steps before `x`.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, steps, out]`, of the same element type
    fn forward(&self, x: Tensor<3>, left: usize, steps: usize, ends: Ends) -> Tensor<3>;
}
