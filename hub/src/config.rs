//! Where the Hub is, where its cache is, and with which token it is asked.
//!
//! Same variables and same order as Python's `huggingface_hub`, so that one setup serves both.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "network")]
use super::Proxies;
use super::name::expand_home;
use super::{HubError, Token};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Everything that the environment decides about the Hub.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Folder of the cache, with `models--org--name` in it.
    pub cache: PathBuf,
    /// Address of the Hub without a slash at the end.
    pub endpoint: String,
    /// Token that is sent to `endpoint`, and to no other host.
    pub token: Option<Token>,
    /// Send no request.
    pub offline: bool,
    /// Home folder, for a `~` in front of a path.
    pub home: Option<PathBuf>,
    /// Proxies of the requests.
    #[cfg(feature = "network")]
    pub proxies: Proxies,
    /// PEM file of root certificates instead of Mozilla's.
    pub certificates: Option<PathBuf>,
    /// A transfer that brings no byte for this long is broken off, and tried again.
    pub stall: Duration,
    /// How often a request is repeated that brings nothing new.
    pub retries: u32,
    /// Pause before the first repetition; doubled each time, at most 60 times as long.
    pub backoff: Duration,
}

impl HubConfig {
    /// A configuration with the public Hub, no token, and the cache at `cache`.
    #[must_use]
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            token: None,
            offline: false,
            home: None,
            #[cfg(feature = "network")]
            proxies: Proxies::default(),
            certificates: None,
            stall: Duration::from_secs(30),
            retries: 5,
            backoff: Duration::from_secs(1),
        }
    }

    /// Reads the environment; the only function of this module that does.
    ///
    /// Cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub`,
    /// `~/.cache/huggingface/hub`. Token: `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`,
    /// `$HF_HOME/token` (with the same default for `HF_HOME`). Also `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
    /// `TRANSFORMERS_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, the usual
    /// variables of [`Proxies`], and `REQUESTS_CA_BUNDLE` or `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// [`HubError::BadSetting`] for a value that cannot be meant, [`HubError::Io`] for a token file that
    /// cannot be read.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_lookup(&|name| std::env::var_os(name))
    }

    /// [`from_env`](Self::from_env) with any source of variables.
    pub(super) fn from_lookup(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let truthy = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let home = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| {
            get(name).map(|value| match value.to_str() {
                Some(text) => expand_home(text, home.as_deref()),
                None => PathBuf::from(value),
            })
        };

        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|folder| folder.join("hub")))
            .ok_or_else(|| HubError::BadSetting {
                setting: "HOME".into(),
                reason: "not set, so there is no place for the cache".into(),
            })?;

        let mut config = Self::new(cache);
        #[cfg(feature = "network")]
        if let Some(endpoint) = text("HF_ENDPOINT") {
            config.endpoint = check_address("HF_ENDPOINT", &endpoint, Some("HF_TOKEN"))?;
        }
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT") {
            config.stall = match seconds.trim().parse::<u64>() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(HubError::BadSetting {
                        setting: "HF_HUB_DOWNLOAD_TIMEOUT".into(),
                        reason: format!("expected seconds from 1 to 86400, found `{seconds}`"),
                    });
                }
            };
        }
        if !truthy("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.map(|folder| folder.join("token")));
            config.token = find_token(&text, token_file.as_deref())?;
        }
        config.offline = truthy("HF_HUB_OFFLINE") || truthy("TRANSFORMERS_OFFLINE");
        config.certificates = certificates(lookup);
        config.home = home;
        #[cfg(feature = "network")]
        {
            config.proxies = Proxies::from_lookup(lookup);
        }
        Ok(config)
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn find_token(text: &dyn Fn(&str) -> Option<String>, file: Option<&Path>) -> Result<Option<Token>, HubError> {
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = text(variable)
            && let Some(token) = Token::parse(&value, variable)?
        {
            return Ok(Some(token));
        }
    }
    let Some(file) = file else { return Ok(None) };
    match std::fs::read_to_string(file) {
        Ok(content) => Token::parse(&content, &file.display().to_string()),
        // Services and containers have a home that is no folder.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(HubError::io("read the token file", file)(error)),
    }
}

/// File of root certificates, from `REQUESTS_CA_BUNDLE` or `SSL_CERT_FILE`.
pub fn certificates(lookup: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let home = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
    let value = get("REQUESTS_CA_BUNDLE").or_else(|| get("SSL_CERT_FILE"))?;
    Some(value.to_str().map_or_else(|| PathBuf::from(&value), |text| expand_home(text, home.as_deref())))
}

/// `text`, the value of `setting`, without the slash at its end, if it can be the address of a server; `token` is the
/// variable that a token belongs into.
///
/// # Errors
/// [`HubError::BadSetting`] if it cannot be one, or holds a password.
#[cfg(feature = "network")]
pub fn check_address(setting: &str, text: &str, token: Option<&str>) -> Result<String, HubError> {
    let bad = |reason: String| HubError::BadSetting { setting: setting.into(), reason };
    let text = text.trim().trim_end_matches('/');
    let uri: ureq::http::Uri = text.parse().map_err(|_| bad("not a URL".into()))?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) {
        return Err(bad("expected `https://…`".into()));
    }
    // A password in the address would show up in every error.
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        let instead = token.map_or(String::new(), |token| format!("; pass a token in `{token}` instead"));
        return Err(bad(format!("it holds a user name or a password{instead}")));
    }
    if uri.query().is_some() {
        return Err(bad("it holds a `?`".into()));
    }
    Ok(text.to_owned())
}
