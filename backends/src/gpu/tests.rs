//! The kernels against sums in 64 bits, on whatever GPU there is, in software too.

use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::checkpoint::{MatrixPacker, MatrixValues};

use super::matrix::GpuPacker;
use crate::{Kind, Opened, Request, list, open};

/// The first GPU, or a message that the test was skipped.
pub(super) fn gpu() -> Option<Device> {
    let found = list().into_iter().find(|device| device.kind != Kind::Cpu);
    let Some(info) = found else {
        eprintln!("SKIPPED: no GPU on this machine (Debian: apt-get install mesa-vulkan-drivers)");
        return None;
    };
    match open(&Request { name: info.name, ..Request::default() }) {
        Ok(Opened { placement, .. }) => Some(placement.device),
        Err(error) => panic!("{} does not open: {error}", info.adapter),
    }
}

/// Numbers between −1 and 1 that do not repeat soon.
pub(super) fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729) % 20_011) as f32 / 10_005.0 - 1.0).collect()
}

pub(super) fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Asserts that `found` is `expected`, up to `bound` of the largest.
pub(super) fn close(found: Tensor<2>, expected: &[f64], bound: f64, what: &str) {
    let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let off = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
    let off = off.fold(0.0, f64::max) / largest;
    eprintln!("{what}: off by {off:.1e}");
    assert!(off <= bound, "{what}: off by {off:e}");
}

pub(super) fn product(x: &[f32], w: &[f32], width: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(width).flat_map(|x| w.chunks(width).map(move |w| dot(x, w))).collect()
}

#[test]
fn few_and_many_rows_times_a_matrix() {
    let Some(device) = gpu() else { return };
    let packer = GpuPacker::new(&device, false);
    // Widths for one unit and for all of a cube; one that is no multiple of what is read at once; more rows than few.
    for (out, width) in [(5, 4), (33, 64), (1000, 128), (70, 1024), (40, 4096), (7, 30)] {
        let w = numbers(1, out * width);
        let matrix = packer.pack([out, width], MatrixValues::F32(w.as_slice().into()));
        for rows in [1, 2, 3, 8, 9, 17] {
            let x = numbers(2, rows * width);
            // Sums of up to 4096 products in 32 bits: 64 that are summed in turn here, 4096 in Burn's kernels for many rows.
            let (x_there, expected) = (|| tensor(&x, [rows, width], &device), product(&x, &w, width));
            close(matrix.product_of_steps(x_there()), &expected, 5e-7, &format!("{rows} steps, {out} x {width}"));
            close(matrix.product(x_there()), &expected, 5e-6, &format!("{rows} rows, {out} x {width}"));
        }
    }
}

#[test]
fn a_step_is_the_same_among_any_number_of_others() {
    let Some(device) = gpu() else { return };
    let (out, width) = (40, 512);
    let w = numbers(8, out * width);
    let matrix = GpuPacker::new(&device, false).pack([out, width], MatrixValues::F32(w.as_slice().into()));
    let x = numbers(9, 20 * width);
    let of = |rows: usize| -> Vec<f32> {
        let x = tensor(&x[..rows * width], [rows, width], &device);
        matrix.product_of_steps(x).into_data().try_to_vec().unwrap()
    };
    let all = of(20);
    for rows in [1, 2, 5, 8, 9, 16] {
        assert_eq!(of(rows), all[..rows * out], "{rows} rows");
    }
}

#[test]
fn rows_that_do_not_lie_in_order() {
    let Some(device) = gpu() else { return };
    let (out, width) = (12, 64);
    let (x, w) = (numbers(3, 2 * width), numbers(4, out * width));
    let matrix = GpuPacker::new(&device, false).pack([out, width], MatrixValues::F32(w.as_slice().into()));
    let transposed: Vec<f32> = (0..width).flat_map(|column| [x[column], x[width + column]]).collect();
    let turned = tensor(&transposed, [width, 2], &device).transpose();
    close(matrix.product_of_steps(turned), &product(&x, &w, width), 1e-6, "transposed rows");
}

#[test]
fn what_stands_between_matrices() {
    let Some(device) = gpu() else { return };
    let packer = GpuPacker::new(&device, false);
    let matrix = packer.pack([1, 4], MatrixValues::F32([0.0; 4].as_slice().into()));
    for (rows, width) in [(1, 1), (2, 7), (3, 64), (5, 1000)] {
        let scaled: Vec<f32> = numbers(5, rows * width).iter().map(|value| value * 8.0).collect();
        let x = || tensor(&scaled, [rows, width], &device);
        let each = |row: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
            let exact: Vec<f64> = scaled.iter().map(|value| f64::from(*value)).collect();
            exact.chunks(width).flat_map(row).collect()
        };
        let of = format!("of {rows} x {width}");
        let softmax = each(&|row| {
            let largest = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|value| (value - largest).exp()).sum();
            row.iter().map(|value| (value - largest).exp() / sum).collect()
        });
        close(matrix.softmax(x()), &softmax, 1e-6, &format!("softmax {of}"));
        let (weight, bias) = (numbers(6, width), numbers(7, width));
        let normal = each(&|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = row
                .iter()
                .zip(&weight)
                .map(|(value, weight)| (value - mean) / (variance + 1e-5).sqrt() * f64::from(*weight));
            scaled.zip(&bias).map(|(value, bias)| value + f64::from(*bias)).collect()
        });
        let kernels = packer.kernels().unwrap();
        let found = kernels.layer_norm(x(), tensor(&weight, [width], &device), tensor(&bias, [width], &device), 1e-5);
        close(found, &normal, 5e-7, &format!("layer norm {of}"));
        // Burn's own, whose error function is the same polynomial.
        let gelu: Vec<f32> = burn::tensor::activation::gelu(x()).into_data().try_to_vec().unwrap();
        let gelu: Vec<f64> = gelu.into_iter().map(f64::from).collect();
        close(matrix.gelu(x()), &gelu, 1e-7, &format!("GELU {of}"));
    }
}
