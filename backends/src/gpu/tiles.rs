//! Products of many rows with a matrix in 32 bits, and what follows them, in one kernel.
//!
//! Sums are taken in two levels, 16 products at a time: their rounding grows with the sixteenth part of the width. No number of
//! a row depends on how many rows there are, and nothing is rounded to the shorter types of tensor cores.

#![allow(clippy::used_underscore_binding, reason = "only the macro of a kernel reads what stands for its type")]

use burn_cubecl::{
    cubecl::{self, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::kernels::{After, MOST_CUBES, activated};

/// Rows and outputs of a cube.
const TILE: usize = 64;
/// Inputs that are read at once.
const DEPTH: usize = 16;
/// Rows and outputs of a unit.
const OWN: usize = 4;
/// Units of a cube in each direction.
const SIDE: usize = TILE / OWN;
/// Numbers between two inputs in workgroup memory: one more than there are, so that units do not wait for each other.
const STRIDE: usize = TILE + 1;

/// Whether the kernel takes `rows` rows and `out` outputs.
pub(super) fn fits(rows: usize, out: usize) -> bool {
    rows.div_ceil(TILE) <= MOST_CUBES && out.div_ceil(TILE) <= MOST_CUBES
}

/// `residual + act(x Wᵀ + bias)`; rows of the residual beyond those of `x` are copied.
///
/// # Shapes
/// - `x`: `[rows, in]`, `w`: `[out, in]`; `bias`: `[out]`; `residual`, `y`: `[all rows, out]`
#[cube(launch_unchecked)]
fn tiles_times_matrix(
    x: &Tensor<f32>,
    w: &Tensor<f32>,
    bias: &Tensor<f32>,
    residual: &Tensor<f32>,
    y: &mut Tensor<f32>,
    rows: usize,
    all_rows: usize,
    out: usize,
    width: usize,
    #[comptime] after: After,
) {
    let mut xs = Shared::<[f32]>::new_slice(comptime!(DEPTH * STRIDE));
    let mut ws = Shared::<[f32]>::new_slice(comptime!(DEPTH * STRIDE));
    let first_row = CUBE_POS_Y as usize * TILE;
    let first_output = CUBE_POS_X as usize * TILE;
    let unit = UNIT_POS as usize;
    let (column, line) = (unit % SIDE, unit / SIDE);
    // What the unit reads: a few inputs of one row and of one output.
    let (reads, from) = (unit / 4, unit % 4 * 4);
    // What is past the end is read again, and not written.
    let row = min(first_row + reads, rows - 1) * width;
    let output = min(first_output + reads, out - 1) * width;
    let mut sums = Array::<f32>::new(comptime!(OWN * OWN));
    let mut parts = Array::<f32>::new(comptime!(OWN * OWN));
    #[unroll]
    for at in 0..comptime!(OWN * OWN) {
        sums[at] = 0.0f32;
    }
    let mut start = 0usize;
    while start < width {
        // What was read before is done with.
        sync_cube();
        #[unroll]
        for index in 0..4usize {
            let input = start + from + index;
            let there = input < width;
            let at = min(input, width - 1);
            xs[(from + index) * STRIDE + reads] = select(there, x[row + at], 0.0f32);
            ws[(from + index) * STRIDE + reads] = select(there, w[output + at], 0.0f32);
        }
        sync_cube();
        #[unroll]
        for at in 0..comptime!(OWN * OWN) {
            parts[at] = 0.0f32;
        }
        for input in 0..DEPTH {
            let xs_at = input * STRIDE + line * OWN;
            let ws_at = input * STRIDE + column * OWN;
            #[unroll]
            for i in 0..OWN {
                let a = xs[xs_at + i];
                #[unroll]
                for j in 0..OWN {
                    parts[i * OWN + j] += a * ws[ws_at + j];
                }
            }
        }
        #[unroll]
        for at in 0..comptime!(OWN * OWN) {
            sums[at] += parts[at];
        }
        start += DEPTH;
    }
    #[unroll]
    for i in 0..OWN {
        let row = first_row + line * OWN + i;
        #[unroll]
        for j in 0..OWN {
            let output = first_output + column * OWN + j;
            if output < out {
                let at = row * out + output;
                if row < rows {
                    let mut sum = sums[i * OWN + j];
                    if comptime!(after.bias) {
                        sum += bias[output];
                    }
                    let mut sum = activated::<f32>(sum, after);
                    if comptime!(after.residual) {
                        sum += residual[at];
                    }
                    y[at] = sum;
                } else if comptime!(after.residual) && row < all_rows {
                    y[at] = residual[at];
                }
            }
        }
    }
}

/// `residual + act(x Wᵀ + bias)` for contiguous 32-bit `x` `[rows, in]` and `w` `[out, in]`; what `after` does without may be
/// of any length.
pub(super) fn product(
    x: CubeTensor,
    w: CubeTensor,
    bias: CubeTensor,
    residual: CubeTensor,
    after: After,
) -> CubeTensor {
    let (rows, width, out) = (x.meta.shape()[0], x.meta.shape()[1], w.meta.shape()[0]);
    let all = if after.residual { residual.meta.shape()[0] } else { rows };
    let y = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), [all, out].into(), x.dtype);
    let count = CubeCount::Static(out.div_ceil(TILE) as u32, all.div_ceil(TILE) as u32, 1);
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        tiles_times_matrix::launch_unchecked(
            &y.client,
            count,
            CubeDim::new_1d((SIDE * SIDE) as u32),
            x.into_tensor_arg(),
            w.into_tensor_arg(),
            bias.into_tensor_arg(),
            residual.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            rows,
            all,
            out,
            width,
            after,
        );
    }
    y
}
