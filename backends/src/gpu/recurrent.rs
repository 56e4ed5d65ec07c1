//! The steps of a recurrent layer: the product with the hidden state, then one kernel for all gates.

#![expect(clippy::used_underscore_binding, reason = "only the macro of a kernel reads what stands for its type")]

use burn_cubecl::{
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::kernels::element;

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

/// Gates `i, f, g, o` side by side; hidden state and cell of one step.
#[cube(launch_unchecked)]
fn lstm_step<E: Float>(
    input: &Tensor<E>,
    product: &Tensor<E>,
    before: &Tensor<E>,
    hidden: &mut Tensor<E>,
    cell: &mut Tensor<E>,
    all: usize,
    width: usize,
    #[comptime] begun: bool,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let from = at / width * 4 * width + at % width;
        let mut i = f32::cast_from(input[from]);
        let mut f = f32::cast_from(input[from + width]);
        let mut g = f32::cast_from(input[from + 2 * width]);
        let mut o = f32::cast_from(input[from + 3 * width]);
        let mut kept = 0.0f32;
        if comptime!(begun) {
            i += f32::cast_from(product[from]);
            f += f32::cast_from(product[from + width]);
            g += f32::cast_from(product[from + 2 * width]);
            o += f32::cast_from(product[from + 3 * width]);
            kept = f32::cast_from(before[at]) * sigmoid(f);
        }
        let now = kept + sigmoid(i) * g.tanh();
        cell[at] = E::cast_from(now);
        hidden[at] = E::cast_from(sigmoid(o) * now.tanh());
    }
}

/// Room for `shape` numbers of the type of `like`.
pub(super) fn empty(like: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), like.dtype)
}

/// `count` rows of contiguous `x` from `first` on, without a copy; `None` where the device cannot begin a tensor there.
pub(super) fn rows(x: &CubeTensor, first: usize, count: usize) -> Option<CubeTensor> {
    let (all, width) = (x.meta.shape()[0], x.meta.shape()[1]);
    let bytes = |rows: usize| (rows * width * x.elem_size()) as u64;
    let (start, end) = (bytes(first), bytes(all - first - count));
    let alignment = x.client.properties().memory.alignment;
    if !start.is_multiple_of(alignment) || !end.is_multiple_of(alignment) {
        return None;
    }
    let handle = x.handle.clone().offset_start(start).offset_end(end);
    let shape = [count, width].into();
    Some(CubeTensor::new_contiguous(x.client.clone(), x.device.clone(), shape, handle, x.dtype))
}

/// Writes the hidden state of a step into `hidden` and returns its cell; `product` and `before`, the cell before, are read
/// if there was a step before.
///
/// # Shapes
/// - `input`, `product`: `[batch, 4 · width]`; all others: `[batch, width]`
pub(super) fn step(
    input: CubeTensor,
    [product, before]: [CubeTensor; 2],
    hidden: CubeTensor,
    begun: bool,
) -> CubeTensor {
    let (batch, width) = (hidden.meta.shape()[0], hidden.meta.shape()[1]);
    let cell = empty(&hidden, [batch, width]);
    let all = batch * width;
    let dim = CubeDim::new(&cell.client, all);
    let count = calculate_cube_count_elemwise(&cell.client, all, dim);
    let dtype = element(cell.dtype).expect("a type that was asked for");
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        lstm_step::launch_unchecked(
            &cell.client,
            count,
            dim,
            input.into_tensor_arg(),
            product.into_tensor_arg(),
            before.into_tensor_arg(),
            hidden.into_tensor_arg(),
            cell.clone().into_tensor_arg(),
            all,
            width,
            begun,
            dtype,
        );
    }
    cell
}
