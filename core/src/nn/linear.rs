//! `x Wᵀ + b`, with the matrix as a plain tensor or in a form that a backend keeps for itself.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{
        DType, Tensor,
        activation::{gelu, silu, softmax},
    },
};

use super::{as_type, held, matmul};
use crate::{
    checkpoint::{Act, Epilogue, LoadError, PackedMatrix, Rows, StoredMatrix, Weights, added, gated_silu},
    hooks::{HookPoint, Hooks},
};

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

    /// The matrix in a backend's form, if it is.
    pub(crate) fn as_packed(&self) -> Option<&dyn PackedMatrix> {
        self.packed.as_deref()
    }

    /// `residual + act(x Wᵀ + bias)`, see [`PackedMatrix::finished`].
    fn finished(&self, x: Tensor<2>, rows: Rows, after: Epilogue) -> Tensor<2> {
        if let Some(matrix) = &self.packed {
            return matrix.finished(x, rows, after);
        }
        let y = self.product(x);
        let y = match after.bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
        let y = match after.act {
            Act::Identity => y,
            Act::Gelu => gelu(y),
            Act::Silu => silu(y),
            Act::GatedSilu => gated_silu(y),
        };
        match after.residual {
            Some(residual) => added(residual, y),
            None => y,
        }
    }

    /// [`Self::product`] of every one of `matrices`, which are of one width and placed alike.
    fn products(matrices: &[&Self], x: &Tensor<2>, rows: Rows) -> Vec<Tensor<2>> {
        let packed: Option<Vec<&dyn PackedMatrix>> = matrices.iter().map(|matrix| matrix.packed.as_deref()).collect();
        match packed.as_deref() {
            Some([first, others @ ..]) if rows == Rows::Steps => first.products_of_steps(others, x.clone()),
            Some([first, others @ ..]) => first.products(others, x.clone()),
            _ => matrices.iter().map(|matrix| matrix.product(x.clone())).collect(),
        }
    }

    /// The softmax of every row of scores.
    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        if let Some(matrix) = &self.packed {
            matrix.softmax(scores)
        } else {
            let dtype = scores.dtype();
            as_type(softmax(as_type(scores, DType::F32), 1), dtype)
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

    /// One layer whose features are those of `layers` side by side, where a backend computes that faster. All are of one
    /// width and without bias.
    pub(crate) fn joined(layers: &[&Self]) -> Option<Self> {
        if layers.iter().any(|layer| layer.bias.is_some()) {
            return None;
        }
        let packed: Option<Vec<&dyn PackedMatrix>> =
            layers.iter().map(|layer| layer.weight.packed.as_deref()).collect();
        let packed = packed?;
        let (first, others) = packed.split_first()?;
        Some(Self { weight: Matrix::packed(first.joined(others)?), bias: None })
    }

    /// Of positions of whole sequences.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_rows(x, Rows::Positions)
    }

    /// As [`Self::forward`]; the caller says what the rows are.
    pub fn forward_rows(&self, x: Tensor<3>, rows: Rows) -> Tensor<3> {
        self.forward_act(x, rows, Act::Identity)
    }

    /// `act` of [`Self::forward_rows`].
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]`, half of `out` for [`Act::GatedSilu`]
    pub fn forward_act(&self, x: Tensor<3>, rows: Rows, act: Act) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let y = self.weight.finished(x.reshape([batch * time, width]), rows, self.epilogue(act, None));
        let to = y.dims()[1];
        y.reshape([batch, time, to])
    }

    /// `residual` plus [`Self::forward_rows`]. A residual of more rows than `x` keeps its last ones.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; `residual`, result: `[batch or more, time, out]`
    pub fn forward_added(&self, x: Tensor<3>, rows: Rows, residual: Tensor<3>) -> Tensor<3> {
        let ([batch, time, width], shape) = (x.dims(), residual.dims());
        let residual = residual.reshape([shape[0] * shape[1], shape[2]]);
        let after = self.epilogue(Act::Identity, Some(residual));
        self.weight.finished(x.reshape([batch * time, width]), rows, after).reshape(shape)
    }

    /// `residual` plus what `point` makes of [`Self::forward_rows`]: one kernel where nothing is asked at `point`.
    pub(crate) fn forward_hooked(
        &self,
        hooks: &mut Hooks,
        point: HookPoint,
        x: Tensor<3>,
        rows: Rows,
        residual: Tensor<3>,
    ) -> Tensor<3> {
        if hooks.wants(point) {
            return residual + hooks.at(point, self.forward_rows(x, rows));
        }
        self.forward_added(x, rows, residual)
    }

    /// [`Self::forward_rows`] of several layers on the same `x`, in one pass where a backend can.
    ///
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]` each
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: Tensor<3>, rows: Rows) -> [Tensor<3>; N] {
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]);
        let mut products = Matrix::products(&layers.map(|layer| &layer.weight), &x, rows).into_iter();
        layers.map(|layer| {
            let Some(y) = products.next() else { unreachable!("there is a product for every matrix") };
            let y = match &layer.bias {
                Some(bias) => y + bias.val().unsqueeze(),
                None => y,
            };
            let to = y.dims()[1];
            y.reshape([batch, time, to])
        })
    }

    /// The exact GELU of [`Self::forward`].
    pub fn forward_gelu(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_act(x, Rows::Positions, Act::Gelu)
    }

    /// The softmax over the last axis of the scores of an attention layer that this one belongs to.
    pub fn softmax<const D: usize>(&self, scores: Tensor<D>) -> Tensor<D> {
        let shape = scores.dims();
        let keys = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        self.weight.softmax(scores.reshape([rows, keys])).reshape(shape)
    }

    /// `a b` of activations of a layer that this one belongs to, by the arithmetic of their type.
    pub fn matmul<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        matmul(self.weight.as_packed().and_then(PackedMatrix::kernels), a, b)
    }

    fn epilogue(&self, act: Act, residual: Option<Tensor<2>>) -> Epilogue {
        Epilogue { bias: self.bias.as_ref().map(burn::module::Param::val), act, residual }
    }
}
