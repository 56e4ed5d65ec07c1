//! Mean activations of a concept.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use burn::tensor::{DType, Device, ExecutionError, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{LoadError, SafetensorsFile, Source, finite_numbers, floats_to_bytes},
    hooks::{Capture, HookError, HookPoint, HookTensors, Hooks, Reduce, Selector, Site, Spec, read_floats},
    models::musicgen::{Generate, GenerateError, MusicGen, Progress, Prompt},
};

/// Key of the metadata under which a file names what its means were taken over.
const KEY: &str = "tonoscope.means";
/// Field beside those of the key.
const CHECKSUM: &str = "sha256";

/// Mean activations over the prompts of one concept, by guidance branch and generation step.
#[derive(Debug, Clone, Default)]
pub struct MeanActivations {
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

impl MeanActivations {
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

    /// Shapes of the means that [`Self::collect`] takes at `points` of `model`; 0 for the steps of music that is longer
    /// than the window, of which some are generated twice.
    pub fn shapes(model: &MusicGen, points: &[HookPoint], how: &Generate) -> BTreeMap<HookPoint, [usize; 5]> {
        let config = &model.config().decoder;
        #[expect(clippy::float_cmp, reason = "1 is meant exactly")]
        let branches = if how.guidance == 1.0 { 1 } else { 2 };
        let steps = how.frames + config.num_codebooks / config.audio_channels - 1;
        let steps = if how.frames > how.window.frames { 0 } else { steps };
        let (heads, width) = (config.num_attention_heads, config.hidden_size);
        let shape = |&point: &HookPoint| {
            let [units, features] = match point.site {
                site if site.head_axis().is_some() => [heads, width / heads],
                site if site == Site::MlpPost => [1, config.ffn_dim],
                _ => [1, width],
            };
            (point, [branches, 1, steps, units, features])
        };
        points.iter().map(shape).collect()
    }

    /// A safetensors file that says what the means were taken over: `key`, an object of plain fields. It carries a checksum.
    ///
    /// # Errors
    /// [`MeansError`] if the device fails or the tensors do not fit into a file.
    pub async fn to_bytes(&self, key: &serde_json::Value) -> Result<Vec<u8>, MeansError> {
        let mut stored = vec![];
        for (point, mean) in &self.points {
            let values = read_floats(mean.clone()).await?;
            stored.push((point.to_string(), mean.dims().to_vec(), values));
        }
        let mut key = key.clone();
        if let Some(fields) = key.as_object_mut() {
            let sum = checksum(stored.iter().map(|(name, _, values)| (name.as_str(), values.as_slice())));
            fields.insert(CHECKSUM.to_owned(), sum.into());
        }
        Ok(floats_to_bytes("means", stored, (KEY, key.to_string()))?)
    }

    /// Reads what [`Self::to_bytes`] wrote; `name` appears in errors. Every one of `shapes` must be there, see
    /// [`Self::shapes`].
    ///
    /// # Errors
    /// [`MeansError::Other`] if the file's key is not `key`; [`MeansError::File`] if it is damaged.
    pub fn from_bytes(
        name: &str,
        bytes: Vec<u8>,
        key: &serde_json::Value,
        shapes: &BTreeMap<HookPoint, [usize; 5]>,
        device: &Device,
    ) -> Result<Self, MeansError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let config = |reason: String| LoadError::Config { path: name.into(), reason };
        let metadata = file.metadata();
        let found = metadata.get(KEY).ok_or_else(|| config(format!("there are no means under `{KEY}` in it")))?;
        let mut found: serde_json::Value =
            serde_json::from_str(found).map_err(|error| config(format!("`{KEY}`: {error}")))?;
        // Files of earlier versions have none.
        let sum = found.as_object_mut().and_then(|fields| fields.remove(CHECKSUM));
        if let Some((field, found, expected)) = first_difference(&found, key) {
            return Err(MeansError::Other { file: name.to_owned(), field, found, expected });
        }
        let mut stored = BTreeMap::new();
        for (point, shape) in shapes {
            let key = point.to_string();
            let mut shape = *shape;
            if shape[2] == 0 {
                shape[2] = file.shape(&key).and_then(|found| found.get(2).copied()).unwrap_or(0);
            }
            let values = finite_numbers(&file, Path::new(name), &key, &shape)?;
            stored.insert(key, (*point, shape, values));
        }
        if let Some(left) = file.names().into_iter().find(|key| !stored.contains_key(key)) {
            return Err(config(format!("`{left}` is no hook point whose mean is needed")).into());
        }
        let now = checksum(stored.iter().map(|(name, (_, _, values))| (name.as_str(), values.as_slice())));
        if sum.is_some_and(|sum| sum != *now) {
            let reason = "its checksum does not fit its means".to_owned();
            return Err(LoadError::Corrupt { path: name.into(), reason }.into());
        }
        let float: DType = device.settings().float_dtype.into();
        let place = |(point, shape, values)| {
            (point, Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), device))
        };
        Ok(Self { points: stored.into_values().map(place).collect() })
    }
}

/// Of all means, in any order.
fn checksum<'a>(means: impl Iterator<Item = (&'a str, &'a [f32])>) -> String {
    use std::fmt::Write as _;

    let sorted: BTreeMap<&str, &[f32]> = means.collect();
    let mut hasher = Sha256::new();
    for (name, values) in sorted {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        for value in values {
            hasher.update(value.to_le_bytes());
        }
    }
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
pub fn difference(desired: &MeanActivations, original: &MeanActivations) -> MeanActivations {
    let minus =
        |(point, mean): (&HookPoint, &Tensor<5>)| Some((*point, mean.clone() - original.points.get(point)?.clone()));
    MeanActivations { points: desired.points.iter().filter_map(minus).collect() }
}
