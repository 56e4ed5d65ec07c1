//! Which server is asked, and how patiently.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tonoscope_hub::{Proxies, Token, address, certificates, check_address, is_private};
use ureq::http::Uri;

use crate::failure::Misuse;

const OPENAI: &str = "https://api.openai.com/v1";
const KEY: &str = "OPENAI_API_KEY";
const BASE_URL: &str = "OPENAI_BASE_URL";

/// Which language model, where, and how patiently it is asked. The key is read from `OPENAI_API_KEY`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LlmArgs {
    /// Language model, by the name that the server has for it
    #[arg(long, value_name = "NAME", default_value = "gpt-4.1-mini")]
    pub(crate) model: String,
    /// Address of a server that speaks OpenAI's chat completions; one of your own may need no `OPENAI_API_KEY` [default:
    /// `OPENAI_BASE_URL`, else OpenAI's]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Ask no server, do it with what is built in; so it is done as well where there is neither a key nor an address
    #[arg(long, conflicts_with_all = ["base_url", "max_requests", "dry_run"])]
    pub(crate) offline: bool,
    /// Send no more requests than this, repetitions included
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    timeout: f64,
    /// How often a request is repeated that fails
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// Seconds before the first repetition, doubled each time, or what the server asks for
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    backoff: f64,
    /// Send the key even over a connection on which others can read along
    #[arg(long)]
    insecure: bool,
    /// Show the requests and what they would take, send none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Who is asked.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
#[derive(Debug)]
pub(crate) enum Source {
    /// Nobody; `noted`: the user has not asked for that.
    Offline {
        /// Whether it is worth a note.
        noted: bool,
    },
    /// A server.
    Server(Settings),
}

/// A server, and how patiently it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) model: String,
    pub(crate) key: Option<Token>,
    /// For a whole request.
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
    pub(crate) max_requests: Option<u64>,
    pub(crate) proxies: Proxies,
    pub(crate) certificates: Option<PathBuf>,
}

impl LlmArgs {
    /// Who is to be asked, after the arguments and the environment.
    ///
    /// # Errors
    /// [`Misuse`] for an address that is none, numbers that cannot be meant, and a key that others could read.
    pub(crate) fn source(&self) -> Result<Source> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let lookup = |name: &str| std::env::var_os(name);
        self.source_in(&variable, Proxies::from_lookup(&lookup), certificates(&lookup))
    }

    pub(super) fn source_in(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        proxies: Proxies,
        certificates: Option<PathBuf>,
    ) -> Result<Source> {
        if self.offline {
            return Ok(Source::Offline { noted: false });
        }
        let named = match &self.base_url {
            Some(url) => Some(("--base-url", url.clone())),
            None => variable(BASE_URL).map(|url| (BASE_URL, url)),
        };
        let key = match variable(KEY) {
            Some(key) => Token::parse(&key, KEY).map_err(|error| Misuse::new(error.to_string()))?,
            None => None,
        };
        if key.is_none() && named.is_none() && !self.dry_run {
            return Ok(Source::Offline { noted: true });
        }
        let base_url = match named {
            None => OPENAI.to_owned(),
            Some((setting, url)) => check_address(setting, &url, Some(KEY)).map_err(|error| {
                Misuse::new(error.to_string())
                    .hint(format!("such an address is `{OPENAI}` or `http://localhost:8080/v1`"))
            })?,
        };
        let private = base_url.parse::<Uri>().is_ok_and(|uri| is_private(&uri));
        if key.is_some() && !private && !self.insecure && !self.dry_run {
            let what = format!("`{base_url}` is not protected: others could read `{KEY}`");
            return Err(Misuse::new(what).hint(format!("use https, unset `{KEY}`, or pass `--insecure`")).into());
        }
        if let Ok(uri) = base_url.parse::<Uri>()
            && key.is_some()
            && !private
            && !self.dry_run
            && let Some(proxy) = proxies.of(&uri)?
        {
            let what = format!("`{base_url}` is not protected: the proxy `{}` would read `{KEY}`", address(proxy));
            let host = uri.host().unwrap_or_default();
            return Err(Misuse::new(what).hint(format!("use https, or add `{host}` to `no_proxy`")).into());
        }
        Ok(Source::Server(Settings {
            base_url,
            model: self.model.clone(),
            key,
            timeout: seconds("--timeout", self.timeout, 0.001)?,
            retries: self.retries,
            backoff: seconds("--backoff", self.backoff, 0.0)?,
            max_requests: self.max_requests,
            proxies,
            certificates,
        }))
    }
}

fn seconds(option: &str, value: f64, least: f64) -> Result<Duration, Misuse> {
    const DAY: f64 = 86_400.0;
    if (least..=DAY).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Misuse::new(format!("`{option}` is {value} seconds, expected {least} to {DAY}")))
}
