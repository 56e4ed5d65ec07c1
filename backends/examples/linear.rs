//! Speed of products with packed matrices, beside the speed at which this machine reads memory at the same moment.
//!
//! `cargo run --release -p tonoscope-backends --example linear`
#![expect(clippy::print_stdout, reason = "a table for the terminal")]

use std::{hint::black_box, sync::Arc, time::Instant};

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use tonoscope_backends::{CpuPacker, WeightFormat};
use tonoscope_core::checkpoint::{MatrixPacker, MatrixValues, PackedMatrix};

/// Bytes of weights per measurement: far more than any cache holds.
const WORKING_SET: usize = 128 << 20;
const REPEATS: usize = 7;

fn main() {
    let numbers: Vec<f32> =
        (0..4096_u32 * 1024).map(|i| f32::from((i.wrapping_mul(2_654_435_761) >> 16) as i16) / 3e4).collect();
    println!("{} threads", rayon::current_num_threads());
    overhead(&numbers);
    println!("{:>12} {:>4}  read GB/s  {:>24} {:>24} {:>24}", "[out, in]", "rows", "f32", "f16", "int8");
    for shape in [[4096, 1024], [1024, 4096], [1024, 1024], [2048, 1024]] {
        let formats = [(WeightFormat::F32, 4.0), (WeightFormat::F16, 2.0), (WeightFormat::Int8, 1.0 + 4.0 / 64.0)];
        let packed = formats.map(|(format, bytes)| {
            let weights = shape[0] * shape[1];
            let copies = (WORKING_SET as f64 / (weights as f64 * bytes)).ceil() as u32;
            let packer = CpuPacker::new(format);
            let pack = |_: u32| packer.pack(shape, MatrixValues::F32(numbers[..weights].into()));
            (weights as f64 * bytes, (0..copies).map(pack).collect::<Vec<_>>())
        });
        for rows in [1, 2, 4, 8, 16, 72] {
            let x = tensor(&numbers, rows, shape[1]);
            let mut read = 0.0_f64;
            let mut best = [f64::INFINITY; 3];
            for _ in 0..REPEATS {
                read = read.max(read_bandwidth());
                for (best, (_, matrices)) in best.iter_mut().zip(&packed) {
                    *best = best.min(seconds(matrices, &x));
                }
            }
            print!("{:>12} {rows:>4}  {read:>9.1}", format!("{shape:?}"));
            for (seconds, (bytes, _)) in best.iter().zip(&packed) {
                let speed = bytes / seconds / 1e9;
                print!(
                    "  {:>6.0} µs {speed:>4.1} {:>3.0}% ×{:.2}",
                    seconds * 1e6,
                    100.0 * speed / read,
                    best[0] / seconds
                );
            }
            println!();
        }
    }
}

/// What a call costs beside the arithmetic.
fn overhead(numbers: &[f32]) {
    let matrix = CpuPacker::new(WeightFormat::F32).pack([32, 64], MatrixValues::F32(numbers[..2048].into()));
    let matrices = vec![matrix; 10_000];
    let x = tensor(numbers, 2, 64);
    println!("one call, [32, 64], 2 rows: {:.2} µs", seconds(&matrices, &x) * 1e6);
}

fn tensor(numbers: &[f32], rows: usize, width: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers[..rows * width].to_vec(), [rows, width]), &Device::flex())
}

/// Seconds per product.
fn seconds(matrices: &[Arc<dyn PackedMatrix>], x: &Tensor<2>) -> f64 {
    let start = Instant::now();
    for matrix in matrices {
        black_box(matrix.product(x.clone()));
    }
    start.elapsed().as_secs_f64() / matrices.len() as f64
}

/// GB/s of adding up numbers on every thread.
fn read_bandwidth() -> f64 {
    thread_local! {
        static DATA: Vec<f32> = vec![1.0; WORKING_SET / 4];
    }
    DATA.with(|data| {
        let start = Instant::now();
        let part = data.len() / rayon::current_num_threads();
        data.par_chunks(part).for_each(|part| {
            let mut sums = [0.0_f32; 64];
            for numbers in part.as_chunks::<64>().0 {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum += number;
                }
            }
            black_box(sums);
        });
        size_of_val(&**data) as f64 / start.elapsed().as_secs_f64() / 1e9
    })
}
