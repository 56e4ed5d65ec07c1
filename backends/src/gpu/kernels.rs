//! Kernels for products of few rows with a matrix, what follows a product, and what stands between products.

#![expect(clippy::used_underscore_binding, reason = "only the macro of a kernel reads what stands for its type")]

use std::f32::consts::SQRT_2;

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};
use half::{bf16, f16};

/// Numbers that are read at once.
pub(super) const VECTOR: usize = 4;
/// Units of a cube.
pub(super) const UNITS: usize = 64;
/// Vectors that a unit reads at least, where the matrix has as many.
const VECTORS_PER_UNIT: usize = 4;
/// Rows that are multiplied while a weight is there.
const ROWS: usize = 8;
/// Cubes that every GPU starts at once in one direction, at least.
pub(super) const MOST_CUBES: usize = 65_535;

/// What a kernel calls a type; `None` for those that these kernels do not know.
pub(super) fn element(dtype: DType) -> Option<ElemType> {
    match dtype {
        DType::F32 => Some(f32::elem_type_native()),
        DType::F16 => Some(f16::elem_type_native()),
        DType::BF16 => Some(bf16::elem_type_native()),
        _ => None,
    }
}

/// Cubes for each of `rows`, or some more.
pub(super) fn cubes(rows: usize) -> CubeCount {
    let across = rows.min(MOST_CUBES);
    CubeCount::Static(across as u32, rows.div_ceil(across) as u32, 1)
}

/// What follows a product, while a kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is compiled in or left out by itself")]
pub(super) struct After {
    pub(super) bias: bool,
    pub(super) gelu: bool,
    pub(super) silu: bool,
    pub(super) residual: bool,
}

/// `act(x + bias)`, rounded as a number of type `E`: what is added to a residual is what a hook would see.
#[cube]
pub(super) fn activated<E: Float>(x: f32, #[comptime] after: After) -> f32 {
    if comptime!(after.gelu) {
        let inner = Erf::erf(x / SQRT_2) + 1.0f32;
        f32::cast_from(E::cast_from(x * inner / 2.0f32))
    } else if comptime!(after.silu) {
        f32::cast_from(E::cast_from(x / (1.0f32 + (-x).exp())))
    } else {
        f32::cast_from(E::cast_from(x))
    }
}

/// `residual + act(x Wᵀ + bias)`. The units of a cube in the first direction share an output's inputs, those in the second
/// have each another output. Rows of the residual beyond those of `x` are copied.
///
/// # Shapes
/// - `x`: `[rows, in]`, `w`: `[out, in]`; `bias`: `[out]`; `residual`, `y`: `[rows or more, out]`
#[cube(launch_unchecked)]
fn rows_times_matrix<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    w: &Tensor<Vector<E, N>>,
    bias: &Tensor<E>,
    residual: &Tensor<E>,
    y: &mut Tensor<E>,
    vectors: usize,
    out: usize,
    all_rows: usize,
    more_rows: usize,
    #[comptime] rows: usize,
    #[comptime] lanes: usize,
    #[comptime] outputs: usize,
    #[comptime] after: After,
    #[define(E)] _dtype: ElemType,
) {
    // One more than there are lanes, so that units which read side by side do not wait for each other.
    let stride = comptime!(lanes + 1);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(rows * outputs * stride));
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    // What is past the end is computed again, and not written.
    let output = min(CUBE_POS_X as usize * outputs + slot, out - 1);
    let first = CUBE_POS_Y as usize * rows;
    let mut sums = Array::<Vector<f32, N>>::new(rows);
    #[unroll]
    for row in 0..rows {
        sums[row] = Vector::<f32, N>::cast_from(0.0f32);
    }
    let mut at = lane;
    while at < vectors {
        let weights = Vector::<f32, N>::cast_from(w[output * vectors + at]);
        #[unroll]
        for row in 0..rows {
            let from = min(first + row, all_rows - 1);
            sums[row] += weights * Vector::<f32, N>::cast_from(x[from * vectors + at]);
        }
        at += lanes;
    }
    #[unroll]
    for row in 0..rows {
        shared[(slot * rows + row) * stride + lane] = Vector::vector_sum(sums[row]);
    }
    sync_cube();
    // A unit for each row and output.
    let mut task = UNIT_POS as usize;
    while task < comptime!(rows * outputs) {
        let slot = task / rows;
        let row = first + task % rows;
        let output = CUBE_POS_X as usize * outputs + slot;
        if output < out && row < all_rows {
            let mut sum = 0.0f32;
            for lane in 0..lanes {
                sum += shared[task * stride + lane];
            }
            if comptime!(after.bias) {
                sum = f32::cast_from(E::cast_from(sum)) + f32::cast_from(bias[output]);
            }
            let mut sum = activated::<E>(sum, after);
            if comptime!(after.residual) {
                sum += f32::cast_from(residual[row * out + output]);
            }
            y[row * out + output] = E::cast_from(sum);
        }
        task += comptime!(lanes * outputs);
    }
    if comptime!(after.residual) && CUBE_POS_Y == 0 {
        let mut task = UNIT_POS as usize;
        while task < more_rows * outputs {
            let output = CUBE_POS_X as usize * outputs + task % outputs;
            if output < out {
                let at = (all_rows + task / outputs) * out + output;
                y[at] = residual[at];
            }
            task += comptime!(lanes * outputs);
        }
    }
}

/// `residual + act(x Wᵀ + bias)` for contiguous `x` `[rows, in]` and `w` `[out, in]`, `in` a multiple of [`VECTOR`]; what
/// `after` does without may be of any length.
pub(super) fn product(
    x: CubeTensor,
    w: CubeTensor,
    bias: CubeTensor,
    residual: CubeTensor,
    after: After,
) -> CubeTensor {
    let (rows, width) = (x.meta.shape()[0], x.meta.shape()[1]);
    let all = if after.residual { residual.meta.shape()[0] } else { rows };
    let (out, vectors) = (w.meta.shape()[0], width / VECTOR);
    let lanes = (vectors / VECTORS_PER_UNIT).clamp(1, UNITS).next_power_of_two().min(UNITS);
    let outputs = UNITS / lanes;
    let together = rows.min(ROWS);
    let y = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), [all, out].into(), x.dtype);
    let dtype = element(x.dtype).expect("a type that was asked for");
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        rows_times_matrix::launch_unchecked(
            &y.client,
            CubeCount::Static(out.div_ceil(outputs) as u32, rows.div_ceil(together) as u32, 1),
            CubeDim::new_2d(lanes as u32, outputs as u32),
            VECTOR,
            x.into_tensor_arg(),
            w.into_tensor_arg(),
            bias.into_tensor_arg(),
            residual.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            vectors,
            out,
            rows,
            all - rows,
            together,
            lanes,
            outputs,
            after,
            dtype,
        );
    }
    y
}

/// The sum over all units of a cube.
#[cube]
pub(super) fn sum_of_units(shared: &mut Shared<[f32]>, value: f32) -> f32 {
    // What was read before is done with.
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for unit in 0..UNITS {
        sum += shared[unit];
    }
    sum
}

/// The largest value of all units of a cube.
#[cube]
pub(super) fn largest_of_units(shared: &mut Shared<[f32]>, value: f32) -> f32 {
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut largest = shared[0];
    for unit in 1..UNITS {
        largest = max(largest, shared[unit]);
    }
    largest
}

/// `(x − mean) / √(variance + ε) · weight + bias` of a row per cube.
///
/// # Shapes
/// - `x`, `y`: `[rows, width]`; `weight`, `bias`: `[width]`
#[cube(launch_unchecked)]
fn layer_norm_of_rows<E: Float>(
    x: &Tensor<E>,
    weight: &Tensor<E>,
    bias: &Tensor<E>,
    y: &mut Tensor<E>,
    rows: usize,
    width: usize,
    epsilon: f32,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    // Cubes past the end do the last row again.
    let row = min(CUBE_POS, rows - 1) * width;
    let first = UNIT_POS as usize;
    let mut sum = 0.0f32;
    let mut at = first;
    while at < width {
        sum += f32::cast_from(x[row + at]);
        at += UNITS;
    }
    let mean = sum_of_units(&mut shared, sum) / f32::cast_from(width);
    let mut squares = 0.0f32;
    let mut at = first;
    while at < width {
        let centred = f32::cast_from(x[row + at]) - mean;
        squares += centred * centred;
        at += UNITS;
    }
    let variance = sum_of_units(&mut shared, squares) / f32::cast_from(width);
    let deviation = (variance + epsilon).sqrt();
    let mut at = first;
    while at < width {
        let normal = (f32::cast_from(x[row + at]) - mean) / deviation;
        y[row + at] = E::cast_from(normal * f32::cast_from(weight[at]) + f32::cast_from(bias[at]));
        at += UNITS;
    }
}

/// `exp(x − largest) / Σ exp(x − largest)` of a row per cube.
///
/// # Shapes
/// - `x`, `y`: `[rows, width]`
#[cube(launch_unchecked)]
fn softmax_of_rows<E: Float>(
    x: &Tensor<E>,
    y: &mut Tensor<E>,
    rows: usize,
    width: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    // Cubes past the end do the last row again.
    let row = min(CUBE_POS, rows - 1) * width;
    let first = UNIT_POS as usize;
    let mut largest = f32::cast_from(x[row]);
    let mut at = first;
    while at < width {
        largest = max(largest, f32::cast_from(x[row + at]));
        at += UNITS;
    }
    let largest = largest_of_units(&mut shared, largest);
    let mut sum = 0.0f32;
    let mut at = first;
    while at < width {
        sum += (f32::cast_from(x[row + at]) - largest).exp();
        at += UNITS;
    }
    let sum = sum_of_units(&mut shared, sum);
    let mut at = first;
    while at < width {
        y[row + at] = E::cast_from((f32::cast_from(x[row + at]) - largest).exp() / sum);
        at += UNITS;
    }
}

/// As much room as `x` takes.
pub(super) fn like(x: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), x.meta.shape().clone(), x.dtype)
}

/// The normalised rows of contiguous `x` `[rows, width]`.
pub(super) fn layer_norm(x: CubeTensor, weight: CubeTensor, bias: CubeTensor, epsilon: f64) -> CubeTensor {
    let (rows, width) = (x.meta.shape()[0], x.meta.shape()[1]);
    let y = like(&x);
    let dtype = element(x.dtype).expect("a type that was asked for");
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        layer_norm_of_rows::launch_unchecked(
            &y.client,
            cubes(rows),
            CubeDim::new_1d(UNITS as u32),
            x.into_tensor_arg(),
            weight.into_tensor_arg(),
            bias.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            rows,
            width,
            epsilon as f32,
            dtype,
        );
    }
    y
}

/// The softmax of every row of contiguous `x` `[rows, width]`.
pub(super) fn softmax(x: CubeTensor) -> CubeTensor {
    let (rows, width) = (x.meta.shape()[0], x.meta.shape()[1]);
    let y = like(&x);
    let dtype = element(x.dtype).expect("a type that was asked for");
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        softmax_of_rows::launch_unchecked(
            &y.client,
            cubes(rows),
            CubeDim::new_1d(UNITS as u32),
            x.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            rows,
            width,
            dtype,
        );
    }
    y
}
