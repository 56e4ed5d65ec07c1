//! Attention of a decode step: a cube for every row and head does all that lies between the projections.
//!
//! With the pattern asked for, one kernel ends after the softmax and another begins there. They are made of the same
//! functions, so that a hook changes no bit.

#![expect(clippy::used_underscore_binding, reason = "only the macro of a kernel reads what stands for its type")]

use burn_cubecl::{
    cubecl::{self, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::{
    elementwise::integers,
    kernels::{UNITS, VECTOR, cubes, element, largest_of_units, sum_of_units},
};

/// Bytes of workgroup memory beside the scores: partial sums of all units.
const PARTIAL: usize = UNITS * (VECTOR + 1) * 4;

/// Scores that are kept at once, of up to `keys` keys; `None` if they and what else is kept take more than `bytes`.
pub(super) fn room(keys: usize, d_head: usize, bytes: usize) -> Option<usize> {
    // Few sizes, so that few kernels are compiled.
    let room = keys.max(64).next_power_of_two();
    let vectors = d_head / VECTOR;
    let fits = d_head.is_multiple_of(VECTOR) && (1..=UNITS).contains(&vectors) && room * 4 + PARTIAL <= bytes;
    fits.then_some(room)
}

/// The product of a query with a key.
#[cube]
fn score<E: Float, N: Size>(
    queries: &Tensor<Vector<E, N>>,
    query: usize,
    keys: &Tensor<Vector<E, N>>,
    key: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut sum = Vector::<f32, N>::cast_from(0.0f32);
    for at in 0..vectors {
        sum += Vector::<f32, N>::cast_from(queries[query + at]) * Vector::<f32, N>::cast_from(keys[key + at]);
    }
    Vector::vector_sum(sum)
}

/// As [`score`], with a key of a cache that the kernel also writes.
#[cube]
fn score_of_past<E: Float, N: Size>(
    queries: &Tensor<Vector<E, N>>,
    query: usize,
    keys: &mut Tensor<Vector<E, N>>,
    key: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut sum = Vector::<f32, N>::cast_from(0.0f32);
    for at in 0..vectors {
        sum += Vector::<f32, N>::cast_from(queries[query + at]) * Vector::<f32, N>::cast_from(keys[key + at]);
    }
    Vector::vector_sum(sum)
}

/// The softmax of the first `keys` scores, rounded as numbers of type `E`.
#[cube]
fn softmax_of_scores<E: Float>(scores: &mut Shared<[f32]>, shared: &mut Shared<[f32]>, keys: usize) {
    let first = UNIT_POS as usize;
    sync_cube();
    let mut largest = scores[0];
    let mut at = first;
    while at < keys {
        largest = max(largest, scores[at]);
        at += UNITS;
    }
    let largest = largest_of_units(shared, largest);
    let mut sum = 0.0f32;
    let mut at = first;
    while at < keys {
        let power = (scores[at] - largest).exp();
        scores[at] = power;
        sum += power;
        at += UNITS;
    }
    let sum = sum_of_units(shared, sum);
    let mut at = first;
    while at < keys {
        scores[at] = f32::cast_from(E::cast_from(scores[at] / sum));
        at += UNITS;
    }
    sync_cube();
}

/// Adds the partial sums of all units in `partial` and writes them to `out`: the last part of a weighted sum.
#[cube]
fn gather<E: Float, N: Size>(
    partial: &Shared<[Vector<f32, N>]>,
    out: &mut Tensor<Vector<E, N>>,
    to: usize,
    #[comptime] vectors: usize,
) {
    sync_cube();
    let lane = UNIT_POS as usize;
    if lane < vectors {
        let mut sum = partial[lane];
        #[unroll]
        for slot in 1..comptime!(UNITS / vectors) {
            sum += partial[slot * vectors + lane];
        }
        out[to + lane] = Vector::cast_from(sum);
    }
}

/// Appends a step's keys and values to the cache and attends to all of it; see [`past`].
#[cube(launch_unchecked)]
fn attend_to_past<E: Float, I: Numeric, N: Size>(
    qkv: &Tensor<Vector<E, N>>,
    step: &Tensor<I>,
    keys: &mut Tensor<Vector<E, N>>,
    values: &mut Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    step_at: usize,
    all: usize,
    heads: usize,
    capacity: usize,
    scale: f32,
    #[comptime] vectors: usize,
    #[comptime] room: usize,
    #[define(E, I)] _dtypes: [ElemType; 2],
) {
    let mut scores = Shared::<[f32]>::new_slice(room);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let mut partial = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    // Cubes past the end do the last head again.
    let cube = min(CUBE_POS, all - 1);
    let width = heads * vectors;
    let query = cube / heads * 3 * width + cube % heads * vectors;
    let (new_key, new_value) = (query + width, query + 2 * width);
    let cache = cube * capacity * vectors;
    let seen = usize::cast_from(step[step_at]);
    let unit = UNIT_POS as usize;
    if unit < vectors {
        keys[cache + seen * vectors + unit] = qkv[new_key + unit];
        values[cache + seen * vectors + unit] = qkv[new_value + unit];
    }
    let mut key = unit;
    while key < seen {
        scores[key] = score_of_past::<E, N>(qkv, query, keys, cache + key * vectors, vectors) * scale;
        key += UNITS;
    }
    // What was just written is read where it came from: other units may not see it yet.
    if unit == seen % UNITS {
        scores[seen] = score::<E, N>(qkv, query, qkv, new_key, vectors) * scale;
    }
    softmax_of_scores::<E>(&mut scores, &mut shared, seen + 1);
    let slots = comptime!(UNITS / vectors);
    let (lane, slot) = (unit % vectors, unit / vectors);
    if slot < slots {
        let mut sum = Vector::<f32, N>::cast_from(0.0f32);
        let mut key = slot;
        while key < seen {
            sum += Vector::<f32, N>::cast_from(scores[key])
                * Vector::<f32, N>::cast_from(values[cache + key * vectors + lane]);
            key += slots;
        }
        if slot == seen % slots {
            sum += Vector::<f32, N>::cast_from(scores[seen]) * Vector::<f32, N>::cast_from(qkv[new_value + lane]);
        }
        partial[unit] = sum;
    }
    gather::<E, N>(&partial, out, cube * vectors, vectors);
}

/// As [`attend_to_past`], up to the pattern; see [`past`].
#[cube(launch_unchecked)]
fn pattern_of_past<E: Float, I: Numeric, N: Size>(
    qkv: &Tensor<Vector<E, N>>,
    step: &Tensor<I>,
    keys: &mut Tensor<Vector<E, N>>,
    values: &mut Tensor<Vector<E, N>>,
    out: &mut Tensor<E>,
    step_at: usize,
    all: usize,
    heads: usize,
    capacity: usize,
    scale: f32,
    #[comptime] vectors: usize,
    #[comptime] room: usize,
    #[define(E, I)] _dtypes: [ElemType; 2],
) {
    let mut scores = Shared::<[f32]>::new_slice(room);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let cube = min(CUBE_POS, all - 1);
    let width = heads * vectors;
    let query = cube / heads * 3 * width + cube % heads * vectors;
    let (new_key, new_value) = (query + width, query + 2 * width);
    let cache = cube * capacity * vectors;
    let seen = usize::cast_from(step[step_at]);
    let unit = UNIT_POS as usize;
    if unit < vectors {
        keys[cache + seen * vectors + unit] = qkv[new_key + unit];
        values[cache + seen * vectors + unit] = qkv[new_value + unit];
    }
    let mut key = unit;
    while key < seen {
        scores[key] = score_of_past::<E, N>(qkv, query, keys, cache + key * vectors, vectors) * scale;
        key += UNITS;
    }
    if unit == seen % UNITS {
        scores[seen] = score::<E, N>(qkv, query, qkv, new_key, vectors) * scale;
    }
    softmax_of_scores::<E>(&mut scores, &mut shared, seen + 1);
    let mut key = unit;
    while key < seen + 1 {
        out[cube * (seen + 1) + key] = E::cast_from(scores[key]);
        key += UNITS;
    }
}

/// Attends to given keys; see [`text`].
#[cube(launch_unchecked)]
fn attend_to_text<E: Float, N: Size>(
    q: &Tensor<Vector<E, N>>,
    keys: &Tensor<Vector<E, N>>,
    values: &Tensor<Vector<E, N>>,
    bias: &Tensor<E>,
    out: &mut Tensor<Vector<E, N>>,
    all: usize,
    heads: usize,
    tokens: usize,
    shared_text: usize,
    scale: f32,
    #[comptime] vectors: usize,
    #[comptime] room: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut scores = Shared::<[f32]>::new_slice(room);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let mut partial = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let cube = min(CUBE_POS, all - 1);
    let row = cube / heads * (1 - shared_text);
    let text = (row * heads + cube % heads) * tokens * vectors;
    let unit = UNIT_POS as usize;
    let mut key = unit;
    while key < tokens {
        scores[key] = score::<E, N>(q, cube * vectors, keys, text + key * vectors, vectors) * scale
            + f32::cast_from(bias[row * tokens + key]);
        key += UNITS;
    }
    softmax_of_scores::<E>(&mut scores, &mut shared, tokens);
    let slots = comptime!(UNITS / vectors);
    let (lane, slot) = (unit % vectors, unit / vectors);
    if slot < slots {
        let mut sum = Vector::<f32, N>::cast_from(0.0f32);
        let mut key = slot;
        while key < tokens {
            sum += Vector::<f32, N>::cast_from(scores[key])
                * Vector::<f32, N>::cast_from(values[text + key * vectors + lane]);
            key += slots;
        }
        partial[unit] = sum;
    }
    gather::<E, N>(&partial, out, cube * vectors, vectors);
}

/// As [`attend_to_text`], up to the pattern; see [`text`].
#[cube(launch_unchecked)]
fn pattern_of_text<E: Float, N: Size>(
    q: &Tensor<Vector<E, N>>,
    keys: &Tensor<Vector<E, N>>,
    bias: &Tensor<E>,
    out: &mut Tensor<E>,
    all: usize,
    heads: usize,
    tokens: usize,
    shared_text: usize,
    scale: f32,
    #[comptime] vectors: usize,
    #[comptime] room: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut scores = Shared::<[f32]>::new_slice(room);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let cube = min(CUBE_POS, all - 1);
    let row = cube / heads * (1 - shared_text);
    let text = (row * heads + cube % heads) * tokens * vectors;
    let unit = UNIT_POS as usize;
    let mut key = unit;
    while key < tokens {
        scores[key] = score::<E, N>(q, cube * vectors, keys, text + key * vectors, vectors) * scale
            + f32::cast_from(bias[row * tokens + key]);
        key += UNITS;
    }
    softmax_of_scores::<E>(&mut scores, &mut shared, tokens);
    let mut key = unit;
    while key < tokens {
        out[cube * tokens + key] = E::cast_from(scores[key]);
        key += UNITS;
    }
}

/// The values, weighted by a pattern; see [`mix`].
#[cube(launch_unchecked)]
fn weighted_values<E: Float, N: Size>(
    pattern: &Tensor<E>,
    values: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    all: usize,
    heads: usize,
    keys: usize,
    capacity: usize,
    shared_text: usize,
    #[comptime] vectors: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut partial = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let cube = min(CUBE_POS, all - 1);
    let row = cube / heads * (1 - shared_text);
    let cache = (row * heads + cube % heads) * capacity * vectors;
    let unit = UNIT_POS as usize;
    let slots = comptime!(UNITS / vectors);
    let (lane, slot) = (unit % vectors, unit / vectors);
    if slot < slots {
        let mut sum = Vector::<f32, N>::cast_from(0.0f32);
        let mut key = slot;
        while key < keys {
            sum += Vector::<f32, N>::cast_from(f32::cast_from(pattern[cube * keys + key]))
                * Vector::<f32, N>::cast_from(values[cache + key * vectors + lane]);
            key += slots;
        }
        partial[unit] = sum;
    }
    gather::<E, N>(&partial, out, cube * vectors, vectors);
}

fn empty(like: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), like.dtype)
}

fn types(x: &CubeTensor) -> ElemType {
    element(x.dtype).expect("a type that was asked for")
}

/// Self-attention of a step, whose columns so far `step[at]` says; `seen` is the same number on the host.
///
/// # Shapes
/// - `qkv`: `[row, 3 · head · d_head]`; `keys`, `values`: `[row, head, capacity, d_head]`, written in place
/// - result: `[row, head · d_head]`, or the pattern `[row · head, seen + 1]`
pub(super) fn past(
    qkv: CubeTensor,
    (step, at, seen): (CubeTensor, usize, usize),
    [keys, values]: [CubeTensor; 2],
    scale: f64,
    room: usize,
    pattern: bool,
) -> CubeTensor {
    let cache = keys.meta.shape().clone();
    let (rows, heads, capacity, d_head) = (cache[0], cache[1], cache[2], cache[3]);
    let all = rows * heads;
    let shape = if pattern { [all, seen + 1] } else { [rows, heads * d_head] };
    let out = empty(&qkv, shape);
    let dtypes = [types(&qkv), integers(&step)];
    let (client, dim) = (out.client.clone(), CubeDim::new_1d(UNITS as u32));
    let (qkv, step, result) = (qkv.into_tensor_arg(), step.into_tensor_arg(), out.clone().into_tensor_arg());
    let (keys, values, vectors) = (keys.into_tensor_arg(), values.into_tensor_arg(), d_head / VECTOR);
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        let launch = if pattern { pattern_of_past::launch_unchecked } else { attend_to_past::launch_unchecked };
        launch(
            &client,
            cubes(all),
            dim,
            VECTOR,
            qkv,
            step,
            keys,
            values,
            result,
            at,
            all,
            heads,
            capacity,
            scale as f32,
            vectors,
            room,
            dtypes,
        );
    }
    out
}

/// Attention of a step to a text.
///
/// # Shapes
/// - `q`: `[row, head · d_head]`; `keys`, `values`: `[row or 1, head, token, d_head]`; `bias`: `[row or 1, 1, 1, token]`
/// - result: `[row, head · d_head]`, or the pattern `[row · head, token]`
pub(super) fn text(
    q: CubeTensor,
    [keys, values]: [CubeTensor; 2],
    bias: CubeTensor,
    scale: f64,
    room: usize,
    pattern: bool,
) -> CubeTensor {
    let cache = keys.meta.shape().clone();
    let (texts, heads, tokens, d_head) = (cache[0], cache[1], cache[2], cache[3]);
    let rows = q.meta.shape()[0];
    let (all, shared_text) = (rows * heads, usize::from(texts == 1));
    let out = empty(&q, if pattern { [all, tokens] } else { [rows, heads * d_head] });
    let (dtype, vectors) = (types(&q), d_head / VECTOR);
    let (client, dim, scale) = (out.client.clone(), CubeDim::new_1d(UNITS as u32), scale as f32);
    let (q, bias, result) = (q.into_tensor_arg(), bias.into_tensor_arg(), out.clone().into_tensor_arg());
    let (keys, values) = (keys.into_tensor_arg(), values.into_tensor_arg());
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        if pattern {
            pattern_of_text::launch_unchecked(
                &client,
                cubes(all),
                dim,
                VECTOR,
                q,
                keys,
                bias,
                result,
                all,
                heads,
                tokens,
                shared_text,
                scale,
                vectors,
                room,
                dtype,
            );
        } else {
            attend_to_text::launch_unchecked(
                &client,
                cubes(all),
                dim,
                VECTOR,
                q,
                keys,
                values,
                bias,
                result,
                all,
                heads,
                tokens,
                shared_text,
                scale,
                vectors,
                room,
                dtype,
            );
        }
    }
    out
}

/// The values, weighted by the rows of a pattern.
///
/// # Shapes
/// - `pattern`: `[row · head, key]`; `values`: `[row or 1, head, key or more, d_head]`; result: `[row, head · d_head]`
pub(super) fn mix(pattern: CubeTensor, values: CubeTensor) -> CubeTensor {
    let cache = values.meta.shape().clone();
    let (texts, heads, capacity, d_head) = (cache[0], cache[1], cache[2], cache[3]);
    let (all, keys) = (pattern.meta.shape()[0], pattern.meta.shape()[1]);
    let rows = all / heads;
    let out = empty(&pattern, [rows, heads * d_head]);
    let dtype = types(&pattern);
    #[expect(unsafe_code, reason = "a kernel without checks of its own")]
    // SAFETY: no index is beyond the shapes that the callers keep to.
    unsafe {
        weighted_values::launch_unchecked(
            &out.client,
            cubes(all),
            CubeDim::new_1d(UNITS as u32),
            VECTOR,
            pattern.into_tensor_arg(),
            values.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            all,
            heads,
            keys,
            capacity,
            usize::from(texts == 1),
            d_head / VECTOR,
            dtype,
        );
    }
    out
}
