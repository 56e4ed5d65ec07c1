//! `x Wᵀ + b`, with the matrix as a plain tensor or in a form that a backend keeps for itself.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{
        Tensor,
        activation::{gelu, softmax},
    },
};

use super::held;
use crate::checkpoint::{LoadError, PackedMatrix, StoredMatrix, Weights, gated_silu};

/// The matrix of a linear layer.
#[derive(Module, Debug)]
pub struct Matrix {
    /// `[out, in]`; `None` if packed.
    plain: Option<Param<Tensor<2>>>,
    #[module(skip)]
    packed: Option<Arc<dyn PackedMatrix>>,
}

impl Matrix {
    /// Takes `name` `[out, in]`, packed where the weights are placed so.
    ///
    /// # Errors
    /// [`LoadError`] if it is missing or of another shape.
    pub fn load(weights: &Weights, name: &str, shape: [usize; 2]) -> Result<Self, LoadError> {
        Ok(match weights.matrix(name, shape)? {
            StoredMatrix::Plain(weight) => Self::plain(weight),
            StoredMatrix::Packed(matrix) => Self::packed(matrix),
        })
    }

    /// A matrix `[out, in]` as a plain tensor.
    pub fn plain(weight: Tensor<2>) -> Self {
        Self { plain: Some(held(weight)), packed: None }
    }

    /// A matrix in a backend's form.
    pub fn packed(matrix: Arc<dyn PackedMatrix>) -> Self {
        Self { plain: None, packed: Some(matrix) }
    }

    /// `x Wᵀ`.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; result: `[rows, out]`
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.packed, &self.plain) {
            (Some(matrix), _) => matrix.product(x),
            (None, Some(weight)) => x.matmul(weight.val().transpose()),
            (None, None) => unreachable!("a matrix is plain or packed"),
        }
    }

    /// [`Self::product`] of rows that are one step each of sequences of their own.
    fn product_of_steps(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.packed {
            Some(matrix) => matrix.product_of_steps(x),
            None => self.product(x),
        }
    }

    /// [`Self::product`] of every one of `matrices`, which are of one width and placed alike; of `steps` as
    /// [`Self::product_of_steps`].
    fn products(matrices: &[&Self], x: &Tensor<2>, steps: bool) -> Vec<Tensor<2>> {
        let packed: Option<Vec<&dyn PackedMatrix>> = matrices.iter().map(|matrix| matrix.packed.as_deref()).collect();
        match packed.as_deref() {
            Some([first, others @ ..]) if steps => first.products_of_steps(others, x.clone()),
            Some([first, others @ ..]) => first.products(others, x.clone()),
            _ => matrices.iter().map(|matrix| matrix.product(x.clone())).collect(),
        }
    }

    /// The exact GELU of a product.
    fn gelu(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.packed {
            Some(matrix) => matrix.gelu(y),
            None => gelu(y),
        }
    }

    /// The first half of a product's rows times the `SiLU` of the second.
    fn gated_silu(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.packed {
            Some(matrix) => matrix.gated_silu(y),
            None => gated_silu(y),
        }
    }

    /// The softmax of every row of scores.
    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        match &self.packed {
            Some(matrix) => matrix.softmax(scores),
            None => softmax(scores, 1),
        }
    }
}

/// `x Wᵀ + b`
#[derive(Module, Debug)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Takes `weight` `[out, in]` and, if `bias`, `bias` `[out]`.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing or of another shape.
    pub fn load(weights: &Weights, from: usize, to: usize, bias: bool) -> Result<Self, LoadError> {
        let bias = if bias { Some(held(weights.tensor("bias", [to])?)) } else { None };
        Ok(Self { weight: Matrix::load(weights, "weight", [to, from])?, bias })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let y = self.rows(x);
        let to = y.dims()[1];
        y.reshape([batch, time, to])
    }

    /// [`Self::forward`] of several layers on the same `x`, in one pass where a backend can.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]` each
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: Tensor<3>) -> [Tensor<3>; N] {
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]);
        let mut products = Matrix::products(&layers.map(|layer| &layer.weight), &x, time == 1).into_iter();
        layers.map(|layer| {
            let Some(y) = products.next() else { unreachable!("there is a product for every matrix") };
            let y = layer.with_bias(y);
            let to = y.dims()[1];
            y.reshape([batch, time, to])
        })
    }

    /// The exact GELU of [`Self::forward`].
    pub fn forward_gelu(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let y = self.weight.gelu(self.rows(x));
        let to = y.dims()[1];
        y.reshape([batch, time, to])
    }

    /// The first half of [`Self::forward`]'s features times the `SiLU` of the second: `[batch, time, out / 2]`.
    pub fn forward_gated_silu(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let y = self.weight.gated_silu(self.rows(x));
        let to = y.dims()[1];
        y.reshape([batch, time, to])
    }

    /// The softmax over the last axis of the scores of an attention layer that this one belongs to.
    pub fn softmax<const D: usize>(&self, scores: Tensor<D>) -> Tensor<D> {
        let shape = scores.dims();
        let keys = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        self.weight.softmax(scores.reshape([rows, keys])).reshape(shape)
    }

    /// `[batch, time, in]` → `[batch · time, out]`
    fn rows(&self, x: Tensor<3>) -> Tensor<2> {
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]);
        self.with_bias(if time == 1 { self.weight.product_of_steps(x) } else { self.weight.product(x) })
    }

    fn with_bias(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}
