//! Paths in JSON. A path need not be UTF-8, JSON must be: each part that is not becomes `U+FFFD`.
//!
//! `json!` panics for such a path and a derived `Serialize` fails, both after the work is done. So no path is given to either
//! as it is; `tests/properties/architecture.rs` makes sure.

use std::path::Path;

use serde::{Serialize, Serializer};

/// A path as JSON has it.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// For `#[serde(serialize_with)]` of a field that is a path.
pub(crate) fn one<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    shown(path).serialize(serializer)
}

/// The same for a path that may be absent.
#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(crate) fn optional<S: Serializer>(path: &Option<impl AsRef<Path>>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(shown).serialize(serializer)
}

#[cfg(all(test, unix))]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

    use super::*;

    #[test]
    fn a_path_that_is_no_utf_8_becomes_json() {
        #[derive(Serialize)]
        struct Both {
            #[serde(serialize_with = "one")]
            out: PathBuf,
            #[serde(serialize_with = "optional")]
            from: Option<PathBuf>,
            #[serde(serialize_with = "optional")]
            none: Option<PathBuf>,
        }
        let path = PathBuf::from(OsStr::from_bytes(b"out/\xff.wav"));
        let both = Both { out: path.clone(), from: Some(path.clone()), none: None };
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(text, "{\"out\":\"out/\u{fffd}.wav\",\"from\":\"out/\u{fffd}.wav\",\"none\":null}");
        assert_eq!(serde_json::json!({"out": shown(&path)}).to_string(), "{\"out\":\"out/\u{fffd}.wav\"}");
    }
}
