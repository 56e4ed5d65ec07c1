//! Mean activations of a concept.

use std::{collections::BTreeMap, ops::ControlFlow};

use burn::tensor::{DType, Device, ExecutionError, Tensor, TensorData};

use crate::{
    checkpoint::{LoadError, SafetensorsFile, Source, floats_to_bytes, read_numbers},
    hooks::{Capture, HookError, HookPoint, HookTensors, Hooks, Reduce, Selector, Spec, read_floats},
    models::musicgen::{Generate, GenerateError, MusicGen, Progress, Prompt},
};

/// Key of the metadata under which a file names what its means were taken over.
const KEY: &str = "tonoscope.means";

/// Mean activations over the prompts of one concept, by guidance branch and generation step.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// `[branch, 1, step, head, feature]`; one branch without guidance, one head where the site has none.
    pub points: BTreeMap<HookPoint, Tensor<5>>,
}

/// Means that cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum MeansError {
    /// The generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A point cannot be recorded.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] ExecutionError),
    /// A file that is damaged.
    #[error(transparent)]
    File(#[from] LoadError),
    /// Means that were taken over something else.
    #[error("the means in `{file}` were taken over something else: its `{field}` is {found}, {expected} is needed")]
    Other {
        /// Name of the file.
        file: String,
        /// First field that differs.
        field: String,
        /// What stands in the file.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A point that is not among the means.
    #[error("the means hold no `{point}`")]
    Missing {
        /// The point.
        point: HookPoint,
    },
}

impl Means {
    /// Generates every prompt and averages what passes `points`, batch by batch; no prompt's activations are kept.
    ///
    /// # Errors
    /// [`MeansError`].
    pub async fn collect(
        model: &MusicGen,
        prompts: &[Prompt],
        points: &[HookPoint],
        how: &Generate,
        batch_size: usize,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self, MeansError> {
        let capture = |&point: &HookPoint| Capture { points: Selector::point(point), reduce: Reduce::MeanPrompts };
        let spec = Spec { captures: points.iter().map(capture).collect(), edits: vec![] };
        let mut hooks = Hooks::new(&spec, &model.points(), &HookTensors::default())?;
        let batches = prompts.len().div_ceil(batch_size.max(1));
        for (index, batch) in prompts.chunks(batch_size.max(1)).enumerate() {
            let mut watch = |progress: Progress| {
                let (done, total) = (index * progress.total + progress.done, batches * progress.total);
                watch(Progress { done, total })
            };
            model.generate(&mut hooks, batch, how, &mut watch).await?;
        }
        let cache = hooks.finish()?;
        Ok(Self { points: cache.entries.into_iter().map(|entry| (entry.point, entry.tensor)).collect() })
    }

    /// The mean at `point`.
    ///
    /// # Errors
    /// [`MeansError::Missing`].
    pub fn at(&self, point: HookPoint) -> Result<&Tensor<5>, MeansError> {
        self.points.get(&point).ok_or(MeansError::Missing { point })
    }

    /// A safetensors file that says what the means were taken over: `key`, an object of plain fields.
    ///
    /// # Errors
    /// [`MeansError`] if the device fails or the tensors do not fit into a file.
    pub async fn to_bytes(&self, key: &serde_json::Value) -> Result<Vec<u8>, MeansError> {
        let mut stored = vec![];
        for (point, mean) in &self.points {
            let values = read_floats(mean.clone()).await?;
            stored.push((point.to_string(), mean.dims().to_vec(), values));
        }
        Ok(floats_to_bytes("means", stored, (KEY, key.to_string()))?)
    }

    /// Reads what [`Self::to_bytes`] wrote; `name` appears in errors.
    ///
    /// # Errors
    /// [`MeansError::Other`] if the file's key is not `key`; [`MeansError::File`] if it is damaged.
    pub fn from_bytes(
        name: &str,
        bytes: Vec<u8>,
        key: &serde_json::Value,
        device: &Device,
    ) -> Result<Self, MeansError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let config = |reason: String| LoadError::Config { path: name.into(), reason };
        let metadata = file.metadata();
        let found = metadata.get(KEY).ok_or_else(|| config(format!("there are no means under `{KEY}` in it")))?;
        let found: serde_json::Value =
            serde_json::from_str(found).map_err(|error| config(format!("`{KEY}`: {error}")))?;
        if let Some((field, found, expected)) = first_difference(&found, key) {
            return Err(MeansError::Other { file: name.to_owned(), field, found, expected });
        }
        let float: DType = device.settings().float_dtype.into();
        let mut points = BTreeMap::new();
        for key in file.names() {
            let point: HookPoint = key.parse().map_err(|_| config(format!("`{key}` is no hook point")))?;
            let (found, values) = read_numbers(&file, &key)?;
            let expected = vec![2, 1, 1, 1, 1];
            let shape: [usize; 5] =
                found.try_into().map_err(|found| LoadError::Shape { key: key.clone(), found, expected })?;
            let data = TensorData::new(values, shape).convert_dtype(float);
            points.insert(point, Tensor::from_data(data, device));
        }
        Ok(Self { points })
    }
}

/// The first field in which two objects differ, with both values.
fn first_difference(found: &serde_json::Value, expected: &serde_json::Value) -> Option<(String, String, String)> {
    let (Some(found_fields), Some(expected_fields)) = (found.as_object(), expected.as_object()) else {
        return (found != expected).then(|| ("key".to_owned(), found.to_string(), expected.to_string()));
    };
    let mut names: Vec<&String> = found_fields.keys().chain(expected_fields.keys()).collect();
    names.sort();
    let shown = |value: Option<&serde_json::Value>| value.map_or_else(|| "missing".to_owned(), ToString::to_string);
    names
        .into_iter()
        .find(|name| found_fields.get(*name) != expected_fields.get(*name))
        .map(|name| (name.clone(), shown(found_fields.get(name)), shown(expected_fields.get(name))))
}

/// Desired minus original at every point that both have: a steering direction per step.
pub fn difference(desired: &Means, original: &Means) -> Means {
    let minus =
        |(point, mean): (&HookPoint, &Tensor<5>)| Some((*point, mean.clone() - original.points.get(point)?.clone()));
    Means { points: desired.points.iter().filter_map(minus).collect() }
}
