//! safetensors files, memory-mapped, and the index of a sharded set.

use std::{
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
    content: Content,
}

enum Content {
    /// On disk; every tensor is mapped into memory while it is used.
    #[cfg(not(target_arch = "wasm32"))]
    File(std::fs::File),
    Memory(Vec<u8>),
}

impl SafetensorsFile {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it cannot be opened, [`LoadError::Corrupt`] if header and length do not agree.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        let (header, data_start) = match file.metadata().map_err(read)?.len() as usize {
            // Nothing cannot be mapped.
            0 => parse(path, &[])?,
            len => parse(path, &map(&file, 0..len).map_err(read)?)?,
        };
        Ok(Self { path: path.to_owned(), header, data_start, content: Content::File(file) })
    }

    /// A file that is already in memory; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] if header and length do not agree.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let (header, data_start) = parse(Path::new(name), &bytes)?;
        Ok(Self { path: PathBuf::from(name), header, data_start, content: Content::Memory(bytes) })
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
        let range = self.data_start + start..self.data_start + end;
        let bytes = match &self.content {
            _ if range.is_empty() => Vec::new().into(),
            #[cfg(not(target_arch = "wasm32"))]
            Content::File(file) => {
                map(file, range).map_err(|source| LoadError::Read { path: self.path.clone(), source })?.into()
            }
            Content::Memory(bytes) => bytes[range].into(),
        };
        Ok(RawTensor { dtype: info.dtype, shape: info.shape.clone(), bytes })
    }
}

/// The header, which says where every tensor lies and that all of them are there, and the place where data begin.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Metadata, usize), LoadError> {
    let corrupt =
        |error: safetensors::SafeTensorError| LoadError::Corrupt { path: path.to_owned(), reason: error.to_string() };
    let (len, header) = SafeTensors::read_metadata(bytes).map_err(corrupt)?;
    // The header's own check, against the length of the file.
    SafeTensors::deserialize(bytes).map_err(corrupt)?;
    Ok((header, len + 8))
}

#[cfg(not(target_arch = "wasm32"))]
fn map(file: &std::fs::File, range: std::ops::Range<usize>) -> std::io::Result<memmap2::Mmap> {
    let mut options = memmap2::MmapOptions::new();
    options.offset(range.start as u64).len(range.len());
    #[expect(unsafe_code, reason = "the only way to map a file")]
    // SAFETY: the map is read-only; a file that another process truncates meanwhile raises SIGBUS, as in every reader
    // of memory-mapped checkpoints, and is never written through.
    unsafe {
        options.map(file)
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
