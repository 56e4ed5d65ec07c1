//! Edits in one file: a safetensors whose metadata holds the edits as JSON, whose tensors are their values.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::spec::Edit;
use crate::checkpoint::{LoadError, SafetensorsFile, Source, floats_to_bytes, to_f32};

/// Key of the metadata under which the edits stand.
const KEY: &str = "tonoscope.edits";

/// Edits and the tensors that they name, each as `f32` with its shape, padded in front to rank five.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EditFile {
    /// The edits, in the order in which they apply.
    pub edits: Vec<Edit>,
    /// Name → values, row-major, and shape.
    pub tensors: BTreeMap<String, (Vec<f32>, [usize; 5])>,
}

impl EditFile {
    /// Parses the content of a file; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a safetensors file, holds no edits, or a tensor is of rank six or more.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let config = |reason: String| LoadError::Config { path: name.into(), reason };
        let metadata = file.metadata();
        let json = metadata.get(KEY).ok_or_else(|| config(format!("there are no edits under `{KEY}` in it")))?;
        let edits = serde_json::from_str(json).map_err(|error| config(format!("`{KEY}`: {error}")))?;
        let mut tensors = BTreeMap::new();
        for tensor in file.names() {
            let raw = file.read(&tensor)?;
            if !matches!(raw.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(LoadError::Dtype { key: tensor, found: format!("{:?}", raw.dtype) });
            }
            let rank = raw.shape.len();
            if rank > 5 {
                return Err(LoadError::Shape { key: tensor, found: raw.shape, expected: vec![1; 5] });
            }
            let mut shape = [1; 5];
            shape[5 - rank..].copy_from_slice(&raw.shape);
            tensors.insert(tensor, (to_f32(&raw), shape));
        }
        Ok(Self { edits, tensors })
    }

    /// The content of a file that [`Self::from_bytes`] reads.
    ///
    /// # Errors
    /// [`LoadError::Config`] if the tensors do not fit into a file, which takes more than 2⁶⁴ bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        let config = |reason: String| LoadError::Config { path: "edits".into(), reason };
        let json = serde_json::to_string(&self.edits).map_err(|error| config(error.to_string()))?;
        let stored = self.tensors.iter().map(|(name, (values, shape))| (name.clone(), shape.to_vec(), values.clone()));
        floats_to_bytes("edits", stored, (KEY, json))
    }
}
