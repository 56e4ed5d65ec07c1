//! Recorded activations on the host, and the file that the command line writes of them.

use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::hooks::{Cache, HookPoint, Reduce, Spec};
use wasm_bindgen::JsError;

use crate::failure::failed;

/// One recorded tensor.
pub(crate) struct Recorded {
    pub(crate) point: HookPoint,
    pub(crate) reduce: Reduce,
    name: String,
    axes: Vec<&'static str>,
    pub(crate) shape: Vec<usize>,
    /// Row-major.
    pub(crate) values: Vec<f32>,
}

/// Reads everything in `cache` back from the device.
pub(crate) async fn read(cache: &Cache) -> Result<Vec<Recorded>, JsError> {
    let mut all = vec![];
    for entry in &cache.entries {
        all.push(Recorded {
            point: entry.point,
            reduce: entry.reduce,
            name: entry.name(),
            axes: entry.axes.clone(),
            shape: entry.shape(),
            values: entry.values().await.map_err(failed)?,
        });
    }
    Ok(all)
}

/// A safetensors file; the metadata say what the axes are and what was asked.
pub(crate) fn to_file(captures: &[&Recorded], spec: &Spec, prompt: &str) -> Result<Vec<u8>, JsError> {
    let axes: BTreeMap<&str, &[&str]> =
        captures.iter().map(|capture| (capture.name.as_str(), capture.axes.as_slice())).collect();
    let metadata = HashMap::from([
        ("axes".to_owned(), serde_json::to_string(&axes).map_err(failed)?),
        ("spec".to_owned(), serde_json::to_string(spec).map_err(failed)?),
        ("prompts".to_owned(), serde_json::to_string(&[prompt]).map_err(failed)?),
    ]);
    let bytes: Vec<Vec<u8>> =
        captures.iter().map(|capture| capture.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = captures
        .iter()
        .zip(&bytes)
        .map(|(capture, bytes)| Ok((&*capture.name, TensorView::new(Dtype::F32, capture.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(failed)?;
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}
