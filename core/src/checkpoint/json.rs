//! Configurations beside the weights.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::LoadError;

/// Longest configuration that is read, in bytes; the longest published one has some 100 KB.
#[cfg(not(target_arch = "wasm32"))]
const LONGEST: u64 = 16 << 20;

/// A JSON file of a configuration, see [`parse_json`].
///
/// # Errors
/// [`LoadError::Read`], or as [`parse_json`].
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    parse_json(path, &read_small(path, LONGEST)?)
}

/// The content of a file that is small if it is what it should be.
///
/// # Errors
/// [`LoadError::Read`]; [`LoadError::Config`] if it has more than `most` bytes.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, LoadError> {
    use std::io::Read;

    if let Some(content) = super::in_memory(path) {
        return Ok(content.to_vec());
    }
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = vec![];
    std::fs::File::open(path).map_err(read)?.take(most + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > most {
        let reason = format!("it has more than {most} bytes, too many for a file of this kind");
        return Err(LoadError::Config { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

/// A configuration in JSON. A field that is `null` counts as absent, so that it has its default.
///
/// # Errors
/// [`LoadError::Config`] names the field, what was found and what was expected; [`LoadError::Lfs`] if the file only points
/// to its content.
pub fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LoadError> {
    let config = |reason| LoadError::Config { path: path.to_owned(), reason };
    super::lfs::refuse_pointer(path, bytes)?;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| config(error.to_string()))?;
    typed(value).map_err(config)
}

/// A configuration of parsed JSON; the error names the field.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(without_nulls(value)).map_err(|error| told(&error))
}

/// Which field is wrong, and what is wrong with it.
pub(crate) fn told<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let (path, reason) = (error.path().to_string(), error.inner());
    // The top has no name, and a missing field is named in the reason.
    if path == "." || path == "?" { reason.to_string() } else { format!("`{path}`: {reason}") }
}

/// `value` without the fields that are `null`.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
