//! Kernels of a step against sums in 64 bits, with and without hooks' need for a pattern.

use burn::tensor::{Device, Int, Tensor, TensorData};
use tonoscope_core::checkpoint::{
    Act, Attended, Epilogue, MatrixPacker, MatrixValues, PastAttention, Recurrence, Rows, StepInput, TextAttention,
    TurnedHeads,
};

use super::{
    matrix::GpuPacker,
    tests::{close, gpu, numbers, product, tensor},
};

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    scores.iter().map(|score| (score - largest).exp() / sum).collect()
}

/// `softmax(scale · q kᵀ + bias)` of one head, and its sum of values.
fn attended(q: &[f64], keys: &[f64], values: &[f64], scale: f64, bias: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let width = q.len();
    let score = |key: &[f64]| q.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * scale;
    let scores: Vec<f64> = keys.chunks(width).zip(bias).map(|(key, bias)| score(key) + bias).collect();
    let pattern = softmax(&scores);
    let sum = |at: usize| pattern.iter().zip(values.chunks(width)).map(|(weight, value)| weight * value[at]).sum();
    let mixed = (0..width).map(sum).collect();
    (pattern, mixed)
}

fn step(codes: &[i64], seen: usize, rows: usize, device: &Device) -> StepInput {
    let numbers: Vec<i64> = codes.iter().copied().chain([seen as i64]).collect();
    let numbers = Tensor::<1, Int>::from_data(numbers.as_slice(), device);
    StepInput { numbers, rows, codebooks: codes.len() / rows, seen }
}

#[test]
fn a_step_attends_to_its_past_and_becomes_part_of_it() {
    let Some(device) = gpu() else { return };
    let kernels = GpuPacker::new(&device, false).kernels().unwrap();
    for (rows, heads, d_head, capacity) in [(1, 1, 4, 3), (3, 2, 24, 70), (2, 4, 64, 200)] {
        let width = heads * d_head;
        let size = rows * heads * capacity * d_head;
        let cache = || Tensor::<4>::zeros([rows, heads, capacity, d_head], &device);
        let caches = [[cache(), cache()], [cache(), cache()]];
        let mut past = vec![];
        for seen in [0, 1, 66, capacity - 1].into_iter().filter(|seen| *seen < capacity) {
            // What the cache would hold by now.
            while past.len() < seen {
                let all = numbers(past.len() + 1, rows * 3 * width);
                let input = step(&vec![0; rows], past.len(), rows, &device);
                for [keys, values] in &caches {
                    let qkv = tensor(&all, [rows, 3 * width], &device);
                    let _ = kernels
                        .attend_past(PastAttention { qkv, keys, values, step: &input, scale: 0.3 }, Attended::Mixed);
                }
                past.push(wide(&all));
            }
            let all = numbers(seen + 1, rows * 3 * width);
            let input = step(&vec![0; rows], seen, rows, &device);
            let qkv = || tensor(&all, [rows, 3 * width], &device);
            let of = |caches: &[Tensor<4>; 2], wanted| {
                let [keys, values] = caches;
                kernels.attend_past(PastAttention { qkv: qkv(), keys, values, step: &input, scale: 0.3 }, wanted)
            };
            let mixed = of(&caches[0], Attended::Mixed);
            let pattern = of(&caches[1], Attended::Pattern);
            let again = kernels.mix(pattern.clone(), &caches[1][1]);
            assert_eq!(values(mixed.clone()), values(again), "{seen} seen: a pattern that is looked at");
            past.push(wide(&all));
            let (mut expected_pattern, mut expected) = (vec![], vec![]);
            for row in 0..rows {
                for head in 0..heads {
                    let part = |columns: &[Vec<f64>], part: usize| -> Vec<f64> {
                        let from = row * 3 * width + part * width + head * d_head;
                        columns.iter().flat_map(|column| column[from..from + d_head].to_vec()).collect()
                    };
                    let q = part(&past[seen..], 0);
                    let (weights, z) = attended(&q, &part(&past, 1), &part(&past, 2), 0.3, &vec![0.0; seen + 1]);
                    expected_pattern.extend(weights);
                    expected.extend(z);
                }
            }
            let of = format!("{rows} rows, {heads} heads of {d_head}, {seen} seen");
            close(pattern, &expected_pattern, 1e-6, &format!("pattern of {of}"));
            close(mixed, &expected, 1e-6, &format!("attention of {of}"));
        }
        assert_eq!(values(caches[0][0].clone()).len(), size);
        assert_eq!(values(caches[0][0].clone()), values(caches[1][0].clone()), "keys");
        assert_eq!(values(caches[0][1].clone()), values(caches[1][1].clone()), "values");
    }
}

#[test]
fn a_step_attends_to_a_text() {
    let Some(device) = gpu() else { return };
    let kernels = GpuPacker::new(&device, false).kernels().unwrap();
    for (rows, texts, heads, d_head, tokens) in [(1, 1, 1, 4, 1), (3, 1, 2, 24, 16), (3, 3, 2, 64, 130)] {
        let width = heads * d_head;
        let q = numbers(1, rows * width);
        let (k, v) = (numbers(2, texts * heads * tokens * d_head), numbers(3, texts * heads * tokens * d_head));
        let hidden = |at: usize| if at % tokens > tokens / 2 { f32::MIN } else { 0.0 };
        let bias: Vec<f32> = (0..texts * tokens).map(hidden).collect();
        let shape = [texts, heads, tokens, d_head];
        let (keys, vals) = (tensor(&k, shape, &device), tensor(&v, shape, &device));
        let bias_there = tensor(&bias, [texts, 1, 1, tokens], &device);
        let of = |wanted| {
            let q = tensor(&q, [rows, width], &device);
            let attention = TextAttention { q, keys: &keys, values: &vals, bias: &bias_there, scale: 0.125 };
            kernels.attend_text(attention, wanted)
        };
        let (mixed, pattern) = (of(Attended::Mixed), of(Attended::Pattern));
        assert_eq!(values(mixed.clone()), values(kernels.mix(pattern.clone(), &vals)), "a pattern that is looked at");
        let (mut expected_pattern, mut expected) = (vec![], vec![]);
        for row in 0..rows {
            let text = row.min(texts - 1);
            for head in 0..heads {
                let from = (text * heads + head) * tokens * d_head;
                let (k, v) = (wide(&k[from..][..tokens * d_head]), wide(&v[from..][..tokens * d_head]));
                let q = wide(&q[row * width + head * d_head..][..d_head]);
                let (weights, z) = attended(&q, &k, &v, 0.125, &wide(&bias[text * tokens..][..tokens]));
                expected_pattern.extend(weights);
                expected.extend(z);
            }
        }
        close(pattern, &expected_pattern, 1e-6, &format!("pattern over {tokens} tokens of {texts} texts"));
        close(mixed, &expected, 1e-6, &format!("attention to {tokens} tokens of {texts} texts"));
    }
}

#[test]
fn what_follows_a_product() {
    let Some(device) = gpu() else { return };
    let packer = GpuPacker::new(&device, false);
    let (out, width) = (24, 64);
    let (w, bias) = (numbers(1, out * width), numbers(2, out));
    let matrix = packer.pack([out, width], MatrixValues::F32(w.as_slice().into()));
    let gelu = |x: f64| x * (1.0 + erf(x / 2f64.sqrt())) / 2.0;
    let silu = |x: f64| x / (1.0 + (-x).exp());
    for (rows, more) in [(1, 0), (2, 2), (9, 3)] {
        // Small enough for the series of the error function below.
        let x: Vec<f32> = numbers(3, rows * width).iter().map(|x| x / 8.0).collect();
        let residual = numbers(4, (rows + more) * out);
        let y = product(&x, &w, width);
        let biased: Vec<f64> = y.iter().enumerate().map(|(at, y)| y + f64::from(bias[at % out])).collect();
        let acts: [(Act, &dyn Fn(f64) -> f64); 3] = [(Act::Identity, &|x| x), (Act::Gelu, &gelu), (Act::Silu, &silu)];
        for (act, of) in acts {
            for kind in [Rows::Steps, Rows::Positions] {
                let what = format!("{kind:?} of {rows}, {act:?}");
                let finished = |residual| {
                    let bias = Some(tensor(&bias, [out], &device));
                    matrix.finished(tensor(&x, [rows, width], &device), kind, Epilogue { bias, act, residual })
                };
                let expected: Vec<f64> = biased.iter().map(|y| of(*y)).collect();
                let alone = finished(None);
                close(alone.clone(), &expected, 5e-6, &what);
                let added: Vec<f64> = wide(&residual)
                    .iter()
                    .enumerate()
                    .map(|(at, residual)| residual + expected.get(at).copied().unwrap_or(0.0))
                    .collect();
                let there = tensor(&residual, [rows + more, out], &device);
                let together = finished(Some(there));
                close(together.clone(), &added, 5e-6, &format!("{what}, added"));
                let apart: Vec<f32> = residual
                    .iter()
                    .zip(values(alone).into_iter().chain(std::iter::repeat(0.0)))
                    .map(|(residual, y)| residual + y)
                    .collect();
                assert_eq!(values(together), apart, "{what}: one kernel or two");
            }
        }
        let gated: Vec<f64> = biased
            .chunks(out)
            .flat_map(|row| (0..out / 2).map(move |at| row[at] * silu(row[out / 2 + at])).collect::<Vec<f64>>())
            .collect();
        let after = Epilogue { bias: Some(tensor(&bias, [out], &device)), act: Act::GatedSilu, residual: None };
        let found = matrix.finished(tensor(&x, [rows, width], &device), Rows::Positions, after);
        close(found, &gated, 5e-6, &format!("gated, {rows} rows"));
    }
}

/// By its series, which is exact for the small numbers here.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn matrices_that_are_joined_give_the_same_bits() {
    let Some(device) = gpu() else { return };
    let packer = GpuPacker::new(&device, false);
    let pack = |seed, out| packer.pack([out, 32], MatrixValues::F32(numbers(seed, out * 32).as_slice().into()));
    let (a, b) = (pack(1, 12), pack(2, 20));
    let joined = a.joined(&[&*b]).unwrap();
    let x = || tensor(&numbers(3, 2 * 32), [2, 32], &device);
    let [first, second] = [a, b].map(|matrix| values(matrix.product_of_steps(x())));
    let both: Vec<f32> = [0, 1]
        .into_iter()
        .flat_map(|row| first[row * 12..][..12].iter().chain(&second[row * 20..][..20]).copied().collect::<Vec<f32>>())
        .collect();
    assert_eq!(values(joined.product_of_steps(x())), both);
}

#[test]
fn kernels_of_single_numbers() {
    let Some(device) = gpu() else { return };
    let kernels = GpuPacker::new(&device, false).kernels().unwrap();
    let (x, y) = (numbers(1, 3 * 70), numbers(2, 3 * 70));
    let pair = || (tensor(&x, [3, 70], &device), tensor(&y, [3, 70], &device));
    let each = |of: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        wide(&x).into_iter().zip(wide(&y)).map(|(x, y)| of(x, y)).collect()
    };
    let (cond, uncond) = pair();
    close(kernels.guide(cond, uncond, 3.0), &each(&|x, y| y + 3.0 * (x - y)), 1e-6, "guidance");
    let (a, b) = pair();
    close(kernels.blend(a, 0.7, b, -1.3), &each(&|x, y| 0.7 * x - 1.3 * y), 1e-6, "blend");
    // Codes of two rows and two codebooks, the seventh step.
    let (tables, positions) = (numbers(3, 2 * 5 * 8), numbers(4, 9 * 8));
    let input = step(&[4, 0, 2, 3], 7, 2, &device);
    let found = kernels.embed(&input, tensor(&tables, [10, 8], &device), tensor(&positions, [9, 8], &device), 2.0);
    let (tables, positions) = (wide(&tables), wide(&positions));
    let expected: Vec<f64> = [[4, 5], [2, 8]]
        .into_iter()
        .flat_map(|entries| (0..8).map(move |at| (entries, at)))
        .map(|(entries, at)| {
            2.0 * entries.iter().map(|entry| tables[entry * 8 + at]).sum::<f64>() + positions[7 * 8 + at]
        })
        .collect();
    close(found, &expected, 1e-6, "embeddings");
}

#[test]
fn kernels_that_move_heads_and_steps() {
    let Some(device) = gpu() else { return };
    let kernels = GpuPacker::new(&device, false).kernels().unwrap();
    let (rows, time, heads, groups, d_head, half) = (2, 3, 4, 2, 6, 2);
    let units = heads + 2 * groups;
    let qkv = numbers(1, rows * time * units * d_head);
    let (cos, sin) = (numbers(2, time * half), numbers(3, time * half));
    let turned = TurnedHeads {
        qkv: tensor(&qkv, [rows, time, units * d_head], &device),
        cos: tensor(&cos, [time, half], &device),
        sin: tensor(&sin, [time, half], &device),
        heads,
        groups,
        scale: 0.5,
    };
    let [q, k, v] = kernels.turned_heads(turned);
    assert_eq!([q.dims(), k.dims(), v.dims()], [[4, 6, 6], [4, 3, 6], [4, 3, 6]]);
    let at = |row: usize, step: usize, unit: usize, feature: usize| {
        f64::from(qkv[((row * time + step) * units + unit) * d_head + feature])
    };
    let turn = |row: usize, step: usize, unit: usize, feature: usize| {
        if feature >= 2 * half {
            return at(row, step, unit, feature);
        }
        let (cos, sin) = (f64::from(cos[step * half + feature % half]), f64::from(sin[step * half + feature % half]));
        let (even, odd) = (at(row, step, unit, feature % half), at(row, step, unit, feature % half + half));
        if feature < half { even * cos - odd * sin } else { odd * cos + even * sin }
    };
    let by_head = |units: std::ops::Range<usize>, of: &dyn Fn(usize, usize, usize, usize) -> f64| -> Vec<f64> {
        let rows = (0..rows).flat_map(|row| units.clone().map(move |unit| (row, unit)));
        let steps = rows.flat_map(|(row, unit)| (0..time).map(move |step| (row, unit, step)));
        steps.flat_map(|(row, unit, step)| (0..d_head).map(move |at| of(row, step, unit, at))).collect()
    };
    let flat = |x: Tensor<3>| {
        let all = x.dims().iter().product::<usize>();
        x.reshape([1, all])
    };
    let queries: Vec<f64> = by_head(0..heads, &turn).into_iter().map(|x| 0.5 * x).collect();
    close(flat(q), &queries, 1e-6, "queries");
    close(flat(k), &by_head(heads..heads + groups, &turn), 1e-6, "keys");
    close(flat(v), &by_head(heads + groups..units, &at), 0.0, "values");
    let x = tensor(&qkv, [rows, time, units * d_head], &device);
    close(flat(kernels.heads_first(x.clone(), units, 1.0)), &by_head(0..units, &at), 0.0, "heads first");
    let first = numbers(5, rows * units * d_head);
    let found = kernels.prepend(tensor(&first, [rows, 1, units * d_head], &device), x.clone(), 2);
    let first = tensor(&first, [rows, 1, units * d_head], &device);
    let expected = Tensor::cat(vec![Tensor::cat(vec![first, x], 1); 2], 0);
    assert_eq!(values(found), values(expected));
}

#[test]
fn a_recurrent_layer_goes_on_where_it_stopped() {
    let Some(device) = gpu() else { return };
    let packer = GpuPacker::new(&device, false);
    let kernels = packer.kernels().unwrap();
    let (width, batch, time) = (64, 2, 5);
    let w = numbers(1, 4 * width * width);
    let matrix = packer.pack([4 * width, width], MatrixValues::F32(w.as_slice().into()));
    let inputs = numbers(2, time * batch * 4 * width);
    let run = |from: usize, to: usize, state: Option<[Tensor<2>; 2]>| {
        let part = &inputs[from * batch * 4 * width..to * batch * 4 * width];
        let part = TensorData::new(part.to_vec(), [(to - from) * batch, 4 * width]);
        let part = Tensor::<2>::from_data(part, &device);
        kernels.lstm(Recurrence { inputs: &part, weight: &*matrix, state, batch }).expect("a kernel for these shapes")
    };
    let whole = run(0, time, None);
    let begun = run(0, 2, None);
    let gone_on = run(2, time, Some(begun.state));
    let parts: Vec<f32> = values(begun.hidden).into_iter().chain(values(gone_on.hidden)).collect();
    assert_eq!(values(whole.hidden.clone()), parts);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (w, inputs) = (wide(&w), wide(&inputs));
    let (mut hidden, mut cell) = (vec![0.0; batch * width], vec![0.0; batch * width]);
    let mut expected = vec![];
    for step in 0..time {
        let before = hidden.clone();
        for row in 0..batch {
            for at in 0..width {
                let gate = |gate: usize| {
                    let output = gate * width + at;
                    let input = inputs[(step * batch + row) * 4 * width + output];
                    let kept: f64 = (0..width).map(|from| w[output * width + from] * before[row * width + from]).sum();
                    input + kept
                };
                let now = sigmoid(gate(1)) * cell[row * width + at] + sigmoid(gate(0)) * gate(2).tanh();
                cell[row * width + at] = now;
                hidden[row * width + at] = sigmoid(gate(3)) * now.tanh();
            }
        }
        expected.extend(hidden.clone());
    }
    close(whole.hidden, &expected, 5e-6, "hidden states");
}

#[test]
fn products_of_32_bits_that_use_no_tensor_cores() {
    let Some(device) = gpu() else { return };
    let kernels = GpuPacker::new(&device, true).kernels().unwrap();
    assert!(GpuPacker::new(&device, false).kernels().unwrap().matmul(&ones(&device), &ones(&device)).is_none());
    for (batch, one, rows, width, columns) in [(1, true, 70, 64, 33), (3, false, 20, 130, 40), (3, true, 5, 7, 9)] {
        let many = if one { 1 } else { batch };
        let (a, b) = (numbers(1, batch * rows * width), numbers(2, many * columns * width));
        let x = tensor(&a, [1, batch, rows, width], &device);
        // As a matrix `[out, in]` is, on its other side.
        let y = tensor(&b, [1, many, columns, width], &device).swap_dims(2, 3);
        let found = kernels.matmul(&x, &y).expect("the product of 32-bit tensors");
        assert_eq!(found.dims(), [1, batch, rows, columns]);
        let part = |index: usize| {
            let b = if one { &b[..] } else { &b[index * columns * width..][..columns * width] };
            product(&a[index * rows * width..][..rows * width], b, width)
        };
        let expected: Vec<f64> = (0..batch).flat_map(part).collect();
        close(found.reshape([1, batch * rows * columns]), &expected, 5e-7, &format!("{batch} of {rows} x {width}"));
    }
}

fn ones(device: &Device) -> Tensor<4> {
    Tensor::ones([1, 1, 4, 4], device)
}
