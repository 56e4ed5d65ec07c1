//! Matrices on their way from a checkpoint into the form that a backend keeps them in.

use std::{any::Any, borrow::Cow, fmt::Debug, sync::Arc};

use burn::tensor::{
    Tensor,
    activation::{gelu, silu, softmax},
};
use half::{bf16, f16};
use safetensors::Dtype;

use super::{
    Kernels, Limits, PackedTaps, RawTensor, TapValues,
    weights::{chunks, to_f32},
};

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
    pub(super) fn from_raw(raw: &RawTensor<'_>) -> MatrixValues<'static> {
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

/// What the rows of a product are. Only the caller knows: no shape tells a decode step from a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// One for each sequence, such as a decode step: few, and no bit of one depends on how many there are.
    Steps,
    /// Positions of whole sequences: many.
    Positions,
}

/// A function of a product's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Act {
    /// The numbers themselves.
    #[default]
    Identity,
    /// The exact GELU.
    Gelu,
    /// `x · sigmoid(x)`
    Silu,
    /// The first half of every row times the `SiLU` of the second: half as many numbers.
    GatedSilu,
}

/// What follows a product: `residual + act(product + bias)`.
#[derive(Debug, Default)]
pub struct Epilogue {
    /// `[out]`
    pub bias: Option<Tensor<1>>,
    /// Comes after the bias.
    pub act: Act,
    /// `[rows or more, out]`: of more rows than the product has, its first ones are added to; the others stay.
    pub residual: Option<Tensor<2>>,
}

/// A matrix that a backend keeps in a form of its own.
pub trait PackedMatrix: Any + Debug + Send + Sync {
    /// `x Wᵀ`.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; result: `[rows, out]`, of the same element type
    fn product(&self, x: Tensor<2>) -> Tensor<2>;

    /// [`Self::product`] of rows that are one step each of sequences of their own, for which a backend may know a faster way. No
    /// bit of a row depends on how many there are.
    fn product_of_steps(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x)
    }

    /// `residual + act(x Wᵀ + bias)`; by the same arithmetic whether or not there is a residual.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; result: `[rows, out]`, or as the residual
    fn finished(&self, x: Tensor<2>, rows: Rows, after: Epilogue) -> Tensor<2> {
        let y = match rows {
            Rows::Steps => self.product_of_steps(x),
            Rows::Positions => self.product(x),
        };
        let y = match after.bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
        let y = match after.act {
            Act::Identity => y,
            Act::Gelu => self.gelu(y),
            Act::Silu => silu(y),
            Act::GatedSilu => self.gated_silu(y),
        };
        match after.residual {
            Some(residual) => added(residual, y),
            None => y,
        }
    }

    /// The kernels of the device that this matrix is on, if it has any.
    fn kernels(&self) -> Option<&dyn Kernels> {
        None
    }

    /// This matrix and `others`, which the same packer made and which are of one width, as one: the outputs of the first
    /// come first. `None` where that saves nothing.
    fn joined(&self, _others: &[&dyn PackedMatrix]) -> Option<Arc<dyn PackedMatrix>> {
        None
    }

    /// The products of the same rows with this matrix and `others`, which the same packer made; together they may be
    /// faster than one by one. No bit depends on it.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; result: `[rows, out]` each, this matrix's first
    fn products(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>>;

    /// [`Self::products`] as [`Self::product_of_steps`].
    fn products_of_steps(&self, others: &[&dyn PackedMatrix], x: Tensor<2>) -> Vec<Tensor<2>> {
        self.products(others, x)
    }

    /// The exact GELU of every element; a backend may know a faster way than Burn's.
    ///
    /// # Shapes
    /// - `y`, result: `[rows, out]`, of the same element type
    fn gelu(&self, y: Tensor<2>) -> Tensor<2> {
        gelu(y)
    }

    /// The first half of every row times the `SiLU` of the second, as [`gated_silu`].
    ///
    /// # Shapes
    /// - `y`: `[rows, out]`; result: `[rows, out / 2]`, of the same element type
    fn gated_silu(&self, y: Tensor<2>) -> Tensor<2> {
        gated_silu(y)
    }

    /// `exp(x) / Σ exp(x)` of every row, such as stands between the matrices of an attention layer.
    ///
    /// # Shapes
    /// - `scores`, result: `[rows, keys]`, of the same element type
    fn softmax(&self, scores: Tensor<2>) -> Tensor<2> {
        softmax(scores, 1)
    }
}

/// `value · silu(gate)` for rows that are values and gates side by side.
///
/// # Shapes
/// - `y`: `[rows, 2 · hidden]`; result: `[rows, hidden]`
pub fn gated_silu(y: Tensor<2>) -> Tensor<2> {
    let hidden = y.dims()[1] / 2;
    y.clone().narrow(1, 0, hidden) * silu(y.narrow(1, hidden, hidden))
}

/// `residual` with `y` added to its first rows.
pub fn added(residual: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let ([all, width], [rows, _]) = (residual.dims(), y.dims());
    if rows == all {
        return residual + y;
    }
    let first = residual.clone().slice([0..rows, 0..width]) + y;
    residual.slice_assign([0..rows, 0..width], first)
}

/// Puts matrices into a backend's own form while a checkpoint is loaded.
pub trait MatrixPacker: Debug + Send + Sync {
    /// `values` is row-major of shape `[out, in]`.
    fn pack(&self, shape: [usize; 2], values: MatrixValues<'_>) -> Arc<dyn PackedMatrix>;

    /// A packer of the same device for products of 32 bits, if this one makes others.
    fn wide(&self) -> Option<Arc<dyn MatrixPacker>> {
        None
    }

    /// Packs a convolution, if it has a form of its own for that.
    fn pack_taps(&self, _taps: &TapValues) -> Option<Arc<dyn PackedTaps>> {
        None
    }

    /// The kernels of the device beside products, if it has any.
    fn kernels(&self) -> Option<Arc<dyn Kernels>> {
        None
    }

    /// How much the device computes at once.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// A matrix as it was placed.
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub(crate) enum StoredMatrix {
    /// `[out, in]`
    Plain(Tensor<2>),
    /// In a backend's form.
    Packed(Arc<dyn PackedMatrix>),
}
