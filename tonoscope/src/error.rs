//! What can go wrong, and what to do about it.

use std::{error::Error as StdError, fmt, io, iter::successors, path::PathBuf};

use burn::tensor::ExecutionError;
use tonoscope_backends::{Api, DeviceError};
use tonoscope_core::{
    audio::AudioError,
    checkpoint::LoadError,
    diffusion::ScheduleError,
    hooks::{HookError, PointError},
    lens::LensError,
    models::{
        clap::ClapError,
        encodec::SoundError,
        musicgen::{GenerateError, SettingError},
        passt::{PasstError, UnheardError},
        t5::TokenError,
    },
    probes::ProbeError,
};
use tonoscope_hub::HubError;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. `{}` is one line; `{:?}`, which `main` prints, adds the causes and [what to do](Error::hint).
///
/// ```
/// use tonoscope::prelude::*;
///
/// let error = MusicGen::builder("musicgen-nano").device("gpu").unwrap_err();
/// assert!(matches!(error, Error::Device(_)));
/// assert!(error.to_string().starts_with("`gpu` is not a device"));
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device that cannot be had as it was asked for.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model that could not be found or fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The text encoder of a model, which lies elsewhere, could not be found.
    #[error("the text encoder; `text_encoder` takes a folder of it")]
    TextEncoder(#[source] HubError),
    /// A checkpoint that does not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file of weights that is not a `PaSST`'s.
    #[error("`{}` is not a PaSST's", path.display())]
    NoPasst {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LoadError,
    },
    /// Files that are not here and cannot be fetched.
    #[error("{what}")]
    Missing {
        /// What was looked for, and where.
        what: String,
        /// How to get it.
        hint: String,
    },
    /// A recording that cannot be classified.
    #[error(transparent)]
    Unheard(#[from] UnheardError),
    /// A prompt that the text encoder does not take.
    #[error("prompt `{prompt}`: {source}")]
    Prompt {
        /// The beginning of the prompt.
        prompt: String,
        /// What is wrong with it.
        source: TokenError,
    },
    /// A model without a usable tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenError),
    /// A setting outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A request that makes no sense.
    #[error("{what}")]
    Request {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// A capture or an edit that the model cannot carry out.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A layer that the model does not have.
    #[error("no hook point `{name}`: `{part}` has the layers 0 to {last}")]
    NoLayer {
        /// What was asked for.
        name: String,
        /// The network, such as `decoder`.
        part: String,
        /// Its last layer.
        last: usize,
    },
    /// A name that no hook point has.
    #[error(transparent)]
    Point(#[from] PointError),
    /// A generation that could not be carried out.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Codes that are no sound, or a recording that does not fit the model.
    #[error(transparent)]
    Sound(#[from] SoundError),
    /// Sound that cannot be read, written or changed as asked.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A file of sound that cannot be read.
    #[error("`{}`", path.display())]
    AudioFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AudioError,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Noise levels that cannot be made.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Sound or text that cannot be embedded.
    #[error(transparent)]
    Clap(#[from] ClapError),
    /// Sound that cannot be classified.
    #[error(transparent)]
    Passt(#[from] PasstError),
    /// Layers that cannot be read.
    #[error(transparent)]
    Lens(#[from] LensError),
    /// A probe that cannot be fitted.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A run that was stopped.
    #[error("cancelled")]
    Cancelled,
    /// The device failed.
    #[error("the device failed")]
    Execution(#[from] ExecutionError),
}

impl Error {
    /// What to do next, where something can be done.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let error = model.generate("a slow piano melody").temperature(0.0).run().unwrap_err();
    /// assert_eq!(error.hint().unwrap(), "for the likeliest token every time, call `greedy`");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Device(error) => device_hint(error),
            Self::Hub(error) | Self::TextEncoder(error) => error.hint(),
            Self::Load(error) => error.hint().map(str::to_owned),
            Self::NoPasst { source, .. } => source.hint().map(str::to_owned),
            Self::Missing { hint, .. } => Some(hint.clone()),
            Self::Request { hint, .. } => Some((*hint).to_owned()),
            Self::Setting(SettingError::Temperature(_)) => {
                Some("for the likeliest token every time, call `greedy`".to_owned())
            }
            Self::Prompt { source: TokenError::TooLong { .. }, .. } => Some("shorten the prompt".to_owned()),
            Self::Tokenizer(TokenError::File(_)) => Some("put `tokenizer.json` beside the weights".to_owned()),
            Self::Generate(GenerateError::NothingToAdd { .. }) => {
                Some("`seconds` includes the recording that is continued".to_owned())
            }
            Self::Hook(HookError::Unknown(_)) | Self::Point(_) | Self::NoLayer { .. } => {
                Some("`points` lists the hook points of a model".to_owned())
            }
            Self::Hook(HookError::NotCaptured { name, .. }) => {
                Some(format!("call `capture(\"{name}\")` before the run"))
            }
            Self::Clap(ClapError::Degenerate { .. }) => {
                Some("take another checkpoint, or call `accept_degenerate` to use it all the same".to_owned())
            }
            Self::Clap(ClapError::Overflow { .. }) => Some("take `Dtype::F32`".to_owned()),
            _ => None,
        }
    }

    /// The error that a transparent variant wraps, else itself: what a program that reports errors of several layers
    /// looks at.
    pub fn inner(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Device(error) => error,
            Self::Hub(error) => error,
            Self::Load(error) => error,
            Self::Tokenizer(error) => error,
            Self::Setting(error) => error,
            Self::Hook(error) => error,
            Self::Point(error) => error,
            Self::Generate(error) => error,
            Self::Sound(error) => error,
            Self::Audio(error) => error,
            Self::Schedule(error) => error,
            Self::Clap(error) => error,
            Self::Passt(error) => error,
            Self::Unheard(error) => error,
            Self::Lens(error) => error,
            Self::Probe(error) => error,
            other => other,
        }
    }

    /// A request that makes no sense.
    pub(crate) fn request(what: impl Into<String>, hint: &'static str) -> Self {
        Self::Request { what: what.into(), hint }
    }

    /// For `map_err`: cannot `action` `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// In the words of a program: the device's own hints are those of the command line.
fn device_hint(error: &DeviceError) -> Option<String> {
    Some(match error {
        DeviceError::NotCompiled { api: Api::Metal } if !cfg!(target_vendor = "apple") => {
            "Metal exists on Apple's systems only; take the device `auto`".to_owned()
        }
        DeviceError::NotCompiled { api } => {
            format!("add the feature `{}` of `tonoscope` in `Cargo.toml`, or take the device `cpu`", api.feature())
        }
        DeviceError::NotPresent { found, .. } if !found.is_empty() => "`Device::list` lists the devices".to_owned(),
        DeviceError::UnsupportedDtype { .. } => "take `Dtype::F32`".to_owned(),
        DeviceError::WeightsNotOnCpu { .. } => {
            "take `Dtype::F16` for half the memory on a GPU, or the device `cpu`".to_owned()
        }
        DeviceError::Open { .. } => "update the driver, or take the device `cpu`".to_owned(),
        other => return other.hint(),
    })
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut said = self.to_string();
        for cause in successors(self.source(), |&error| error.source()) {
            let cause = cause.to_string();
            if !said.contains(&cause) {
                write!(f, ": {cause}")?;
                said = cause;
            }
        }
        match self.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
