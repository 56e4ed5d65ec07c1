//! Weights in a folder: safetensors or pickles, in one file or in shards with their index.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use super::{LoadError, Overlay, PyTorchFile, SafetensorsFile, Source, exists, read_json};

/// Opens `model.safetensors` or `pytorch_model.bin` of a folder, or the shards that their index lists.
///
/// # Errors
/// As [`SafetensorsFile::open`] and [`PyTorchFile::open`]; [`LoadError::Config`] if the index names files outside the
/// folder.
pub(crate) fn open_folder(folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    open_named_folder(folder, "model", "pytorch_model")
}

/// As [`open_folder`], of files called `safetensors` and `pickle` without their endings. Where there are both, the one that
/// is no pickle is taken.
///
/// # Errors
/// As [`open_folder`].
pub(crate) fn open_named_folder(folder: &Path, safetensors: &str, pickle: &str) -> Result<Box<dyn Source>, LoadError> {
    let single = folder.join(format!("{safetensors}.safetensors"));
    for file in [single.clone(), folder.join(format!("{pickle}.bin"))] {
        let mut index = file.clone().into_os_string();
        index.push(".index.json");
        if exists(&file) {
            return open_file(&file);
        }
        if exists(Path::new(&index)) {
            return open_shards(folder, Path::new(&index));
        }
    }
    // Of the file that should be there, its own error.
    open_file(&single)
}

/// A file of safetensors, or else of PyTorch.
///
/// # Errors
/// As [`SafetensorsFile::open`] and [`PyTorchFile::open`].
pub(crate) fn open_file(path: &Path) -> Result<Box<dyn Source>, LoadError> {
    Ok(if path.extension().is_some_and(|extension| extension == "safetensors") {
        Box::new(SafetensorsFile::open(path)?)
    } else {
        Box::new(PyTorchFile::open(path)?)
    })
}

fn open_shards(folder: &Path, index_path: &Path) -> Result<Box<dyn Source>, LoadError> {
    /// More shards than any checkpoint has.
    const MOST_SHARDS: usize = 1000;
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let config = |reason| LoadError::Config { path: index_path.to_owned(), reason };
    let index: Index = read_json(index_path)?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    if shards.len() > MOST_SHARDS {
        return Err(config(format!("it lists {} shards, expected {MOST_SHARDS} at most", shards.len())));
    }
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for shard in shards {
        let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(config(format!("shard `{shard}` lies outside the folder")));
        }
        sources.push(open_file(&folder.join(shard))?);
    }
    Ok(Box::new(Overlay(sources)))
}
