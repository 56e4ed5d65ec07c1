//! Tensors of embeddings in files: safetensors, and what `torch.save(tensor)` has written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tonoscope_core::checkpoint::{SafetensorsFile, Source, read_numbers, read_torch_tensor};

use crate::{failure::Failed, session::sha256};

/// Name of the tensor in our own files.
const TENSOR: &str = "embeddings";

/// One tensor and where it is from.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) shape: Vec<usize>,
    /// Row-major.
    pub(super) values: Vec<f32>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) sha256: String,
}

impl Stored {
    /// Reads the tensor `embeddings` of a safetensors file, or the only one there is.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let sha256 = sha256(path)?;
        let pickled = path.extension().is_some_and(|extension| extension == "pt" || extension == "pth");
        let (shape, values, metadata) = if pickled {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let hint = "expected one tensor of floating-point numbers, as `torch.save(tensor)` writes it";
            let raw = read_torch_tensor(&bytes)
                .map_err(|error| Failed::new(format!("`{}`: {error}", path.display()), hint))?;
            let values = raw.to_floats("the tensor").with_context(|| format!("`{}`", path.display()))?;
            (raw.shape, values, BTreeMap::new())
        } else {
            let file = SafetensorsFile::open(path)?;
            let names = file.names();
            let name = names.iter().find(|name| *name == TENSOR).or(names.first().filter(|_| names.len() == 1));
            let Some(name) = name else {
                let what = format!("`{}` holds {} tensors, and none is called `{TENSOR}`", path.display(), names.len());
                return Err(Failed::new(what, "pass a file of embeddings").into());
            };
            let (shape, values) = read_numbers(&file, name).with_context(|| format!("`{}`", path.display()))?;
            (shape, values, file.metadata())
        };
        let stored = Self { path: path.to_owned(), shape, values, metadata, sha256 };
        if stored.shape.len() < 2 || stored.shape.contains(&0) {
            let what = format!("`{}` holds a tensor of shape {:?}", path.display(), stored.shape);
            return Err(Failed::new(what, "expected `[sounds, features]` or `[prompts, samples, features]`").into());
        }
        Ok(stored)
    }

    /// Features of one sound.
    pub(super) fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.width()
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width()..(row + 1) * self.width()]
    }

    /// A list of texts in the metadata.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let parse = |text: &String| {
            serde_json::from_str(text).with_context(|| format!("`{}`: `{key}` in its metadata", self.path.display()))
        };
        self.metadata.get(key).map(parse).transpose()
    }
}

/// The only file of `folder` whose name `fits`; `None` if there is none.
pub(super) fn only_file(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = vec![];
    if !folder.is_dir() {
        return Ok(None);
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read the folder `{}`", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&fits) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [one, other, ..] => {
            let what = format!("both `{}` and `{}` could be meant", one.display(), other.display());
            Err(Failed::new(what, "leave one of them in the folder").into())
        }
    }
}
