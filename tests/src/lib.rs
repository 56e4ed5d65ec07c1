//! What the tests share: the fixtures that the reference implementations have written, and how to compare with them.

pub mod claps;
pub mod fuzz;
pub mod judges;
pub mod server;
pub mod workloads;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use tonoscope_backends::{Api, DeviceError, DeviceName, Request};
use tonoscope_core::{
    checkpoint::{Placement, RawTensor, SafetensorsFile, Source, Weights},
    hooks::{Cache, Capture, HookPoint, Reduce, Selector},
};

/// A folder of `tests/fixtures`: a tiny checkpoint as the reference saves it, and in `expected.safetensors` what the
/// reference makes of some inputs.
pub struct Fixture {
    folder: PathBuf,
    expected: SafetensorsFile,
}

impl Fixture {
    /// Opens `tests/fixtures/{name}`.
    ///
    /// # Panics
    /// If it is not there: `tests/reference/{name}.py` writes it.
    pub fn open(name: &str) -> Self {
        Self::open_file(name, "expected.safetensors")
    }

    /// Opens `tests/fixtures/{name}` with the expectations in `file`.
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn open_file(name: &str, file: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        let expected =
            SafetensorsFile::open(&folder.join(file)).unwrap_or_else(|error| panic!("fixture `{name}`: {error}"));
        Self { folder, expected }
    }

    /// Where the checkpoint lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all expected tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.expected.names();
        names.sort();
        names
    }

    /// What the reference noted beside the tensors.
    ///
    /// # Panics
    /// If it noted nothing under `key`.
    pub fn metadata(&self, key: &str) -> String {
        let all: BTreeMap<String, String> = self.expected.metadata();
        all.get(key).unwrap_or_else(|| panic!("fixture has no metadata `{key}`")).clone()
    }

    /// `config.json` of the checkpoint, or the object `part` of it.
    ///
    /// # Panics
    /// If it does not parse as `T`.
    pub fn config<T: serde::de::DeserializeOwned>(&self, part: Option<&str>) -> T {
        let text = std::fs::read_to_string(self.folder.join("config.json")).expect("a config.json");
        let whole: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let config = part.map_or(&whole, |part| &whole[part]).clone();
        serde_json::from_value(config).expect("the configuration of the model")
    }

    /// `model.safetensors` of the checkpoint.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn weights(&self, placement: Placement) -> Weights {
        let file = SafetensorsFile::open(&self.folder.join("model.safetensors")).expect("a model.safetensors");
        Weights::new(Box::new(file), placement)
    }

    /// An expected tensor of floats, row-major, and its shape.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let raw = self.raw(name);
        let data = TensorData::from_bytes_vec(raw.bytes.into_owned(), raw.shape.clone(), burn_dtype(raw.dtype));
        (data.convert::<f32>().try_to_vec().expect("floats"), raw.shape)
    }

    /// An expected tensor of floats in 64 bit, row-major, and its shape.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn doubles(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let raw = self.raw(name);
        let data = TensorData::from_bytes_vec(raw.bytes.into_owned(), raw.shape.clone(), burn_dtype(raw.dtype));
        (data.convert::<f64>().try_to_vec().expect("floats"), raw.shape)
    }

    /// An expected tensor of integers, row-major, and its shape.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn ints(&self, name: &str) -> (Vec<i64>, Vec<usize>) {
        let raw = self.raw(name);
        let data = TensorData::from_bytes_vec(raw.bytes.into_owned(), raw.shape.clone(), burn_dtype(raw.dtype));
        (data.convert::<i64>().try_to_vec().expect("integers"), raw.shape)
    }

    /// An expected tensor of floats on `device`.
    ///
    /// # Panics
    /// If there is none of this name and rank.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (values, shape) = self.floats(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// An expected tensor of integers on `device`.
    ///
    /// # Panics
    /// If there is none of this name and rank.
    pub fn int_tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        let (values, shape) = self.ints(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Compares `got` with the expected tensor `name`, see [`assert_close`].
    ///
    /// # Panics
    /// If they differ by more than `bound`.
    pub fn assert_close<const D: usize>(&self, name: &str, got: Tensor<D>, bound: f64) -> f64 {
        let (want, shape) = self.floats(name);
        assert_eq!(got.dims().as_slice(), shape, "shape of `{name}`");
        assert_close(name, &floats(got), &want, bound)
    }

    fn raw(&self, name: &str) -> RawTensor<'_> {
        self.expected.read(name).unwrap_or_else(|error| panic!("fixture: {error}"))
    }
}

/// What the tests run on: name, device and form of the weights. The CPU with plain tensors and with packed matrices,
/// and, where there is a driver, a GPU.
///
/// # Panics
/// If a device that is there cannot be opened.
pub fn devices() -> Vec<(&'static str, Placement)> {
    let open = |name| tonoscope_backends::open(&Request { name, ..Request::default() });
    let cpu = open(DeviceName::Cpu).expect("the CPU is always there").placement;
    let mut devices = vec![("flex", Placement::plain(&cpu.device)), ("cpu", cpu)];
    match open(DeviceName::Gpu { api: Api::Webgpu, index: 0 }) {
        Ok(gpu) => devices.push(("webgpu", gpu.placement)),
        Err(error @ (DeviceError::NotPresent { .. } | DeviceError::NotCompiled { .. })) => {
            eprintln!("SKIPPED on the GPU: {error}");
        }
        Err(error) => panic!("{error}"),
    }
    devices
}

/// One capture of everything at each of `points`.
pub fn capture_everything(points: &[HookPoint]) -> Vec<Capture> {
    points.iter().map(|&point| Capture { points: Selector::point(point), reduce: Reduce::Everything }).collect()
}

/// A captured tensor on the host.
pub struct OnHost {
    /// Name of its hook point.
    pub name: String,
    /// Shape without the axes that the site does not have.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// Everything in `cache`; logits and patterns in the order of axes that the references have.
///
/// # Panics
/// If the device fails.
pub async fn read(cache: Cache) -> Vec<OnHost> {
    let mut all = vec![];
    for mut entry in cache.entries {
        let mut shape = entry.shape();
        if entry.point.site.time_axis() == 2 {
            // A cache has steps before heads, the references the other way round.
            entry.tensor = entry.tensor.swap_dims(2, 3);
            shape.swap(2, 3);
        }
        let values = entry.values().await.expect("the device answers");
        all.push(OnHost { name: entry.name(), shape, values });
    }
    all
}

/// The elements of `tensor`, row-major.
///
/// # Panics
/// If the device fails.
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("floats")
}

/// The elements of `tensor`, row-major.
///
/// # Panics
/// If the device fails.
pub fn ints<const D: usize>(tensor: Tensor<D, Int>) -> Vec<i64> {
    tensor.into_data().convert::<i64>().try_to_vec().expect("integers")
}

/// `max|got − want| / max|want|`; infinite where the lengths differ or a value of `got` is not finite.
pub fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() || got.iter().any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let scale = largest(&mut want.iter().map(|value| f64::from(value.abs())));
    let difference = largest(&mut got.iter().zip(want).map(|(got, want)| f64::from(got - want).abs()));
    if difference == 0.0 { 0.0 } else { difference / scale }
}

/// The relative error of `got`, which must be within `bound`.
///
/// # Panics
/// If it is not: says what was measured.
pub fn assert_close(name: &str, got: &[f32], want: &[f32], bound: f64) -> f64 {
    let error = relative_error(got, want);
    assert!(error <= bound, "`{name}` differs by {error:.2e}, relative to its largest value; the bound is {bound:.0e}");
    error
}

fn burn_dtype(of: safetensors::Dtype) -> DType {
    use safetensors::Dtype;
    match of {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        other => panic!("fixtures hold no {other:?}"),
    }
}
