//! Named tensors that have not been read yet, and views that rename them.

use std::{
    collections::BTreeMap,
    ops::{Deref, Range},
};

use super::LoadError;

/// One tensor, little-endian and row-major, as it is in the file.
#[derive(Debug)]
pub struct RawTensor<'a> {
    /// Element type.
    pub dtype: safetensors::Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// `shape.product() * dtype.size()` bytes.
    pub bytes: TensorBytes<'a>,
}

/// Bytes of a tensor, wherever they are. A mapped stretch of a file leaves memory when this is dropped, so that a
/// checkpoint never stands in memory beside the model that is made of it.
#[derive(Debug)]
pub struct TensorBytes<'a> {
    stored: Stored<'a>,
    range: Range<usize>,
}

#[derive(Debug)]
enum Stored<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
}

impl TensorBytes<'_> {
    /// A part of these bytes.
    fn part(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len(), "a part lies inside the whole");
        Self { stored: self.stored, range: self.range.start + range.start..self.range.start + range.end }
    }

    /// The bytes in memory of their own.
    pub fn into_owned(self) -> Vec<u8> {
        match self.stored {
            Stored::Owned(bytes) if self.range == (0..bytes.len()) => bytes,
            stored => TensorBytes { stored, range: self.range }.to_vec(),
        }
    }
}

impl Deref for TensorBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.stored {
            Stored::Borrowed(bytes) => bytes,
            Stored::Owned(bytes) => bytes,
            #[cfg(not(target_arch = "wasm32"))]
            Stored::Mapped(map) => map,
        };
        &all[self.range.clone()]
    }
}

impl<'a> From<&'a [u8]> for TensorBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { range: 0..bytes.len(), stored: Stored::Borrowed(bytes) }
    }
}

impl From<Vec<u8>> for TensorBytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), stored: Stored::Owned(bytes) }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl From<memmap2::Mmap> for TensorBytes<'_> {
    fn from(map: memmap2::Mmap) -> Self {
        Self { range: 0..map.len(), stored: Stored::Mapped(map) }
    }
}

/// A set of named tensors, opened but not read.
pub trait Source: Send + Sync {
    /// Names of all tensors.
    fn names(&self) -> Vec<String>;

    /// Names of all tensors as they stand in the file, whatever they are called here.
    fn stored_names(&self) -> Vec<String> {
        self.names()
    }

    /// What was wrapped around the tensors and is not part of their names here; `None` for a plain checkpoint.
    fn wrapping(&self) -> Option<String> {
        None
    }

    /// Shape of one tensor, without reading it; `None` if there is none of this name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// One tensor.
    ///
    /// # Errors
    /// [`LoadError::Missing`] if there is none of this name; [`LoadError::Read`] or [`LoadError::Corrupt`] if the file
    /// does not yield it.
    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError>;
}

/// Which rows (indices of the first dimension) of a tensor of another name.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Name in the underlying source.
    pub from: String,
    /// Rows of it; `None` for all.
    pub rows: Option<Range<usize>>,
}

impl Taken {
    /// The whole of `from`.
    pub fn all(from: &str) -> Self {
        Self { from: from.to_owned(), rows: None }
    }
}

/// A source seen through other names; a new name may stand for some rows of an old tensor.
///
/// Old tensors that no new name mentions stay hidden: whoever builds the map answers for them.
pub struct Remapped<S> {
    inner: S,
    names: BTreeMap<String, Taken>,
    wrapping: Option<String>,
}

impl<S: Source> Remapped<S> {
    /// `names`: new name → what it stands for.
    pub fn new(inner: S, names: BTreeMap<String, Taken>) -> Self {
        Self { inner, names, wrapping: None }
    }

    /// As [`Self::new`], of a checkpoint around whose tensors there is a `wrapping`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn unwrapped(inner: S, names: BTreeMap<String, Taken>, wrapping: String) -> Self {
        Self { inner, names, wrapping: Some(wrapping) }
    }

    /// `rename`: from an old name and its shape to the new names and what each stands for; none hides the tensor.
    pub fn renaming(inner: S, rename: impl Fn(&str, &[usize]) -> Vec<(String, Taken)>) -> Self {
        let renamed = |name: String| rename(&name, &inner.shape(&name).unwrap_or_default());
        let names = inner.names().into_iter().flat_map(renamed).collect();
        Self::new(inner, names)
    }
}

impl<S: Source> Source for Remapped<S> {
    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn stored_names(&self) -> Vec<String> {
        self.inner.stored_names()
    }

    fn wrapping(&self) -> Option<String> {
        self.wrapping.clone().or_else(|| self.inner.wrapping())
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let taken = self.names.get(name)?;
        let mut shape = self.inner.shape(&taken.from)?;
        if let (Some(rows), Some(first)) = (&taken.rows, shape.first_mut()) {
            *first = rows.len();
        }
        Some(shape)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let missing = || LoadError::missing(name);
        let taken = self.names.get(name).ok_or_else(missing)?;
        let mut raw = self.inner.read(&taken.from)?;
        if let Some(rows) = &taken.rows {
            let total = raw.shape.first().copied().unwrap_or(0);
            if rows.end > total {
                return Err(LoadError::Shape { key: taken.from.clone(), found: raw.shape, expected: vec![rows.end] });
            }
            let row = raw.bytes.len() / total.max(1);
            let bytes = rows.start * row..rows.end * row;
            raw.bytes = raw.bytes.part(bytes);
            raw.shape[0] = rows.len();
        }
        Ok(raw)
    }
}

/// Several sources as one; the first that has a name answers for it.
pub struct Overlay(pub Vec<Box<dyn Source>>);

impl Overlay {
    fn holder(&self, name: &str) -> Option<&dyn Source> {
        self.0.iter().find(|source| source.shape(name).is_some()).map(AsRef::as_ref)
    }
}

impl Source for Overlay {
    fn names(&self) -> Vec<String> {
        self.0.iter().flat_map(Source::names).collect()
    }

    fn stored_names(&self) -> Vec<String> {
        self.0.iter().flat_map(Source::stored_names).collect()
    }

    fn wrapping(&self) -> Option<String> {
        self.0.iter().find_map(Source::wrapping)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.holder(name)?.shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        self.holder(name).ok_or_else(|| LoadError::missing(name))?.read(name)
    }
}

impl Source for Box<dyn Source> {
    fn names(&self) -> Vec<String> {
        self.as_ref().names()
    }

    fn stored_names(&self) -> Vec<String> {
        self.as_ref().stored_names()
    }

    fn wrapping(&self) -> Option<String> {
        self.as_ref().wrapping()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.as_ref().shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        self.as_ref().read(name)
    }
}
