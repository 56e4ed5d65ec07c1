//! Kernels that compute each number of their result by itself.

#![expect(clippy::used_underscore_binding, reason = "only the macro of a kernel reads what stands for its type")]

use burn_cubecl::{
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::kernels::{After, activated, element, like};

/// `residual + act(x + bias)`, for a product `x`; beyond its end the residual alone. With `gated`, the first half of a row
/// of `x` times the `SiLU` of the second.
#[cube(launch_unchecked)]
fn finish_product<E: Float>(
    x: &Tensor<E>,
    bias: &Tensor<E>,
    residual: &Tensor<E>,
    y: &mut Tensor<E>,
    all: usize,
    product: usize,
    width: usize,
    #[comptime] after: After,
    #[comptime] gated: bool,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        if at < product {
            let column = at % width;
            if comptime!(gated) {
                let from = at / width * 2 * width + column;
                let mut value = f32::cast_from(x[from]);
                let mut gate = f32::cast_from(x[from + width]);
                if comptime!(after.bias) {
                    value = f32::cast_from(E::cast_from(value + f32::cast_from(bias[column])));
                    gate = f32::cast_from(E::cast_from(gate + f32::cast_from(bias[width + column])));
                }
                y[at] = E::cast_from(value * (gate / (1.0f32 + (-gate).exp())));
            } else {
                let mut value = f32::cast_from(x[at]);
                if comptime!(after.bias) {
                    value += f32::cast_from(bias[column]);
                }
                let mut value = activated::<E>(value, after);
                if comptime!(after.residual) {
                    value += f32::cast_from(residual[at]);
                }
                y[at] = E::cast_from(value);
            }
        } else if comptime!(after.residual) {
            y[at] = residual[at];
        }
    }
}

/// `y + factor · (x − y)`
#[cube(launch_unchecked)]
fn guide_all<E: Float>(
    x: &Tensor<E>,
    y: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    factor: f32,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let (x, y) = (f32::cast_from(x[at]), f32::cast_from(y[at]));
        out[at] = E::cast_from(y + (x - y) * factor);
    }
}

/// `a · x + b · y`
#[cube(launch_unchecked)]
fn blend_all<E: Float>(
    x: &Tensor<E>,
    y: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    a: f32,
    b: f32,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        out[at] = E::cast_from(f32::cast_from(x[at]) * a + f32::cast_from(y[at]) * b);
    }
}

/// Sums of rows of the tables of all codebooks, plus the position of the step.
#[cube(launch_unchecked)]
fn embed_codes<E: Float, I: Numeric>(
    numbers: &Tensor<I>,
    tables: &Tensor<E>,
    positions: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    width: usize,
    codebooks: usize,
    entries: usize,
    step_at: usize,
    factor: f32,
    #[define(E, I)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let (row, column) = (at / width, at % width);
        let mut sum = 0.0f32;
        for codebook in 0..codebooks {
            let entry = usize::cast_from(numbers[row * codebooks + codebook]) + codebook * entries;
            sum += f32::cast_from(tables[entry * width + column]);
        }
        let step = usize::cast_from(numbers[step_at]);
        out[at] = E::cast_from(sum * factor + f32::cast_from(positions[step * width + column]));
    }
}

/// `scale · x` with the head axis before time.
#[cube(launch_unchecked)]
fn heads_before_time<E: Float>(
    x: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    time: usize,
    heads: usize,
    d_head: usize,
    scale: f32,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let (feature, rest) = (at % d_head, at / d_head);
        let (step, rest) = (rest % time, rest / time);
        let (head, row) = (rest % heads, rest / heads);
        let from = ((row * time + step) * heads + head) * d_head + feature;
        out[at] = E::cast_from(f32::cast_from(x[from]) * scale);
    }
}

/// Queries, keys and values by head; the first `2 · half` features of queries and keys are turned.
#[cube(launch_unchecked)]
fn turn_heads<E: Float>(
    qkv: &Tensor<E>,
    cos: &Tensor<E>,
    sin: &Tensor<E>,
    q: &mut Tensor<E>,
    k: &mut Tensor<E>,
    v: &mut Tensor<E>,
    all: usize,
    time: usize,
    heads: usize,
    groups: usize,
    d_head: usize,
    half: usize,
    scale: f32,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let (feature, rest) = (at % d_head, at / d_head);
        let (unit, rest) = (rest % (heads + 2 * groups), rest / (heads + 2 * groups));
        let (step, row) = (rest % time, rest / time);
        let mut value = f32::cast_from(qkv[at]);
        if unit < heads + groups && feature < 2 * half {
            let index = step * half + feature % half;
            let (cos, sin) = (f32::cast_from(cos[index]), f32::cast_from(sin[index]));
            if feature < half {
                value = value * cos - f32::cast_from(qkv[at + half]) * sin;
            } else {
                value = value * cos + f32::cast_from(qkv[at - half]) * sin;
            }
        }
        if unit < heads {
            let to = ((row * heads + unit) * time + step) * d_head + feature;
            q[to] = E::cast_from(value * scale);
        } else if unit < heads + groups {
            let to = ((row * groups + unit - heads) * time + step) * d_head + feature;
            k[to] = E::cast_from(value);
        } else {
            let to = ((row * groups + unit - heads - groups) * time + step) * d_head + feature;
            v[to] = E::cast_from(value);
        }
    }
}

/// A first step before those of `x`, and copies of it all.
#[cube(launch_unchecked)]
fn prepend_first<E: Float>(
    first: &Tensor<E>,
    x: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    rows: usize,
    time: usize,
    width: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < all {
        let (column, rest) = (at % width, at / width);
        let (step, row) = (rest % (time + 1), rest / (time + 1) % rows);
        if step == 0 {
            out[at] = first[row * width + column];
        } else {
            out[at] = x[(row * time + step - 1) * width + column];
        }
    }
}

/// How a kernel over `all` numbers is launched.
fn grid(x: &CubeTensor, all: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&x.client, all);
    (calculate_cube_count_elemwise(&x.client, all, dim), dim)
}

fn types(x: &CubeTensor) -> ElemType {
    element(x.dtype).expect("a type that was asked for")
}

fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), like.dtype)
}

/// What follows a product `x` `[rows, out]`; what `after` does without may be of any length.
pub(super) fn finish(x: CubeTensor, bias: CubeTensor, residual: CubeTensor, after: After, gated: bool) -> CubeTensor {
    let (rows, out) = (x.meta.shape()[0], x.meta.shape()[1]);
    let width = if gated { out / 2 } else { out };
    let y = if after.residual { like(&residual) } else { empty(&x, [rows, width]) };
    let all = y.meta.num_elements();
    let (count, dim) = grid(&x, all);
    let dtype = types(&x);
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        finish_product::launch_unchecked(
            &y.client,
            count,
            dim,
            x.into_tensor_arg(),
            bias.into_tensor_arg(),
            residual.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            all,
            rows * width,
            width,
            after,
            gated,
            dtype,
        );
    }
    y
}

/// `y + factor · (x − y)`
pub(super) fn guide(x: CubeTensor, y: CubeTensor, factor: f64) -> CubeTensor {
    let (out, all) = (like(&x), x.meta.num_elements());
    let (count, dim) = grid(&x, all);
    let dtype = types(&x);
    let (x, y, result) = (x.into_tensor_arg(), y.into_tensor_arg(), out.clone().into_tensor_arg());
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        guide_all::launch_unchecked(&out.client, count, dim, x, y, result, all, factor as f32, dtype);
    }
    out
}

/// `a · x + b · y`
pub(super) fn blend((x, a): (CubeTensor, f64), (y, b): (CubeTensor, f64)) -> CubeTensor {
    let (out, all) = (like(&x), x.meta.num_elements());
    let (count, dim) = grid(&x, all);
    let dtype = types(&x);
    let (x, y, result) = (x.into_tensor_arg(), y.into_tensor_arg(), out.clone().into_tensor_arg());
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        blend_all::launch_unchecked(&out.client, count, dim, x, y, result, all, a as f32, b as f32, dtype);
    }
    out
}

/// Embeddings of the codes `[row · codebook]` in `numbers`, whose last number is the step: `[row, width]`.
pub(super) fn embed(
    numbers: CubeTensor,
    tables: CubeTensor,
    positions: CubeTensor,
    [rows, codebooks]: [usize; 2],
    factor: f64,
) -> CubeTensor {
    let width = tables.meta.shape()[1];
    let entries = tables.meta.shape()[0] / codebooks;
    let out = empty(&tables, [rows, width]);
    let all = rows * width;
    let (count, dim) = grid(&out, all);
    let dtypes = [types(&tables), integers(&numbers)];
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: codes come from a tokenizer or from logits, so they index the tables; units past the end return at once.
    unsafe {
        embed_codes::launch_unchecked(
            &out.client,
            count,
            dim,
            numbers.into_tensor_arg(),
            tables.into_tensor_arg(),
            positions.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            all,
            width,
            codebooks,
            entries,
            rows * codebooks,
            factor as f32,
            dtypes,
        );
    }
    out
}

/// What a kernel calls the type of whole numbers.
pub(super) fn integers(numbers: &CubeTensor) -> ElemType {
    if numbers.dtype == burn::tensor::DType::I64 { i64::elem_type_native() } else { i32::elem_type_native() }
}

/// `scale · x` `[row, time, head · d_head]` as `[row · head, time, d_head]`.
pub(super) fn heads_first(x: CubeTensor, heads: usize, scale: f64) -> CubeTensor {
    let (rows, time, width) = (x.meta.shape()[0], x.meta.shape()[1], x.meta.shape()[2]);
    let d_head = width / heads;
    let out = empty(&x, [rows * heads, time, d_head]);
    let all = rows * time * width;
    let (count, dim) = grid(&x, all);
    let dtype = types(&x);
    let (x, result) = (x.into_tensor_arg(), out.clone().into_tensor_arg());
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        heads_before_time::launch_unchecked(
            &out.client,
            count,
            dim,
            x,
            result,
            all,
            time,
            heads,
            d_head,
            scale as f32,
            dtype,
        );
    }
    out
}

/// Queries `[row · group, head / group · time, d_head]`, keys and values `[row · group, time, d_head]` of
/// `qkv` `[row, time, (head + 2 · group) · d_head]`.
pub(super) fn turned_heads(
    qkv: CubeTensor,
    [cos, sin]: [CubeTensor; 2],
    [heads, groups]: [usize; 2],
    scale: f64,
) -> [CubeTensor; 3] {
    let (rows, time, width) = (qkv.meta.shape()[0], qkv.meta.shape()[1], qkv.meta.shape()[2]);
    let (d_head, half) = (width / (heads + 2 * groups), cos.meta.shape()[1]);
    let by_group = |length| empty(&qkv, [rows * groups, length, d_head]);
    let [q, k, v] = [heads / groups * time, time, time].map(by_group);
    let all = rows * time * width;
    let (count, dim) = grid(&qkv, all);
    let dtype = types(&qkv);
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        turn_heads::launch_unchecked(
            &q.client,
            count,
            dim,
            qkv.into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            q.clone().into_tensor_arg(),
            k.clone().into_tensor_arg(),
            v.clone().into_tensor_arg(),
            all,
            time,
            heads,
            groups,
            d_head,
            half,
            scale as f32,
            dtype,
        );
    }
    [q, k, v]
}

/// `first` `[row, 1, width]` before `x` `[row, time, width]`, all of it `copies` times.
pub(super) fn prepend(first: CubeTensor, x: CubeTensor, copies: usize) -> CubeTensor {
    let (rows, time, width) = (x.meta.shape()[0], x.meta.shape()[1], x.meta.shape()[2]);
    let out = empty(&x, [copies * rows, time + 1, width]);
    let all = out.meta.num_elements();
    let (count, dim) = grid(&x, all);
    let dtype = types(&x);
    let (first, x, result) = (first.into_tensor_arg(), x.into_tensor_arg(), out.clone().into_tensor_arg());
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: what is past the end is left alone.
    unsafe {
        prepend_first::launch_unchecked(&out.client, count, dim, first, x, result, all, rows, time, width, dtype);
    }
    out
}
