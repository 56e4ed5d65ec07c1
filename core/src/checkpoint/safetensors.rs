//! safetensors files, memory-mapped, and the index of a sharded set.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use safetensors::{SafeTensors, tensor::Metadata};

use super::{LoadError, Overlay, RawTensor, Source};

/// One safetensors file: header parsed, data where it lies.
pub struct SafetensorsFile {
    path: PathBuf,
    header: Metadata,
    data_start: usize,
    bytes: FileBytes,
}

enum FileBytes {
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl SafetensorsFile {
    /// Maps the file at `path` into memory.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it cannot be opened, [`LoadError::Corrupt`] if header and length do not agree.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        #[expect(unsafe_code, reason = "the only way to map a file")]
        // SAFETY: the map is read-only; a file that another process truncates meanwhile raises SIGBUS, as in every
        // reader of memory-mapped checkpoints, and is never written through.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(read)?;
        Self::parse(path.to_owned(), FileBytes::Mapped(map))
    }

    /// A file that is already in memory; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] if header and length do not agree.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        Self::parse(PathBuf::from(name), FileBytes::Owned(bytes))
    }

    fn parse(path: PathBuf, bytes: FileBytes) -> Result<Self, LoadError> {
        let (header_len, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| LoadError::Corrupt { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { path, header, data_start: header_len + 8, bytes })
    }

    /// The `__metadata__` of the header.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Source for SafetensorsFile {
    fn names(&self) -> Vec<String> {
        self.header.tensors().into_keys().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.header.info(name)?.shape.clone())
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let info = self.header.info(name).ok_or_else(|| LoadError::Missing { key: name.to_owned() })?;
        let (start, end) = info.data_offsets;
        let bytes = self.bytes.get(self.data_start + start..self.data_start + end).ok_or_else(|| {
            LoadError::Corrupt { path: self.path.clone(), reason: format!("`{name}` lies beyond the end of the file") }
        })?;
        Ok(RawTensor { dtype: info.dtype, shape: info.shape.clone(), bytes: Cow::Borrowed(bytes) })
    }
}

/// Opens `model.safetensors` of a folder, or the shards that `model.safetensors.index.json` lists.
///
/// # Errors
/// As [`SafetensorsFile::open`]; [`LoadError::Config`] if the index names files outside the folder.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn open_folder(folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let single = folder.join("model.safetensors");
    let index_path = folder.join("model.safetensors.index.json");
    if single.exists() || !index_path.exists() {
        return Ok(Box::new(SafetensorsFile::open(&single)?));
    }
    let text = std::fs::read_to_string(&index_path)
        .map_err(|source| LoadError::Read { path: index_path.clone(), source })?;
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
