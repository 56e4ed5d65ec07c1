//! safetensors in a folder: one file, or shards and their index.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use super::{LoadError, Overlay, SafetensorsFile, Source};

/// Opens `model.safetensors` of a folder, or the shards that `model.safetensors.index.json` lists.
///
/// # Errors
/// As [`SafetensorsFile::open`]; [`LoadError::Config`] if the index names files outside the folder.
pub(crate) fn open_folder(folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    open_named_folder(folder, "model")
}

/// As [`open_folder`], of files called `stem` instead of `model`.
///
/// # Errors
/// As [`open_folder`].
pub(crate) fn open_named_folder(folder: &Path, stem: &str) -> Result<Box<dyn Source>, LoadError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let single = folder.join(format!("{stem}.safetensors"));
    let index_path = folder.join(format!("{stem}.safetensors.index.json"));
    if single.exists() || !index_path.exists() {
        return Ok(Box::new(SafetensorsFile::open(&single)?));
    }
    let text =
        std::fs::read_to_string(&index_path).map_err(|source| LoadError::Read { path: index_path.clone(), source })?;
    let config = |reason| LoadError::Config { path: index_path.clone(), reason };
    let index: Index = serde_json::from_str(&text).map_err(|error| config(error.to_string()))?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for shard in shards {
        let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(config(format!("shard `{shard}` lies outside the folder")));
        }
        sources.push(Box::new(SafetensorsFile::open(&folder.join(shard))?));
    }
    Ok(Box::new(Overlay(sources)))
}
