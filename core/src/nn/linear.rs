//! `x Wᵀ + b`, with the matrix as a plain tensor or in a form that a backend keeps for itself.

use std::{borrow::Cow, fmt::Debug, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use half::{bf16, f16};
use safetensors::Dtype;

use crate::checkpoint::{LoadError, RawTensor, Weights};

/// The elements of a matrix as a checkpoint stores them, row-major.
#[derive(Debug, Clone)]
pub enum MatrixValues<'a> {
    /// 32-bit.
    F32(Cow<'a, [f32]>),
    /// IEEE half precision.
    F16(Cow<'a, [f16]>),
    /// The upper half of 32-bit.
    Bf16(Cow<'a, [bf16]>),
}

impl MatrixValues<'_> {
    /// Reads the elements of a floating-point tensor; 64-bit ones are rounded to 32.
    pub(crate) fn from_raw(raw: &RawTensor<'_>) -> MatrixValues<'static> {
        use crate::checkpoint::{chunks, to_f32};
        match raw.dtype {
            Dtype::F16 => MatrixValues::F16(chunks(&raw.bytes).map(f16::from_le_bytes).collect()),
            Dtype::BF16 => MatrixValues::Bf16(chunks(&raw.bytes).map(bf16::from_le_bytes).collect()),
            _ => MatrixValues::F32(to_f32(raw).into()),
        }
    }

    /// The elements as `f32`.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        }
    }
}

/// A matrix that a backend keeps in a form of its own.
pub trait PackedMatrix: Debug + Send + Sync {
    /// `x Wᵀ`.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; result: `[rows, out]`, of the same element type
    fn product(&self, x: Tensor<2>) -> Tensor<2>;
}

/// Puts matrices into a backend's own form while a checkpoint is loaded.
pub trait MatrixPacker: Debug + Send + Sync {
    /// `values` is row-major of shape `[out, in]`.
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix>;
}

/// The matrix of a linear layer.
#[derive(Module, Debug)]
pub struct Matrix {
    /// `[out, in]`; `None` if packed.
    plain: Option<Param<Tensor<2>>>,
    #[module(skip)]
    packed: Option<Arc<dyn PackedMatrix>>,
}

impl Matrix {
    /// A matrix `[out, in]` as a plain tensor.
    pub fn plain(weight: Tensor<2>) -> Self {
        Self { plain: Some(Param::from_tensor(weight)), packed: None }
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
        let bias = if bias { Some(Param::from_tensor(weights.tensor("bias", [to])?)) } else { None };
        Ok(Self { weight: weights.matrix("weight", [to, from])?, bias })
    }

    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let y = self.weight.product(x.reshape([batch * time, width]));
        let to = y.dims()[1];
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        y.reshape([batch, time, to])
    }
}
