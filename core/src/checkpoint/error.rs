//! What can be wrong with a checkpoint.

use std::{io, path::PathBuf};

/// A checkpoint that cannot be read or does not fit the model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there or cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not what its name says, or is cut short.
    #[error("`{path}` is corrupt or truncated: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A configuration that does not parse or asks for what the model cannot do.
    #[error("`{path}`: {reason}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// Which field, what was expected and what was found.
        reason: String,
    },
    /// A tensor that the model needs is not in the checkpoint.
    #[error("`{key}` is missing from the checkpoint")]
    Missing {
        /// Full name of the tensor.
        key: String,
    },
    /// A model in training that computes with a tensor's values on the host, through which no gradient passes.
    #[error("`{key}` is on its device and in training, but this model computes with it on the host")]
    OnDevice {
        /// Full name of the tensor.
        key: String,
    },
    /// Tensors of the checkpoint that the model has no use for.
    #[error("the checkpoint has {} tensors that the model does not use, first `{}`", .keys.len(), .keys[0])]
    Unused {
        /// Their full names, sorted; never empty.
        keys: Vec<String>,
    },
    /// A tensor of another shape than the model's.
    #[error("`{key}` has shape {found:?} in the checkpoint, {expected:?} in the model")]
    Shape {
        /// Full name of the tensor.
        key: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
        /// Shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor whose elements are not floating-point numbers.
    #[error("`{key}` holds {found} in the checkpoint, expected floating-point numbers")]
    Dtype {
        /// Full name of the tensor.
        key: String,
        /// Element type in the checkpoint.
        found: String,
    },
}

impl LoadError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("check the path and its permissions"),
            Self::Corrupt { .. } => Some("fetch the file again; `tonoscope models verify` checks a stored model"),
            Self::Config { .. } | Self::OnDevice { .. } => None,
            Self::Missing { .. } | Self::Unused { .. } | Self::Shape { .. } => {
                Some("config.json and the weights do not belong together; check that both come from the same model")
            }
            Self::Dtype { .. } => Some("quantised checkpoints are not supported; use the original weights"),
        }
    }
}
