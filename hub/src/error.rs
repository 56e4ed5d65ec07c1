//! What can go wrong between a model name and a folder with its files.

use std::io;
use std::path::{Path, PathBuf};

use super::Token;
use super::name::NameError;

/// A checkpoint that could not be found, fetched, checked or removed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is no model.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An environment variable or file of the Hub's setup is unusable.
    #[error("`{setting}` is unusable: {reason}")]
    BadSetting {
        /// Variable or file.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files are missing and no request may be sent.
    #[error("`{model}` is not in the cache `{}`{} and offline mode is set{}", cache.display(), if missing.is_empty() { "" } else { " as a whole" }, and_missing(missing))]
    Offline {
        /// The model.
        model: String,
        /// The cache that was searched.
        cache: PathBuf,
        /// What is missing; nothing if all of it is.
        missing: Vec<String>,
    },
    /// The cache does not hold the model.
    #[error("`{model}` is not in the cache `{}`", cache.display())]
    NotInCache {
        /// The model.
        model: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// The cache does not hold the model, and this build sends no request.
    #[error("`{model}` is not in the cache, and this build cannot download")]
    NoNetwork {
        /// The model.
        model: String,
    },
    /// A checkpoint lacks files.
    #[error("`{place}` is no whole checkpoint; missing {}", list(missing))]
    Incomplete {
        /// Folder or model.
        place: String,
        /// What is missing.
        missing: Vec<String>,
        /// What a whole checkpoint of this kind consists of.
        consists_of: &'static str,
    },
    /// The licence must be accepted first.
    #[error("`{id}` is gated: the Hub gives it only to users who accepted its licence")]
    Gated {
        /// The repository.
        id: String,
        /// Page where the licence is accepted.
        page: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The Hub shows no such repository, or not to us.
    #[error("the Hub has no model `{id}`, or it is private")]
    NoRepository {
        /// The repository.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("`{id}` has no revision `{revision}`")]
    NoRevision {
        /// The repository.
        id: String,
        /// What was asked for.
        revision: String,
    },
    /// A file that the Hub's own listing led to does not exist.
    #[error("`{id}` has no file `{file}`")]
    NoFile {
        /// The repository.
        id: String,
        /// The file.
        file: String,
    },
    /// `config.json` describes another architecture.
    #[error("`{place}` has model type `{found}`, expected `{expected}`")]
    ModelType {
        /// Folder or model.
        place: String,
        /// `model_type` of its `config.json`.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach `{url}`: {reason}")]
    Network {
        /// Address without query.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The server could not prove who it is.
    #[error("`{url}` is not trusted: {reason}")]
    Certificate {
        /// Address without query.
        url: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("`{url}` sent nothing for {seconds} s{through}")]
    Stalled {
        /// Address without query.
        url: String,
        /// How long was waited.
        seconds: f64,
        /// ` through the proxy …`, or nothing.
        through: String,
    },
    /// The connection ended before the file did.
    #[error("the download of `{file}` was cut off: expected {expected} bytes, found {found}")]
    Cut {
        /// The file.
        file: String,
        /// Its size.
        expected: u64,
        /// What arrived.
        found: u64,
    },
    /// An answer that is neither the file nor a known refusal.
    #[error("`{url}` answered with status {status}{}", suffix(message))]
    Status {
        /// Address without query.
        url: String,
        /// HTTP status.
        status: u16,
        /// The server's words, if it said any.
        message: String,
        /// Seconds after which it wants to be asked again.
        retry_after: Option<u64>,
    },
    /// A redirect that is not followed.
    #[error("`{url}` redirects where tonoscope does not follow: {reason}")]
    Redirect {
        /// Address without query.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// A header that the Hub always sends is absent or makes no sense.
    #[error("`{url}` has no usable `{header}` header: found `{found}`")]
    Header {
        /// Address without query.
        url: String,
        /// Name of the header.
        header: &'static str,
        /// Its value, or `nothing`.
        found: String,
    },
    /// The server sends another number of bytes than it announced.
    #[error("`{file}` has {found} bytes on the server, expected {expected}")]
    Length {
        /// The file.
        file: String,
        /// Size announced at first.
        expected: u64,
        /// Size that came, as far as it was read.
        found: u64,
    },
    /// The content is not what the Hub lists.
    #[error("`{file}` is corrupt: its {algorithm} is `{found}`, expected `{expected}`")]
    Checksum {
        /// The file.
        file: String,
        /// `sha256` or `git sha1`.
        algorithm: &'static str,
        /// Checksum listed by the Hub.
        expected: String,
        /// Checksum of what arrived.
        found: String,
    },
    /// A list of shards that is not one, or that leads elsewhere.
    #[error("`{}` is not a usable list of weight files: {reason}", path.display())]
    BadIndex {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No space left.
    #[error("no space left to write `{}`: {missing} more bytes are needed", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes still to come.
        missing: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process is working on the model.
    #[error("`{model}` is being downloaded by another process")]
    InUse {
        /// The model.
        model: String,
    },
    /// Removing would leave the cache.
    #[error("refused to remove `{}`: {reason}", path.display())]
    Refused {
        /// What was to be removed.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Stopped on request.
    #[error("the download was interrupted")]
    Cancelled,
}

impl HubError {
    /// What to do next, where something can be done.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name(error) => error.hint(),
            Self::Gated { page, with_token: false, .. } => format!(
                "accept the licence at {page}, make a token at https://huggingface.co/settings/tokens and pass it in `HF_TOKEN`"
            ),
            Self::Gated { page, with_token: true, .. } => {
                format!("accept the licence at {page} with the account of your token, and let the token read gated repositories")
            }
            Self::NoRepository { with_token: false, .. } => {
                "check the spelling of `org/name`; for a private model pass a token in `HF_TOKEN`".into()
            }
            Self::NoRepository { with_token: true, .. } => {
                "check the spelling of `org/name`, and that your token is valid and may read this model".into()
            }
            Self::NoRevision { .. } => "leave out `@revision` for `main`".into(),
            Self::Offline { .. } => "unset `HF_HUB_OFFLINE`, or run `tonoscope models fetch` where there is a connection and copy the cache".into(),
            Self::NoNetwork { .. } => "build with the feature `hub`, or pass a folder".into(),
            Self::NotInCache { .. } => "`tonoscope models list` shows what is there".into(),
            Self::Incomplete { consists_of, .. } => (*consists_of).into(),
            Self::Network { .. } | Self::Stalled { .. } | Self::Cut { .. } => {
                "run the command again: what arrived is kept and resumed; behind a firewall set `HTTPS_PROXY` or `HF_ENDPOINT`".into()
            }
            Self::Certificate { .. } => {
                "if your network puts its own certificates in between, set `REQUESTS_CA_BUNDLE` or `SSL_CERT_FILE` to a PEM file with their root"
                    .into()
            }
            Self::Status { status: 401 | 403, .. } => "the token in `HF_TOKEN` may be invalid or lack the right to read this model".into(),
            Self::Status { status: 429, .. } => "the Hub asks for fewer requests; wait some minutes, or pass a token in `HF_TOKEN`".into(),
            Self::Status { status: 500.., .. } => "the server has a problem; try again later: what arrived is kept and resumed".into(),
            Self::Header { .. } | Self::Redirect { .. } | Self::Length { .. } => {
                "check `HF_ENDPOINT`: this server does not answer as the Hub does".into()
            }
            Self::Checksum { .. } => "the damaged file was not kept; run `tonoscope models fetch` again, and check `HF_ENDPOINT` if it stays".into(),
            Self::DiskFull { .. } => "free some space, or point `HF_HUB_CACHE` to a larger disk; what arrived is kept and resumed".into(),
            Self::InUse { .. } => "wait for it to end".into(),
            Self::Cancelled => "run the command again to resume".into(),
            Self::Refused { .. } => "remove it by hand if that is what you want".into(),
            Self::BadSetting { .. } | Self::NoFile { .. } | Self::ModelType { .. } | Self::Status { .. } | Self::BadIndex { .. } | Self::Io { .. } => {
                return None;
            }
        })
    }

    /// Whether asking again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }

    /// The error without `token`, which a server may have put into what it sends.
    pub(super) fn without(mut self, token: Option<&Token>) -> Self {
        let Some(token) = token else { return self };
        let (Self::ModelType { found: text, .. }
        | Self::Network { reason: text, .. }
        | Self::Certificate { reason: text, .. }
        | Self::Status { message: text, .. }
        | Self::Header { found: text, .. }
        | Self::BadIndex { reason: text, .. }
        | Self::NoFile { file: text, .. }) = &mut self
        else {
            return self;
        };
        *text = token.hidden_in(text);
        self
    }

    /// For `map_err`: cannot `action` `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err` of a write: a full disk is told apart.
    pub(super) fn write(path: &Path, missing: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), missing }
            }
            _ => Self::Io { action: "write", path: path.to_owned(), source },
        }
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn and_missing(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; missing {}", list(names)) }
}

fn suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": `{message}`") }
}
