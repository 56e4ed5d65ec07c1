//! The numbers of a tensor in a file, whichever floating-point type holds them.

use std::path::Path;

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

/// For files that hold no checkpoint, such as means, translators and recorded noise: nothing that they say is trusted. The finite
/// numbers of the tensor `name`, whose shape must be `expected`; `file` appears in errors.
///
/// # Errors
/// [`LoadError::Missing`], [`LoadError::Shape`], [`LoadError::Dtype`]; [`LoadError::Corrupt`] for a number that is none.
pub(crate) fn finite_numbers(
    source: &dyn Source,
    file: &Path,
    name: &str,
    expected: &[usize],
) -> Result<Vec<f32>, LoadError> {
    // Before it is read: a wrong shape may be a huge one.
    let found = source.shape(name).ok_or_else(|| LoadError::missing(name))?;
    if found != expected {
        return Err(LoadError::Shape { key: name.to_owned(), found, expected: expected.to_vec() });
    }
    let (_, values) = read_numbers(source, name)?;
    let corrupt = |reason: String| LoadError::Corrupt { path: file.to_owned(), reason };
    let wanted = expected.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
    if wanted != Some(values.len()) {
        return Err(corrupt(format!("`{name}` has {} values, its shape is {expected:?}", values.len())));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(corrupt(format!("value {at} of `{name}` is not finite"))),
        None => Ok(values),
    }
}
