//! Requests to the Hub: what is asked, which redirects are followed, and who sees the token.

use std::path::Path;
use std::time::Duration;

use ureq::Body;
use ureq::http::{Method, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::checksum::Etag;
use super::layout::is_commit;
use super::wanted::printable;
use super::{HubConfig, HubError, HubId, Proxies, Token, is_this_machine};

/// The Hub itself needs two.
const MAX_REDIRECTS: usize = 5;

/// Size and checksum of a file on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) etag: Etag,
    pub(super) size: u64,
}

/// The answer to a question about a file.
#[derive(Debug)]
pub(super) struct Answer {
    /// The commit that the revision stands for now.
    pub(super) commit: Option<String>,
    /// `None`: there is no such file.
    pub(super) file: Option<Remote>,
}

/// A client of one Hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    proxies: Proxies,
    endpoint: String,
    token: Option<Token>,
    stall: Duration,
}

impl Client {
    pub(super) fn new(config: &HubConfig) -> Result<Self, HubError> {
        Ok(Self {
            agent: agent(config.certificates.as_deref(), config.stall)?,
            proxies: config.proxies.clone(),
            endpoint: config.endpoint.clone(),
            token: config.token.clone(),
            stall: config.stall,
        })
    }

    /// Address of `file` at `revision`.
    pub(super) fn url(&self, id: &HubId, revision: &str, file: &str) -> String {
        // A checked revision holds nothing else that a URL reads in its own way.
        format!("{}/{id}/resolve/{}/{file}", self.endpoint, revision.replace('/', "%2F"))
    }

    /// Asks for size and checksum of `file` at `revision`.
    ///
    /// `is_known`: the repository and the revision exist, or nobody can tell, so that a 404 is about the file.
    pub(super) fn head(&self, id: &HubId, revision: &str, file: &str, is_known: bool) -> Result<Answer, HubError> {
        let url = self.url(id, revision, file);
        let response = self.follow(&Method::HEAD, &url, &[])?;
        let commit = text(&response, "x-repo-commit").filter(|commit| is_commit(commit)).map(str::to_owned);
        let status = response.status();
        if status.as_u16() == 404 && is_missing_file(&response, is_known) {
            return Ok(Answer { commit, file: None });
        }
        if !status.is_success() && !status.is_redirection() {
            return Err(self.refusal(&response, &url, id, revision));
        }
        let bad = |header, found: Option<&str>| HubError::Header {
            url: url.clone(),
            header,
            found: found.map_or_else(|| "nothing".into(), |found| self.shown(found)),
        };
        let etag = text(&response, "x-linked-etag").or_else(|| text(&response, "etag"));
        let etag = etag.and_then(Etag::parse).ok_or_else(|| bad("etag", etag))?;
        let size = text(&response, "x-linked-size").or_else(|| {
            // The length of a redirect is that of the redirect.
            text(&response, "content-length").filter(|_| status.is_success())
        });
        let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| bad("content-length", size))?;
        Ok(Answer { commit, file: Some(Remote { etag, size }) })
    }

    /// Asks for the content of `file` from byte `from` on. Status is 200, 206 or 416; all else is an error.
    pub(super) fn get(&self, id: &HubId, commit: &str, file: &str, from: u64) -> Result<Response<Body>, HubError> {
        let url = self.url(id, commit, file);
        let range = format!("bytes={from}-");
        let headers = [(header::RANGE, range.as_str())];
        let response = self.follow(&Method::GET, &url, if from > 0 { &headers } else { &[] })?;
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            404 if is_missing_file(&response, false) => {
                Err(HubError::NoFile { id: id.to_string(), file: file.to_owned() })
            }
            _ => Err(self.refusal(&response, &url, id, commit)),
        }
    }

    /// Asks for the content of `url`, no file of the Hub, from byte `from` on if it still has the `etag` that it had then.
    /// Status is 200, 206 or 416; all else is an error.
    pub(super) fn get_url(&self, url: &str, from: u64, etag: &str) -> Result<Response<Body>, HubError> {
        let range = format!("bytes={from}-");
        let headers = [(header::RANGE, range.as_str()), (header::IF_RANGE, etag)];
        let response = self.follow(&Method::GET, url, if from > 0 { &headers } else { &[] })?;
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            status => Err(HubError::Status {
                url: url.to_owned(),
                status,
                message: String::new(),
                retry_after: text(&response, "retry-after").and_then(|seconds| seconds.trim().parse().ok()),
            }),
        }
    }

    /// Sends a request and follows its redirects. `HEAD` stops where the Hub hands over to another host
    /// or says what it would hand over, since that answer carries the checksum.
    fn follow(
        &self,
        method: &Method,
        url: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response<Body>, HubError> {
        let refuse = |reason| HubError::Redirect { url: url.to_owned(), reason };
        let home: Uri = self.endpoint.parse().map_err(|_| refuse("the address of the Hub is no URL"))?;
        let mut target: Uri = url.parse().map_err(|_| refuse("not a URL"))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                ureq::http::Request::builder().method(method).uri(&target).header(header::ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            if let Some(token) = &self.token
                && may_see_token(&target, &home)
            {
                request = request.header(header::AUTHORIZATION, token.bearer());
            }
            let request = request.body(()).map_err(|_| refuse("not a URL"))?;
            let proxy = self.proxies.of(&target)?.cloned();
            let request = self.agent.configure_request(request).proxy(proxy).build();
            let response = self.agent.run(request).map_err(|error| self.explain_at(url, &target, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = text(&response, "location")
                .and_then(|location| resolve(&target, location))
                .ok_or_else(|| refuse("it does not say where to"))?;
            // A mirror that hands everything over to the Hub says nothing of the file itself.
            let has = |name: &str| response.headers().contains_key(name);
            let is_answer = has("x-linked-etag") || (has("etag") && !same_origin(&next, &target));
            if method == Method::HEAD && is_answer {
                return Ok(response);
            }
            if target.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(refuse("from https to an unprotected connection"));
            }
            target = next;
        }
        Err(refuse("too many redirects"))
    }

    /// A ureq error in our words, without addresses: those of a CDN carry signatures.
    pub(super) fn explain(&self, url: &str, error: ureq::Error) -> HubError {
        self.explain_at(url, &url.parse().unwrap_or_default(), error)
    }

    /// The same of a request for `url` that was sent to `target`.
    fn explain_at(&self, url: &str, target: &Uri, error: ureq::Error) -> HubError {
        let (url, through) = (url.to_owned(), self.proxies.named(target));
        let Some(reason) = reason(error) else {
            return HubError::Stalled { url, seconds: self.stall.as_secs_f64(), through };
        };
        let reason = self.hidden(&reason);
        if reason.starts_with("invalid peer certificate") {
            return HubError::Certificate { url, reason };
        }
        HubError::Network { url, reason: format!("{reason}{through}") }
    }

    /// Text of the server for an error: without the token, and only then cut.
    fn shown(&self, text: &str) -> String {
        printable(&self.hidden(text))
    }

    fn hidden(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_owned(), |token| token.hidden_in(text))
    }

    /// The error for a status that is no success.
    fn refusal(&self, response: &Response<Body>, url: &str, id: &HubId, revision: &str) -> HubError {
        let status = response.status().as_u16();
        let id = id.to_string();
        let with_token =
            self.token.is_some() && self.endpoint.parse().is_ok_and(|home: Uri| may_see_token(&home, &home));
        match (text(response, "x-error-code"), status) {
            (Some("GatedRepo"), _) => HubError::Gated { page: format!("{}/{id}", self.endpoint), id, with_token },
            (Some("RevisionNotFound"), _) => HubError::NoRevision { id, revision: revision.to_owned() },
            // The Hub answers 401 for a repository that it does not want to admit exists.
            (Some("RepoNotFound"), _) | (None, 401 | 404) => HubError::NoRepository { id, with_token },
            _ => HubError::Status {
                url: url.to_owned(),
                status,
                message: text(response, "x-error-message").map(|text| self.shown(text)).unwrap_or_default(),
                retry_after: text(response, "retry-after").and_then(|seconds| seconds.trim().parse().ok()),
            },
        }
    }
}

/// A client for the web that follows no redirect and takes any status for an answer.
///
/// `certificates`: a PEM file of root certificates instead of Mozilla's. A connection that brings no byte for `stall` is
/// given up.
///
/// # Errors
/// [`HubError::Io`] or [`HubError::BadSetting`] if the certificates cannot be read.
pub fn agent(certificates: Option<&Path>, stall: Duration) -> Result<ureq::Agent, HubError> {
    let tls = match certificates {
        None => TlsConfig::builder().build(),
        Some(path) => {
            let bad = || HubError::BadSetting {
                setting: path.display().to_string(),
                reason: "expected a PEM file of certificates".into(),
            };
            let pem = std::fs::read(path).map_err(HubError::io("read the certificates", path))?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                    Ok(_) => None,
                    Err(_) => Some(Err(bad())),
                })
                .collect::<Result<_, _>>()?;
            if certificates.is_empty() {
                return Err(bad());
            }
            TlsConfig::builder().root_certs(RootCerts::from(certificates)).build()
        }
    };
    Ok(ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        // Each request has its own.
        .proxy(None)
        .user_agent(concat!("tonoscope/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .tls_config(tls)
        .build()
        .new_agent())
}

/// A ureq error in our words, without addresses; `None`: nothing came in time.
pub fn reason(error: ureq::Error) -> Option<String> {
    use ureq::Error;
    Some(match error {
        Error::Timeout(_) => return None,
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => return None,
            _ => error.to_string(),
        },
        Error::Rustls(error) => error.to_string(),
        Error::HostNotFound => "the host name is not known".into(),
        Error::ConnectionFailed => "the connection failed".into(),
        Error::BadUri(_) => "not a URL".into(),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => "the proxy did not connect".into(),
        Error::Http(_) | Error::Protocol(_) | Error::LargeResponseHeader(..) => "the answer is not valid HTTP".into(),
        other => printable(&other.to_string()),
    })
}

/// A 404 for the file rather than for its repository or revision.
fn is_missing_file(response: &Response<Body>, is_known: bool) -> bool {
    match text(response, "x-error-code") {
        Some(code) => code == "EntryNotFound",
        // Mirrors do not repeat the code, but an answer with a commit knows the repository.
        None => is_known || response.headers().contains_key("x-repo-commit"),
    }
}

/// A header as text.
pub fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Only the Hub that the user named sees the token, and over the network only when nobody else can read it.
fn may_see_token(target: &Uri, home: &Uri) -> bool {
    same_origin(target, home) && is_private(target)
}

/// Whether nobody between here and there can read along.
pub fn is_private(target: &Uri) -> bool {
    target.scheme_str() == Some("https") || is_this_machine(target)
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// `location` as seen from `base`: a whole address, or a path on the same host.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let location = location.split('#').next()?;
    let whole = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = whole.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    // A user name in front of the host is how one address is made to look like another.
    (is_web && uri.host().is_some() && !uri.authority()?.as_str().contains('@')).then_some(uri)
}
