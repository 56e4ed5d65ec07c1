//! The judge of generated audio, and the numbers made from what it says.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]
#![expect(clippy::print_stdout, reason = "measured errors, for `--nocapture`")]

mod classifiers;
mod metrics;
mod passt;
mod probes;

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use tonoscope_core::checkpoint::{Placement, SafetensorsFile, Weights};

/// A file under `tests/fixtures`.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Tensors that a script of `tests/reference` has written.
struct Expected(Weights);

impl Expected {
    fn open(name: &str) -> Self {
        let file = SafetensorsFile::open(&fixture(name)).unwrap();
        Self(Weights::new(Box::new(file), Placement::plain(&Device::flex())))
    }

    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.0.values(name, shape).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        self.0.tensor(name, shape).unwrap()
    }

    /// Fails if `got` is further from tensor `name` than `bound` times the latter's largest value.
    fn assert_close(&self, name: &str, shape: &[usize], got: &[f32], bound: f32) {
        let error = relative_error(got, &self.values(name, shape));
        println!("{name}: {error:.1e}");
        assert!(error <= bound, "`{name}` is off by {error:.2e} of its largest value, {bound:.0e} is allowed");
    }
}

/// Largest difference over the largest wanted value; infinite if anything is NaN.
fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let error = got.iter().zip(want).map(|(got, want)| (got - want).abs());
    error.fold(0.0f32, |most, error| if error.is_nan() { f32::INFINITY } else { most.max(error) }) / largest
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    pollster::block_on(tensor.into_data_async()).unwrap().try_to_vec().unwrap()
}
