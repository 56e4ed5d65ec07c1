//! A single tensor as `torch.save` writes it, which is how embeddings are published: a ZIP archive without compression,
//! with a pickle that describes the tensor beside its bytes.
//!
//! `pytorch-reader` reads checkpoints, which are dictionaries, and no tensor that stands alone. The machine here knows
//! the few instructions that such a tensor needs, and three kinds of names: it can build a tensor and nothing else, so that a
//! pickle which brings code is refused before anything of it means anything.
//!
//! Source: `torch/serialization.py`, `torch/_utils.py` (`_rebuild_tensor_v2`) of PyTorch 2.11; `pickletools` of Python 3.11.

mod archive;
mod machine;
#[cfg(test)]
mod tests;

use safetensors::Dtype;

use self::{archive::entries, machine::Machine};
use super::RawTensor;

/// Axes of an embedding, and some more.
const MAX_AXES: usize = 8;

/// A file that holds no tensor, or more than that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TorchTensorError {
    /// Something else, or a damaged file.
    #[error("no single tensor of `torch.save`: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// A pickle that asks Python for something which a tensor does not need.
    #[error("its pickle asks for `{name}`, and files that bring code are refused")]
    Code {
        /// What it asks for.
        name: String,
    },
}

fn unreadable(reason: impl Into<String>) -> TorchTensorError {
    TorchTensorError::Unreadable { reason: reason.into() }
}

/// The tensor in the content of a `.pt` file, row-major whatever its strides are in the file.
///
/// # Errors
/// [`TorchTensorError`] if it is anything but one plain tensor.
pub fn read_torch_tensor(file: &[u8]) -> Result<RawTensor<'static>, TorchTensorError> {
    let entries = entries(file)?;
    let of =
        |suffix: &str| entries.iter().find(|(name, _)| name.split_once('/').is_some_and(|(_, rest)| rest == suffix));
    let (_, pickle) = of("data.pkl").ok_or_else(|| unreadable("there is no `data.pkl` in it"))?;
    if let Some((_, order)) = of("byteorder")
        && *order != b"little"
    {
        return Err(unreadable("its bytes are not in little-endian order"));
    }
    let tensor = Machine::run(pickle)?;
    let (_, storage) =
        of(&format!("data/{}", tensor.storage.key)).ok_or_else(|| unreadable("the bytes of the tensor are missing"))?;
    tensor.read(storage)
}

/// Where the bytes of a tensor lie.
#[derive(Debug, Clone, PartialEq)]
struct Storage {
    dtype: Dtype,
    key: String,
}

/// A tensor that a pickle describes.
#[derive(Debug, Clone, PartialEq)]
struct Described {
    storage: Storage,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Described {
    /// The elements, row-major.
    fn read(&self, storage: &[u8]) -> Result<RawTensor<'static>, TorchTensorError> {
        let beyond = || unreadable("the tensor reaches beyond its bytes");
        // Every element costs a step per axis.
        if self.shape.len() > MAX_AXES {
            return Err(unreadable(format!("the tensor has {} axes, expected {MAX_AXES} at most", self.shape.len())));
        }
        let size = self.storage.dtype.bitsize() / 8;
        let (len, held) =
            (self.shape.iter().try_fold(1usize, |len, &axis| len.checked_mul(axis)), storage.len() / size);
        let len = len.filter(|&len| len <= held || self.strides.contains(&0)).ok_or_else(beyond)?;
        let bytes_len = len.checked_mul(size).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(beyond)?;
        // A stride of 0 repeats elements: a small file must not become a large tensor.
        if len > held.saturating_mul(64) {
            return Err(beyond());
        }
        let mut bytes = Vec::with_capacity(bytes_len);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..len {
            let place =
                index.iter().zip(&self.strides).try_fold(self.offset, |place, (&index, &stride): (&usize, _)| {
                    place.checked_add(index.checked_mul(stride)?)
                });
            let start = place.and_then(|place| place.checked_mul(size)).ok_or_else(beyond)?;
            bytes.extend_from_slice(storage.get(start..start.saturating_add(size)).ok_or_else(beyond)?);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(RawTensor { dtype: self.storage.dtype, shape: self.shape.clone(), bytes: bytes.into() })
    }
}
