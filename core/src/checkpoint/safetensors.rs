//! safetensors files: memory-mapped, in memory, or wherever a reader finds their bytes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};

use super::{LoadError, RawTensor, Source, in_memory};

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
        path: PathBuf,
    },
    Memory(Cow<'static, [u8]>),
    /// Somewhere else; every tensor is read when it is used.
    Reader {
        read: Box<ReadRange>,
        path: PathBuf,
    },
}

/// Reads a range of a file's bytes.
type ReadRange = dyn Fn(Range<u64>) -> io::Result<Vec<u8>> + Send + Sync;

/// Longest header that is read; safetensors allows no longer one.
const LONGEST_HEADER: u64 = 100_000_000;

impl SafetensorsFile {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it cannot be opened, [`LoadError::Lfs`] if it is a pointer, [`LoadError::Corrupt`] if header and length do not agree.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if let Some(bytes) = in_memory(path) {
            let (header, data_start) = parse(path, bytes)?;
            return Ok(Self { header, data_start, content: Content::Memory(bytes.into()) });
        }
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        super::lfs::refuse_pointer_file(path)?;
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
        Ok(Self { header, data_start, content: Content::Memory(bytes.into()) })
    }

    /// A file of `len` bytes that `read` finds piece by piece, such as one that a browser's user has picked: the header
    /// now, every tensor when it is used. `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError::Read`] if `read` fails or yields fewer bytes than it was asked for, [`LoadError::Corrupt`] if header
    /// and length do not agree.
    pub fn from_reader(
        name: &str,
        len: u64,
        read: impl Fn(Range<u64>) -> io::Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        const PREFIX: u64 = size_of::<u64>() as u64;
        let path = PathBuf::from(name);
        let corrupt = |reason: String| LoadError::Corrupt { path: path.clone(), reason };
        if len < PREFIX {
            return Err(corrupt(format!("{len} bytes are less than a header's length")));
        }
        let prefix = read_exactly(&read, &path, 0..PREFIX)?;
        let header_len = prefix.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let data_start = PREFIX.saturating_add(header_len);
        if header_len > LONGEST_HEADER || data_start > len {
            return Err(corrupt(format!("it says that its header has {header_len} bytes, the file has {len}")));
        }
        let header = read_exactly(&read, &path, PREFIX..data_start)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| corrupt(format!("its header: {error}")))?;
        // The header has no gaps, which its reader has checked, so that the end of the last tensor is that of the file.
        let end = header.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0) as u64;
        let expected = data_start + end;
        if expected != len {
            return Err(corrupt(format!("its header promises {expected} bytes, the file has {len}")));
        }
        Ok(Self { header, data_start: data_start as usize, content: Content::Reader { read: Box::new(read), path } })
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
        let info = self.header.info(name).ok_or_else(|| LoadError::missing(name))?;
        let (start, end) = info.data_offsets;
        let range = self.data_start + start..self.data_start + end;
        let bytes = match &self.content {
            _ if range.is_empty() => Vec::new().into(),
            #[cfg(not(target_arch = "wasm32"))]
            Content::File { file, path } => {
                map(file, range).map_err(|source| LoadError::Read { path: path.clone(), source })?.into()
            }
            Content::Memory(bytes) => bytes[range].into(),
            Content::Reader { read, path } => read_exactly(read, path, range.start as u64..range.end as u64)?.into(),
        };
        Ok(RawTensor { dtype: info.dtype, shape: info.shape.clone(), bytes })
    }
}

fn read_exactly(
    read: &impl Fn(Range<u64>) -> io::Result<Vec<u8>>,
    path: &Path,
    range: Range<u64>,
) -> Result<Vec<u8>, LoadError> {
    let asked = range.end - range.start;
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = read(range).map_err(failed)?;
    if bytes.len() as u64 != asked {
        let short = format!("{} bytes of {asked} could be read", bytes.len());
        return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, short)));
    }
    Ok(bytes)
}

/// The header, which says where every tensor lies and that all of them are there, and the place where data begin.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Metadata, usize), LoadError> {
    let corrupt =
        |error: safetensors::SafeTensorError| LoadError::Corrupt { path: path.to_owned(), reason: error.to_string() };
    if bytes.starts_with(b"PK\x03\x04") {
        let reason = "it is a pickle of PyTorch; give it the ending `.bin` or `.pt`".to_owned();
        return Err(LoadError::Unsupported { path: path.to_owned(), reason });
    }
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
    entry: (&str, String),
) -> Result<Vec<u8>, LoadError> {
    let bytes = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect();
    to_bytes(what, Dtype::F32, tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(values))), entry)
}

/// As [`floats_to_bytes`], of 64-bit tensors.
pub(crate) fn doubles_to_bytes(
    what: &str,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f64>)>,
    entry: (&str, String),
) -> Result<Vec<u8>, LoadError> {
    let bytes = |values: Vec<f64>| values.into_iter().flat_map(f64::to_le_bytes).collect();
    to_bytes(what, Dtype::F64, tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(values))), entry)
}

fn to_bytes(
    what: &str,
    dtype: Dtype,
    tensors: impl Iterator<Item = (String, Vec<usize>, Vec<u8>)>,
    (key, json): (&str, String),
) -> Result<Vec<u8>, LoadError> {
    let failed =
        |error: ::safetensors::SafeTensorError| LoadError::Config { path: what.into(), reason: error.to_string() };
    let stored: Vec<_> = tensors.collect();
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // A single entry of metadata: the bytes are the same in every run.
    ::safetensors::serialize(views, Some(HashMap::from([(key.to_owned(), json)]))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let tensors = [("a".to_owned(), vec![2], vec![1.0, 2.0]), ("b".to_owned(), vec![1, 3], vec![3.0, 4.0, 5.0])];
        floats_to_bytes("test", tensors, ("note", "n".to_owned())).expect("a small file")
    }

    fn read_by_parts(bytes: Vec<u8>) -> Result<SafetensorsFile, LoadError> {
        let len = bytes.len() as u64;
        SafetensorsFile::from_reader("x.safetensors", len, move |range| {
            Ok(bytes[range.start as usize..range.end as usize].to_vec())
        })
    }

    #[test]
    fn a_file_read_by_parts_holds_what_one_in_memory_does() {
        let whole = SafetensorsFile::from_bytes("x.safetensors", file()).expect("a file");
        let parts = read_by_parts(file()).expect("a file");
        assert_eq!(parts.metadata(), whole.metadata());
        for name in ["a", "b"] {
            let (parts, whole) = (parts.read(name).expect("there"), whole.read(name).expect("there"));
            assert_eq!((parts.shape, &*parts.bytes), (whole.shape, &*whole.bytes));
        }
        assert!(matches!(parts.read("c"), Err(LoadError::Missing { .. })));
    }

    #[test]
    fn a_cut_or_damaged_file_is_refused_before_its_tensors_are_read() {
        for len in [0, 7, 8, 40, file().len() - 1] {
            let Err(error) = read_by_parts(file()[..len].to_vec()) else { panic!("{len} bytes were taken") };
            assert!(error.to_string().starts_with("`x.safetensors` is corrupt or truncated: "), "{error}");
        }
        let mut damaged = file();
        damaged[6] = 1;
        assert!(matches!(read_by_parts(damaged), Err(LoadError::Corrupt { .. })));
    }

    #[test]
    fn a_reader_that_gives_up_is_told_of() {
        let failing = |_| Err(io::Error::other("the disk is gone"));
        let Err(LoadError::Read { source, .. }) = SafetensorsFile::from_reader("x", 100, failing) else {
            panic!("it was read");
        };
        assert_eq!(source.to_string(), "the disk is gone");
        let short = |range: Range<u64>| Ok(file()[range.start as usize..range.end as usize - 1].to_vec());
        let Err(LoadError::Read { source, .. }) = SafetensorsFile::from_reader("x", file().len() as u64, short) else {
            panic!("it was read");
        };
        assert_eq!(source.to_string(), "7 bytes of 8 could be read");
    }
}
