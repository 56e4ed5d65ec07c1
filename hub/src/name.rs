//! What `--model` may say: a known name, a Hub id, or a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use super::built_in;

/// Names that stand for a checkpoint on the Hub.
const KNOWN: &[(&str, &str)] = &[
    ("musicgen-small", "facebook/musicgen-small"),
    ("musicgen-medium", "facebook/musicgen-medium"),
    ("musicgen-large", "facebook/musicgen-large"),
    ("musicgen-stereo-small", "facebook/musicgen-stereo-small"),
    ("musicgen-stereo-medium", "facebook/musicgen-stereo-medium"),
    ("musicgen-stereo-large", "facebook/musicgen-stereo-large"),
    ("stable-audio-open-1.0", "stabilityai/stable-audio-open-1.0"),
    ("larger_clap_general", "laion/larger_clap_general"),
    ("larger_clap_music", "laion/larger_clap_music"),
    ("larger_clap_music_and_speech", "laion/larger_clap_music_and_speech"),
    ("clap-htsat-unfused", "laion/clap-htsat-unfused"),
    ("clap-htsat-fused", "laion/clap-htsat-fused"),
];

/// Relatives of MusicGen that tonoscope cannot run, by how the name starts.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("musicgen-melody", "it is conditioned on a melody, which is not built"),
    ("musicgen-stereo-melody", "it is conditioned on a melody, which is not built"),
    ("musicgen-style", "it is conditioned on an audio excerpt, which is not built"),
];

/// A `--model` value that names nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the model name is empty")]
    Empty,
    /// Neither a known name nor a folder.
    #[error("no model is called `{name}`")]
    Unknown {
        /// What was given.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A model of the family that this program cannot run.
    #[error("`{name}` is not supported: {reason}")]
    Unsupported {
        /// What was given.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Looks like a Hub id, and is none.
    #[error("`{id}` is not a Hub id: {reason}")]
    BadId {
        /// What was given.
        id: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The part behind `@` cannot be a branch, a tag or a commit.
    #[error("`{revision}` is not a revision: expected a branch, a tag or a commit")]
    BadRevision {
        /// What was given.
        revision: String,
    },
    /// Written as a path, but nothing is there.
    #[error("no folder `{}`", path.display())]
    NoFolder {
        /// The path, `~` resolved.
        path: PathBuf,
    },
    /// A file where a folder is expected.
    #[error("`{}` is a file, expected a folder", path.display())]
    NotAFolder {
        /// The path, `~` resolved.
        path: PathBuf,
    },
}

impl NameError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Empty | Self::Unknown { .. } | Self::Unsupported { .. } => format!(
                "pass one of {}, a Hub id such as `org/name`, or a folder such as `./name`",
                known_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::BadId { .. } => {
                "a Hub id is `org/name` or `org/name@revision`; a folder that does not exist yet is no model".into()
            }
            Self::BadRevision { .. } => "write it as `org/name@main` or `org/name@<commit>`".into(),
            Self::NoFolder { .. } => {
                "check the path; a Hub id is written `org/name`, without a leading `.`, `/` or `~`".into()
            }
            Self::NotAFolder { path } => match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => format!("pass the folder that holds the checkpoint: `{}`", parent.display()),
                None => "pass the folder that holds the checkpoint".into(),
            },
        }
    }
}

/// The names that are known without a Hub id: those of models inside the program first.
pub fn known_names() -> impl Iterator<Item = &'static str> {
    built_in::ALL.iter().map(|model| model.name).chain(KNOWN.iter().map(|(name, _)| *name))
}

/// A repository on the Hub, `org/name`, checked to be safe as a folder name and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubId(String);

impl HubId {
    /// Checks `text` against the Hub's rules for `org/name`.
    ///
    /// # Errors
    /// [`NameError::BadId`] with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bad = |reason| NameError::BadId { id: text.to_owned(), reason };
        let (org, name) = text.split_once('/').ok_or_else(|| bad("expected `org/name`"))?;
        if text.len() > 96 {
            return Err(bad("longer than 96 characters"));
        }
        for part in [org, name] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if part.is_empty() || !part.chars().all(allowed) {
                return Err(bad("expected `org/name` of letters, digits, `-`, `_` and `.`"));
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return Err(bad("a part starts or ends with `-` or `.`"));
            }
            // `--` would make the cache folder `models--org--name` ambiguous, `..` a path.
            if part.contains("--") || part.contains("..") {
                return Err(bad("`--` and `..` are not allowed"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// `org/name`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `--model` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// A repository on the Hub.
    Hub {
        /// The repository.
        id: HubId,
        /// Branch, tag or commit; `None` is `main`.
        revision: Option<String>,
    },
    /// A folder on this machine.
    Folder(PathBuf),
}

impl ModelRef {
    /// Reads `text`: a folder if it is written like a path or exists, else a known name, else a Hub id;
    /// the last two may end in `@revision`. A leading `~` stands for `home`.
    ///
    /// # Errors
    /// [`NameError`] where `text` names nothing that could be a model.
    pub fn parse(text: &str, home: Option<&Path>) -> Result<Self, NameError> {
        if text.trim().is_empty() {
            return Err(NameError::Empty);
        }
        let path = expand_home(text, home);
        if text.starts_with(['.', '/', '~']) || path.is_absolute() || path.is_dir() {
            return match path.metadata() {
                Ok(found) if found.is_dir() => Ok(Self::Folder(path)),
                Ok(_) => Err(NameError::NotAFolder { path }),
                Err(_) => Err(NameError::NoFolder { path }),
            };
        }
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(check_revision(revision)?)),
            None => (text, None),
        };
        refuse_unsupported(name)?;
        if let Some((_, id)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Hub { id: HubId((*id).to_owned()), revision });
        }
        if name.contains('/') {
            return Ok(Self::Hub { id: HubId::parse(name)?, revision });
        }
        if path.is_file() {
            return Err(NameError::NotAFolder { path });
        }
        Err(NameError::Unknown { name: name.to_owned(), nearest: nearest(name) })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { id, revision: None } => write!(f, "{id}"),
            Self::Hub { id, revision: Some(revision) } => write!(f, "{id}@{revision}"),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `~` and `~/rest` under `home`; everything else as it is.
pub(super) fn expand_home(text: &str, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(text),
    }
}

fn refuse_unsupported(name: &str) -> Result<(), NameError> {
    let bare = name.strip_prefix("facebook/").unwrap_or(name);
    match UNSUPPORTED.iter().find(|(start, _)| bare.starts_with(start)) {
        Some((_, reason)) => Err(NameError::Unsupported { name: name.to_owned(), reason }),
        None => Ok(()),
    }
}

/// A revision becomes a path below `refs/` and a segment of a URL.
fn check_revision(revision: &str) -> Result<String, NameError> {
    let segment_is_safe = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with(['.', '-'])
            && !segment.contains("..")
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if revision.len() <= 200 && revision.split('/').all(segment_is_safe) {
        Ok(revision.to_owned())
    } else {
        Err(NameError::BadRevision { revision: revision.to_owned() })
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    known_names()
        .map(|known| (strsim::normalized_damerau_levenshtein(&lower, known), known))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
