//! Configurations beside the weights.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::LoadError;

/// A JSON file; the error says which field is at fault.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|error| LoadError::Config { path: path.to_owned(), reason: error.to_string() })
}
