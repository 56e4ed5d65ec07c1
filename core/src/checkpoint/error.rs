//! What can be wrong with a checkpoint.

use std::{fmt, io, path::PathBuf};

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
    /// A pointer of Git LFS in place of the file.
    #[error("`{path}` is a Git LFS pointer of {bytes} bytes, not the file itself")]
    Lfs {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A whole file of a kind that is not read.
    #[error("`{path}` cannot be used: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// A tensor that the model needs is not in the checkpoint.
    #[error("`{key}` is missing from the checkpoint{instead}")]
    Missing {
        /// Full name of the tensor.
        key: String,
        /// What the checkpoint has instead.
        instead: Instead,
    },
    /// A tensor that holds NaN or an infinity.
    #[error("`{key}` is not finite: element {element} is {value}")]
    NotFinite {
        /// Full name of the tensor.
        key: String,
        /// Index of the first such element.
        element: usize,
        /// Its value.
        value: f32,
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

/// What a checkpoint has in place of a tensor that is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instead {
    /// Up to five names of the file, the most similar first.
    pub names: Vec<String>,
    /// All names of the file.
    pub total: usize,
    /// What was taken off the names, and what of; `None` for a plain checkpoint.
    pub wrapping: Option<String>,
    /// Whether tensors that were asked for before are there.
    pub fits: bool,
}

impl Instead {
    /// Names that are shown.
    const SHOWN: usize = 5;

    /// Chooses, of all `names` of a file, those most similar to `key`.
    pub(super) fn of(key: &str, mut names: Vec<String>, wrapping: Option<String>, fits: bool) -> Self {
        let total = names.len();
        let alike = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        let reversed = |text: &str| text.chars().rev().collect::<String>();
        let end = reversed(key);
        names.sort_by_cached_key(|name| {
            (std::cmp::Reverse(alike(&reversed(name), &end) + alike(name, key)), name.clone())
        });
        names.truncate(Self::SHOWN);
        // A name may hold what a terminal would obey.
        let names = names.iter().map(|name| name.escape_debug().take(120).collect()).collect();
        Self { names, total, wrapping, fits }
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
        write!(f, ", which has {}", names.join(", "))?;
        match self.total - self.names.len() {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        match &self.wrapping {
            Some(wrapping) => write!(f, "; recognised as {wrapping}"),
            None => Ok(()),
        }
    }
}

impl LoadError {
    /// The tensor `key` is missing.
    pub(crate) fn missing(key: impl Into<String>) -> Self {
        Self::Missing { key: key.into(), instead: Instead::default() }
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("check the path and its permissions"),
            Self::Corrupt { .. } => Some("fetch the file again; `tonoscope models verify` checks a stored model"),
            Self::Config { .. } | Self::OnDevice { .. } => None,
            Self::Lfs { .. } => Some("run `git lfs pull` in its folder to fetch the file itself"),
            Self::Unsupported { .. } => Some("save the weights alone, as safetensors"),
            Self::NotFinite { .. } => {
                Some("the weights are damaged, or their training diverged; use another checkpoint")
            }
            Self::Missing { instead, .. } if !instead.fits => {
                Some("the weights are of another model, or in a layout that is not known; compare the names above")
            }
            Self::Missing { .. } | Self::Unused { .. } | Self::Shape { .. } => {
                Some("config.json and the weights do not belong together; check that both come from the same model")
            }
            Self::Dtype { .. } => Some("quantised checkpoints are not supported; use the original weights"),
        }
    }
}
