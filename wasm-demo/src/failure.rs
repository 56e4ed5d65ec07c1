//! Errors as the page shows them: one line with the reasons behind it, then, where there is something to do, a second.

use std::{error::Error, iter::successors};

use tonoscope_core::checkpoint::LoadError;
use wasm_bindgen::JsError;

/// An error with everything that caused it.
pub(crate) fn failed(error: impl Error) -> JsError {
    JsError::new(&chain(&error))
}

/// A checkpoint that cannot be loaded, with what to do about it.
pub(crate) fn not_loaded(error: &LoadError) -> JsError {
    let hint = match error {
        LoadError::Corrupt { .. } => Some("delete the model and fetch it again, or copy the file anew"),
        LoadError::Read { .. } => Some("the browser can no longer read the file: pick the folder again"),
        other => other.hint(),
    };
    let text = chain(error);
    JsError::new(&hint.map_or(text.clone(), |hint| format!("{text}\n{hint}")))
}

/// Something that the user asked for and cannot have.
pub(crate) fn misuse(what: impl AsRef<str>) -> JsError {
    JsError::new(what.as_ref())
}

fn chain(error: &dyn Error) -> String {
    let parts: Vec<String> = successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
    parts.join(": ")
}
