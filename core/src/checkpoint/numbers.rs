//! The numbers of a tensor in a file, whichever floating-point type holds them.

use safetensors::Dtype;

use super::{LoadError, RawTensor, Source, to_f32};

impl RawTensor<'_> {
    /// The values as `f32`, row-major; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError::Dtype`] unless the elements are F64, F32, F16 or BF16.
    pub fn to_floats(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        if matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            Ok(to_f32(self))
        } else {
            Err(LoadError::Dtype { key: name.to_owned(), found: format!("{:?}", self.dtype) })
        }
    }
}

/// Shape and values of one tensor of `source`, the values as `f32`, row-major.
///
/// # Errors
/// As [`Source::read`] and [`RawTensor::to_floats`].
pub fn read_numbers(source: &dyn Source, name: &str) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
    let raw = source.read(name)?;
    let values = raw.to_floats(name)?;
    Ok((raw.shape, values))
}
