//! Files of `torch.save`: tensors are read, code is never run.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader};
use safetensors::Dtype;

use super::{LoadError, RawTensor, Source};

/// The tensors of a `.bin`, `.pt` or `.th` file under one of its top-level keys.
pub struct PyTorchFile {
    path: std::path::PathBuf,
    reader: PytorchReader,
}

impl PyTorchFile {
    /// Parses the pickle at `path` and keeps what lies under `top_level_key` (`None`: everything).
    ///
    /// # Errors
    /// [`LoadError::Read`] if there is no such file, [`LoadError::Corrupt`] if it is not a checkpoint or holds anything
    /// but plain data.
    pub fn open(path: &Path, top_level_key: Option<&str>) -> Result<Self, LoadError> {
        std::fs::metadata(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let reader = match top_level_key {
            Some(key) => PytorchReader::with_top_level_key(path, key),
            None => PytorchReader::new(path),
        }
        .map_err(|error| LoadError::Corrupt { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { path: path.to_owned(), reader })
    }
}

impl Source for PyTorchFile {
    fn names(&self) -> Vec<String> {
        self.reader.keys()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.reader.get(name)?.shape().to_vec())
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let tensor = self.reader.get(name).ok_or_else(|| LoadError::Missing { key: name.to_owned() })?;
        let bytes =
            tensor.read().map_err(|error| LoadError::Corrupt { path: self.path.clone(), reason: error.to_string() })?;
        Ok(RawTensor { dtype: dtype(tensor.dtype()), shape: tensor.shape().to_vec(), bytes: bytes.into() })
    }
}

fn dtype(of: DType) -> Dtype {
    match of {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
