//! safetensors files, memory-mapped.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};

use super::{LoadError, RawTensor, Source};

/// One safetensors file: header parsed, data where it lies.
pub struct SafetensorsFile {
    header: Metadata,
    data_start: usize,
    content: Content,
}

enum Content {
    /// On disk; every tensor is mapped into memory while it is used.
    #[cfg(not(target_arch = "wasm32"))]
    File {
        file: std::fs::File,
        path: std::path::PathBuf,
    },
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
        Ok(Self { header, data_start, content: Content::File { file, path: path.to_owned() } })
    }

    /// A file that is already in memory; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] if header and length do not agree.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let (header, data_start) = parse(Path::new(name), &bytes)?;
        Ok(Self { header, data_start, content: Content::Memory(bytes) })
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
            Content::File { file, path } => {
                map(file, range).map_err(|source| LoadError::Read { path: path.clone(), source })?.into()
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

/// A safetensors file of 32-bit tensors (name, shape, row-major values), whose metadata holds `json` under `key`.
///
/// # Errors
/// [`LoadError::Config`], naming `what`, if they do not fit into a file.
pub(crate) fn floats_to_bytes(
    what: &str,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    (key, json): (&str, String),
) -> Result<Vec<u8>, LoadError> {
    let failed =
        |error: ::safetensors::SafeTensorError| LoadError::Config { path: what.into(), reason: error.to_string() };
    let bytes = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let stored: Vec<_> = tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(values))).collect();
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // A single entry of metadata: the bytes are the same in every run.
    ::safetensors::serialize(views, Some(HashMap::from([(key.to_owned(), json)]))).map_err(failed)
}
