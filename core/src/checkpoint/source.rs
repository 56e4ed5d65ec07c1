//! Named tensors that have not been read yet, and views that rename them.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use super::LoadError;

/// Bytes of one tensor, little-endian and row-major, as they are in the file.
#[derive(Debug, Clone)]
pub struct RawTensor<'a> {
    /// Element type.
    pub dtype: safetensors::Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// `shape.product() * dtype.size()` bytes.
    pub bytes: Cow<'a, [u8]>,
}

/// A set of named tensors, opened but not read.
pub trait Source: Send + Sync {
    /// Names of all tensors.
    fn names(&self) -> Vec<String>;

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

/// A source seen through other names; a new name may stand for some rows of an old tensor.
///
/// Old tensors that no new name mentions stay hidden: whoever builds the map answers for them.
pub struct Remapped<S> {
    inner: S,
    names: BTreeMap<String, Taken>,
}

impl<S: Source> Remapped<S> {
    /// `names`: new name → what it stands for.
    pub fn new(inner: S, names: BTreeMap<String, Taken>) -> Self {
        Self { inner, names }
    }
}

impl<S: Source> Source for Remapped<S> {
    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
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
        let missing = || LoadError::Missing { key: name.to_owned() };
        let taken = self.names.get(name).ok_or_else(missing)?;
        let mut raw = self.inner.read(&taken.from)?;
        if let Some(rows) = &taken.rows {
            let total = raw.shape.first().copied().unwrap_or(0);
            if rows.end > total {
                return Err(LoadError::Shape { key: taken.from.clone(), found: raw.shape, expected: vec![rows.end] });
            }
            let row = raw.bytes.len() / total.max(1);
            let bytes = rows.start * row..rows.end * row;
            raw.bytes = match raw.bytes {
                Cow::Borrowed(all) => Cow::Borrowed(&all[bytes]),
                Cow::Owned(all) => Cow::Owned(all[bytes].to_vec()),
            };
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
        self.0.iter().flat_map(|source| source.names()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.holder(name)?.shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        self.holder(name).ok_or_else(|| LoadError::Missing { key: name.to_owned() })?.read(name)
    }
}

impl Source for Box<dyn Source> {
    fn names(&self) -> Vec<String> {
        self.as_ref().names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.as_ref().shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        self.as_ref().read(name)
    }
}
