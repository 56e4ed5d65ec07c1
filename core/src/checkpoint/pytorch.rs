//! Files of `torch.save`: tensors are read, code is never run.

use std::path::Path;

#[cfg(not(target_arch = "wasm32"))]
use pytorch_reader::PickleValue;
use pytorch_reader::{DType, PytorchError, PytorchReader};
use safetensors::Dtype;

use super::{
    LoadError, RawTensor, Source,
    pickle_guard::{self, Refused},
};

/// How many times as large as its file all tensors together may be. Tied tensors count once for each of their names.
const MOST_REPEATED: u64 = 8;
/// Bytes that all tensors together may have, however small the file is.
const ALWAYS_ALLOWED: u64 = 1 << 20;

/// The tensors of a `.bin`, `.pt`, `.ckpt` or `.th` file, those of nested dictionaries named by their keys with dots
/// between them.
pub struct PyTorchFile {
    path: std::path::PathBuf,
    reader: PytorchReader,
}

impl PyTorchFile {
    /// Parses the pickle at `path`.
    ///
    /// # Errors
    /// [`LoadError::Read`] if there is no such file, [`LoadError::Lfs`] if it is a pointer, [`LoadError::Corrupt`] if it is
    /// damaged, [`LoadError::Unsupported`] if it holds anything but plain data or repeats its elements beyond measure.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let len = guarded(path)?;
        let reader = PytorchReader::new(path).map_err(|error| told(path, &error))?;
        let bytes = |tensor: &pytorch_reader::Tensor| {
            let elements = tensor.shape().iter().try_fold(1u64, |product, &axis| product.checked_mul(axis as u64));
            elements.and_then(|elements| elements.checked_mul(tensor.dtype().size() as u64)).unwrap_or(u64::MAX)
        };
        let total = reader.tensors().values().fold(0, |total: u64, tensor| total.saturating_add(bytes(tensor)));
        if total > len.saturating_mul(MOST_REPEATED).saturating_add(ALWAYS_ALLOWED) {
            let reason = format!("its tensors repeat their elements up to {total} bytes, the file has {len}");
            return Err(LoadError::Unsupported { path: path.to_owned(), reason });
        }
        Ok(Self { path: path.to_owned(), reader })
    }

    /// The plain value under `key` of the dictionary in the file at `path`; `None` if it has no such key.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn value(path: &Path, key: &str) -> Result<Option<PickleValue>, LoadError> {
        guarded(path)?;
        match PytorchReader::read_pickle_data(path, Some(key)) {
            Ok(value) => Ok(Some(value)),
            Err(PytorchError::KeyNotFound(_)) => Ok(None),
            Err(error) => Err(told(path, &error)),
        }
    }
}

/// Refuses what would cost too much, or is no file of PyTorch; its length.
fn guarded(path: &Path) -> Result<u64, LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    #[cfg(not(target_arch = "wasm32"))]
    super::lfs::refuse_pointer_file(path)?;
    let file = std::fs::File::open(path).map_err(read)?;
    let len = file.metadata().map_err(read)?.len();
    let unsupported = |reason: String| LoadError::Unsupported { path: path.to_owned(), reason };
    if is_safetensors(path) {
        return Err(unsupported("it is in the format of safetensors; give it that ending".to_owned()));
    }
    match pickle_guard::check(file) {
        Ok(()) => Ok(len),
        Err(Refused::TooMuch(what)) => Err(unsupported(format!("its pickle asks for too many {what}"))),
        Err(Refused::Format(what)) => Err(unsupported(format!("it is {what}"))),
        Err(Refused::Broken) => {
            Err(LoadError::Corrupt { path: path.to_owned(), reason: "its pickle ends early or is broken".to_owned() })
        }
    }
}

/// Whether a file begins as one of safetensors does: the length of its header, then `{`.
fn is_safetensors(path: &Path) -> bool {
    head::<9>(path).is_some_and(|head| head[8] == b'{')
}

fn begins_with(path: &Path, magic: [u8; 2]) -> bool {
    head::<2>(path).is_some_and(|head| head == magic)
}

/// The first `N` bytes of a file.
fn head<const N: usize>(path: &Path) -> Option<[u8; N]> {
    use std::io::Read;

    let mut head = [0; N];
    std::fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(head)
}

/// A damaged file is told apart from a whole one with other content: in an archive, checksums have been compared.
fn told(path: &Path, error: &PytorchError) -> LoadError {
    let in_archive = begins_with(path, *b"PK");
    let (path, reason) = (path.to_owned(), error.to_string());
    match error {
        PytorchError::KeyNotFound(_) | PytorchError::Serde(_) => LoadError::Unsupported { path, reason },
        PytorchError::Pickle(_) | PytorchError::InvalidFormat(_) if in_archive => {
            LoadError::Unsupported { path, reason }
        }
        _ => LoadError::Corrupt { path, reason },
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
        let tensor = self.reader.get(name).ok_or_else(|| LoadError::missing(name))?;
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
