//! Affine maps from each layer's residual stream to the last one's.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::LensError;
use crate::{
    checkpoint::{Kernels, LoadError, SafetensorsFile, Source, finite_numbers, floats_to_bytes},
    models::musicgen::MusicGen,
    nn::matmul,
};

/// Key of the metadata under which a file says what it is.
const KEY: &str = "tonoscope.translators";

/// Translators on the host, and what they were fitted on: what a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct TranslatorFile {
    /// How they came about.
    pub origin: Origin,
    /// By layer, counted as how many have run: `weight` `[width, width]` (from, to) row-major, and `bias` `[width]`.
    pub layers: BTreeMap<usize, (Vec<f32>, Vec<f32>)>,
}

/// How translators came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Layers of the model.
    pub layers: usize,
    /// Width of its residual stream.
    pub width: usize,
    /// Identity of its weights.
    pub model: String,
    /// Positions that they were fitted on.
    pub positions: usize,
    /// Weight of the penalty, relative to the mean variance of a feature.
    pub alpha: f64,
}

/// Translators on a device.
#[derive(Debug, Clone)]
pub struct Translators {
    layers: BTreeMap<usize, (Tensor<2>, Tensor<1>)>,
}

impl Translators {
    /// Puts the translators of a file where `model` is.
    ///
    /// # Errors
    /// [`LensError::Translators`] if they are for a model of another shape.
    pub fn new(file: &TranslatorFile, model: &MusicGen) -> Result<Self, LensError> {
        let config = &model.config().decoder;
        let (layers, width) = (config.num_hidden_layers, config.hidden_size);
        let origin = &file.origin;
        if (origin.layers, origin.width) != (layers, width) {
            return Err(LensError::Translators { found: origin.layers, found_width: origin.width, layers, width });
        }
        let device = model.device();
        let place = |(&layer, (weight, bias)): (&usize, &(Vec<f32>, Vec<f32>))| {
            (layer, (place(weight, [width, width], &device), place(bias, [width], &device)))
        };
        Ok(Self { layers: file.layers.iter().map(place).collect() })
    }

    /// `x + x W + b` for the stream after `layer` layers; `x` itself of a layer without a translator.
    ///
    /// # Shapes
    /// - `x`, result: `[row, step, width]`
    pub(super) fn apply(&self, kernels: Option<&dyn Kernels>, layer: usize, x: Tensor<3>) -> Tensor<3> {
        match self.layers.get(&layer) {
            Some((weight, bias)) => {
                let [rows, steps, width] = x.dims();
                let flat = x.clone().reshape([rows * steps, width]);
                let moved = matmul(kernels, flat, weight.clone()) + bias.clone().unsqueeze();
                x + moved.reshape([rows, steps, width])
            }
            None => x,
        }
    }
}

fn place<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    let float: DType = device.settings().float_dtype.into();
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(float), device)
}

impl TranslatorFile {
    /// Parses the content of a file; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a safetensors file of translators, or a tensor is missing, left over or misshapen.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let config = |reason: String| LoadError::Config { path: name.into(), reason };
        let json = file
            .metadata()
            .get(KEY)
            .cloned()
            .ok_or_else(|| config(format!("there are no translators under `{KEY}` in it")))?;
        let origin: Origin = serde_json::from_str(&json).map_err(|error| config(format!("`{KEY}`: {error}")))?;
        let width = origin.width;
        let read = |key: String, expected: Vec<usize>| finite_numbers(&file, Path::new(name), &key, &expected);
        let mut layers = BTreeMap::new();
        for key in file.names() {
            let layer = key.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
            let number = layer
                .and_then(|(layer, _)| layer.parse::<usize>().ok())
                .filter(|&layer| layer >= 1 && layer < origin.layers);
            let Some(layer) = number else { return Err(config(format!("`{key}` is no translator of a layer"))) };
            let weight = read(format!("layers.{layer}.weight"), vec![width, width])?;
            layers.insert(layer, (weight, read(format!("layers.{layer}.bias"), vec![width])?));
        }
        // Of all layers but the last: the stream of one that is missing would be read as it is, without a word.
        match (1..origin.layers).find(|layer| !layers.contains_key(layer)) {
            Some(layer) => Err(LoadError::missing(format!("layers.{layer}.weight"))),
            None => Ok(Self { origin, layers }),
        }
    }

    /// The content of a file that [`Self::from_bytes`] reads.
    ///
    /// # Errors
    /// [`LoadError::Config`] if the tensors do not fit into a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        let width = self.origin.width;
        let json = serde_json::to_string(&self.origin)
            .map_err(|error| LoadError::Config { path: "translators".into(), reason: error.to_string() })?;
        let stored = self.layers.iter().flat_map(|(layer, (weight, bias))| {
            [
                (format!("layers.{layer}.weight"), vec![width, width], weight.clone()),
                (format!("layers.{layer}.bias"), vec![width], bias.clone()),
            ]
        });
        floats_to_bytes("translators", stored, (KEY, json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> TranslatorFile {
        let origin = Origin { layers: 3, width: 2, model: "m".to_owned(), positions: 5, alpha: 0.5 };
        let layer = |value: f32| (vec![value; 4], vec![value; 2]);
        TranslatorFile { origin, layers: BTreeMap::from([(1, layer(0.5)), (2, layer(-1.0))]) }
    }

    #[test]
    fn a_file_comes_back_and_no_damage_panics() {
        let whole = file().to_bytes().unwrap();
        assert_eq!(TranslatorFile::from_bytes("t", whole.clone()).unwrap(), file());
        for at in 0..whole.len() {
            for value in [0, b'0', b'1', b'3', b'9', b'{', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = TranslatorFile::from_bytes("t", bytes);
            }
        }
    }

    #[test]
    fn a_layer_without_a_translator_is_named() {
        let mut one = file();
        one.layers.remove(&1);
        let error = TranslatorFile::from_bytes("t", one.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains("layers.1.weight"), "{error}");
        one.layers.insert(1, (vec![f32::NAN; 4], vec![0.0; 2]));
        let error = TranslatorFile::from_bytes("t", one.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains("not finite"), "{error}");
    }
}
