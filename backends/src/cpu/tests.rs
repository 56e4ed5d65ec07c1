//! The product against a plain one in `f64`, and against itself in other batches.

use burn::tensor::Device;
use proptest::prelude::*;
use tonoscope_core::checkpoint::{Before, Ends, SnakeValues};

use super::*;

const FORMATS: [WeightFormat; 4] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8, WeightFormat::Int4];

/// Normal numbers with variance one, from a seed.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut draw = move || (-2.0 * uniform().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..len).map(|_| draw() as f32).collect()
}

fn matrix(format: WeightFormat, shape: [usize; 2], weights: &[f32]) -> CpuMatrix {
    CpuMatrix::new(format, shape, &MatrixValues::F32(weights.into()))
}

/// `x Wᵀ` for `x` `[rows, in]`.
fn product(matrix: &CpuMatrix, x: &[f32], rows: usize) -> Vec<f32> {
    let [out, width] = matrix.shape;
    product::multiply(&[(&matrix.panels, out)], width, x, rows, |value| value).remove(0)
}

fn exact([out, width]: [usize; 2], weights: &[f32], x: &[f32]) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(width).flat_map(|x| weights.chunks(width).take(out).map(move |w| dot(x, w))).collect()
}

/// Root mean square of the error over that of the right numbers.
fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    let error: f64 = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).powi(2)).sum();
    (error / expected.iter().map(|expected| expected.powi(2)).sum::<f64>()).sqrt()
}

/// Errors that cannot be larger: rounding of `f32` sums, of 11 bits, and of a step of a 127th of the largest weight.
fn bound(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::F32 => 1e-6,
        WeightFormat::F16 => 3e-4,
        WeightFormat::Int8 => 8e-3,
        WeightFormat::Int4 => 0.1,
    }
}

#[test]
fn formats_lose_what_they_say() {
    let shape = [512, 1024];
    let (weights, x) = (normal(1, shape[0] * shape[1]), normal(2, 8 * shape[1]));
    let expected = exact(shape, &weights, &x);
    for format in FORMATS {
        let error = relative_error(&product(&matrix(format, shape, &weights), &x, 8), &expected);
        eprintln!("{format}: relative error {error:.2e}");
        assert!(error < bound(format), "{format}: {error}");
    }
}

#[test]
fn a_row_is_the_same_in_every_batch() {
    let shape = [100, 300];
    let (weights, x) = (normal(3, shape[0] * shape[1]), normal(4, 150 * shape[1]));
    for format in FORMATS {
        let matrix = matrix(format, shape, &weights);
        let all = product(&matrix, &x, 150);
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 16, 72, 73] {
            let some = product(&matrix, &x[..rows * shape[1]], rows);
            assert!(some.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits()), "{format}, {rows} rows");
        }
    }
}

#[test]
fn a_row_is_the_same_on_every_number_of_threads() {
    let shape = [1000, 512];
    let (weights, x) = (normal(5, shape[0] * shape[1]), normal(6, 4 * shape[1]));
    for format in FORMATS {
        let matrix = matrix(format, shape, &weights);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| product(&matrix, &x, 4))
        };
        assert_eq!(on(1), on(3), "{format}");
    }
}

#[test]
fn several_matrices_at_once_are_what_they_are_one_by_one() {
    let width = 300;
    let shapes = [[500, width], [1, width], [33, width]];
    let device = Device::flex();
    for (format, rows) in FORMATS.into_iter().flat_map(|format| [(format, 1), (format, 5), (format, 150)]) {
        let packer = CpuPacker::new(format);
        let pack = |[out, width]: [usize; 2]| {
            packer.pack([out, width], MatrixValues::F32(normal(out as u64, out * width).into()))
        };
        let matrices = shapes.map(pack);
        let x = Tensor::<2>::from_data(TensorData::new(normal(17, rows * width), [rows, width]), &device);
        let all = matrices[0].products(&[&*matrices[1], &*matrices[2]], x.clone());
        assert_eq!(all.len(), 3);
        for (found, matrix) in all.into_iter().zip(matrices) {
            assert_eq!(found.into_data(), matrix.product(x.clone()).into_data(), "{format}, {rows} rows");
        }
    }
}

#[test]
fn numbers_that_are_none_stay_visible() {
    for (format, bad) in FORMATS.into_iter().flat_map(|format| [(format, f32::NAN), (format, f32::INFINITY)]) {
        let mut weights = vec![1.0; 40 * 70];
        weights[3 * 70 + 5] = bad;
        let y = product(&matrix(format, [40, 70], &weights), &[1.0; 70], 1);
        assert!(!y[3].is_finite(), "{format} hides {bad}");
        assert!(y.iter().enumerate().all(|(output, y)| output == 3 || (y - 70.0).abs() < 1.0), "{format}: {y:?}");
    }
}

#[test]
fn what_is_too_large_for_half_precision_is_kept_whole() {
    for large in [1e6, f32::INFINITY] {
        let matrix = CpuPacker::new(WeightFormat::F16).pack([1, 1], MatrixValues::F32([large].as_slice().into()));
        let y = matrix.product(Tensor::<2>::ones([1, 1], &Device::flex()));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [large]);
    }
}

#[test]
fn half_precision_checkpoints_lose_nothing_in_half_precision() {
    let weights: Vec<f16> = normal(7, 64 * 128).into_iter().map(|value| f16::from_f32(value * 1e-3)).collect();
    let values = MatrixValues::F16(weights.as_slice().into());
    let x = normal(8, 128);
    let found = |format| product(&CpuMatrix::new(format, [64, 128], &values), &x, 1);
    assert_eq!(found(WeightFormat::F32), found(WeightFormat::F16));
}

#[test]
fn tensors_of_every_layout_and_type() {
    let device = Device::flex();
    let (weights, x) = (normal(9, 10 * 6), normal(10, 4 * 6));
    let packed = CpuPacker::new(WeightFormat::F32).pack([10, 6], MatrixValues::F32(weights.as_slice().into()));
    let plain = Tensor::<2>::from_data(TensorData::new(weights, [10, 6]), &device);
    let x = Tensor::<2>::from_data(TensorData::new(x, [4, 6]), &device);
    let layouts = [
        x.clone(),
        x.clone().slice([1..3, 0..6]),
        x.transpose().slice([0..4, 0..4]).transpose().slice([0..2, 0..4]).repeat_dim(1, 2).slice([0..2, 0..6]),
    ];
    for x in layouts {
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F16, 1e-2), (DType::BF16, 1e-1)] {
            let found = packed.product(x.clone().cast(dtype));
            assert_eq!(found.dtype(), dtype);
            let expected = x.clone().matmul(plain.clone().transpose());
            let difference = (found.cast(DType::F32) - expected).abs().max().into_scalar::<f32>();
            assert!(difference < bound, "{dtype:?}: {difference}");
        }
    }
}

proptest! {
    #[test]
    fn every_shape(out in 1_usize..80, width in 1_usize..200, rows in 1_usize..20, seed in any::<u64>()) {
        let (weights, x) = (normal(seed, out * width), normal(!seed, rows * width));
        let expected = exact([out, width], &weights, &x);
        for format in FORMATS {
            let found = product(&matrix(format, [out, width], &weights), &x, rows);
            prop_assert_eq!(found.len(), expected.len());
            // A few numbers may cancel: the bound is for the size of what is added.
            let size = (rows as f64 * out as f64 * width as f64).sqrt();
            let error: f64 = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
            prop_assert!(error.sqrt() / size < 3.0 * bound(format), "{}: {}", format, error.sqrt() / size);
        }
    }
}

/// A convolution with a snake, for `[taps, in, out]`.
fn taps(shape: [usize; 3], dilation: usize) -> (TapValues, CpuTaps) {
    let [count, width, out] = shape;
    let positive = |seed| normal(seed, width).into_iter().map(f32::exp).collect();
    let values = TapValues {
        weights: normal(10, count * width * out),
        shape,
        dilation,
        bias: Some(normal(11, out)),
        before: Before::Snake(SnakeValues { frequency: positive(12), height: positive(13) }),
    };
    (values.clone(), CpuTaps::new(values))
}

#[test]
fn a_convolution_is_what_its_formula_says() {
    for (shape, dilation, left, time, steps) in [
        ([7, 70, 40], 9, 27, 100, 100),
        ([7, 3, 2], 1, 3, 5, 5),
        ([2, 64, 33], 1, 1, 200, 201),
        ([1, 5, 5], 1, 0, 9, 4),
    ] {
        let (values, packed) = taps(shape, dilation);
        let [count, width, out] = shape;
        let x = normal(14, 2 * time * width);
        let Before::Snake(snake) = values.before else { unreachable!("taps makes one") };
        let mut expected = vec![];
        for (row, step) in (0..2).flat_map(|row| (0..steps).map(move |step| (row, step))) {
            for output in 0..out {
                let mut sum = f64::from(values.bias.as_ref().expect("a bias")[output]);
                for tap in 0..count {
                    let Some(at) = (step + tap * dilation).checked_sub(left).filter(|at| *at < time) else { continue };
                    for input in 0..width {
                        let x = f64::from(x[(row * time + at) * width + input]);
                        let sine = (f64::from(snake.frequency[input]) * x).sin();
                        let active = x + f64::from(snake.height[input]) * sine * sine;
                        sum += active * f64::from(values.weights[(tap * width + input) * out + output]);
                    }
                }
                expected.push(sum);
            }
        }
        let found = packed.convolve(&x, [2, time], left, steps, Ends::Zero);
        let error = relative_error(&found, &expected);
        assert!(error < 1e-6, "{shape:?}: {error:.1e}");
    }
}

#[test]
fn a_step_of_a_convolution_is_the_same_in_every_stretch_and_on_every_number_of_threads() {
    let (_, packed) = taps([7, 70, 40], 3);
    let x = normal(15, 700 * 70);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| packed.convolve(&x, [1, 700], 9, 700, Ends::Zero))
    };
    let all = on(1);
    assert_eq!(all, on(3));
    for (start, steps) in [(0, 1), (5, 3), (100, 72), (101, 599), (699, 1)] {
        // The same stretch with what it sees before it.
        let from = start.min(9);
        let some = packed.convolve(&x[(start - from) * 70..], [1, 700 - start + from], 9 - from, steps, Ends::Zero);
        assert_eq!(some, all[start * 40..(start + steps) * 40], "{steps} steps from {start}");
    }
}

#[test]
fn reflected_ends_are_those_of_an_input_with_its_ends_mirrored() {
    let (width, [left, right]) = (40, [6, 12]);
    for (time, before) in [(200, Before::Elu), (13, Before::Nothing)] {
        let (mut values, _) = taps([7, width, 33], 3);
        values.before = before;
        let packed = CpuTaps::new(values);
        let x = normal(16, time * width);
        let row = |step: usize| &x[step * width..][..width];
        let mirrored = (1..=left).rev().chain(0..time).chain((0..right).map(|step| time - 2 - step));
        let mirrored: Vec<f32> = mirrored.flat_map(row).copied().collect();
        let expected = packed.convolve(&mirrored, [1, left + time + right], 0, time, Ends::Zero);
        assert_eq!(packed.convolve(&x, [1, time], left, time, Ends::Reflected), expected);
    }
}
