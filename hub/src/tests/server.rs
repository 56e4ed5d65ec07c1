//! A Hub on 127.0.0.1 that can misbehave.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tonoscope_tests::server::{Request, head, serve};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one `GET`.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Close the connection after so many bytes of the body.
    Cut(usize),
    /// Say nothing more after so many bytes of the body.
    Stall(usize),
    /// Send the whole file with status 200 whatever part was asked for.
    IgnoreRange,
    /// Send another content of the same length.
    Corrupt,
    /// Announce and send so many bytes more than the file has.
    TooLong(usize),
    /// Answer 206 with a part that was not asked for.
    WrongRange,
    /// Only this status.
    Status(u16, &'static str),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: VecDeque<Fault>,
    log: Vec<Request>,
    /// Answer to everything: status and more headers.
    refuse: Option<(u16, String)>,
    /// Large files are handed over to this address.
    cdn: Option<String>,
    weak_etags: bool,
    no_etags: bool,
    /// Neither commits nor error codes, as mirrors answer.
    no_commits: bool,
    /// All requests are handed over to this address.
    elsewhere: Option<String>,
}

/// A server that stops with the process.
#[derive(Debug, Clone)]
pub(super) struct FakeHub {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

impl FakeHub {
    pub(super) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let served = Self { address: String::new(), state: Arc::clone(&state) };
        Self { address: serve(move |request, stream| served.answer(request, stream)), state }
    }

    pub(super) fn with(self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.state.lock().unwrap().files.insert(name.to_owned(), content.into());
        self
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push_back(fault);
    }

    pub(super) fn refuse(&self, status: u16, headers: &str) {
        self.state.lock().unwrap().refuse = Some((status, headers.to_owned()));
    }

    pub(super) fn hand_over_to(&self, cdn: &str) {
        self.state.lock().unwrap().cdn = Some(cdn.to_owned());
    }

    pub(super) fn weak_etags(&self) {
        self.state.lock().unwrap().weak_etags = true;
    }

    pub(super) fn no_etags(&self) {
        self.state.lock().unwrap().no_etags = true;
    }

    pub(super) fn no_commits(&self) {
        self.state.lock().unwrap().no_commits = true;
    }

    pub(super) fn redirect_all_to(&self, address: &str) {
        self.state.lock().unwrap().elsewhere = Some(address.to_owned());
    }

    pub(super) fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    /// The `Range` headers of the `GET`s for `file`, in order.
    pub(super) fn ranges(&self, file: &str) -> Vec<Option<String>> {
        let gets = self.log().into_iter().filter(|r| r.method == "GET" && r.path.ends_with(&format!("/{file}")));
        gets.map(|request| request.headers.get("range").cloned()).collect()
    }

    fn answer(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.log.push(request.clone());
        if let Some((status, headers)) = state.refuse.clone() {
            return head(stream, status, &headers, 0);
        }
        if let Some(address) = &state.elsewhere {
            return head(stream, 308, &format!("Location: {address}{}\r\n", request.path), 0);
        }
        let file = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        let commit = if state.no_commits { String::new() } else { format!("X-Repo-Commit: {COMMIT}\r\n") };
        let code = if state.no_commits { "" } else { "X-Error-Code: EntryNotFound\r\n" };
        let Some(content) = state.files.get(&file).cloned() else {
            return head(stream, 404, &format!("{code}{commit}"), 0);
        };
        let is_large = !is_json(&file);
        let quote = if state.weak_etags { "W/\"" } else { "\"" };
        let etag = match (state.no_etags, is_large) {
            (true, _) => "ETag: \"abc\"\r\n".to_owned(),
            (false, true) => {
                format!("X-Linked-Etag: {quote}{}\"\r\nX-Linked-Size: {}\r\n", etag(&file, &content), content.len())
            }
            (false, false) => format!("ETag: {quote}{}\"\r\n", etag(&file, &content)),
        };
        if let Some(cdn) = state.cdn.clone().filter(|_| is_large) {
            let location = format!("Location: {cdn}/blob/{file}?Signature=secret\r\n");
            return head(stream, 302, &format!("{commit}{etag}{location}"), 0);
        }
        if request.method == "HEAD" {
            return head(stream, 200, &format!("{commit}{etag}"), content.len());
        }
        let fault = if is_large { state.faults.pop_front() } else { None };
        drop(state);
        send(stream, request, content, fault.as_ref())
    }
}

fn send(stream: &mut TcpStream, request: &Request, mut content: Vec<u8>, fault: Option<&Fault>) -> std::io::Result<()> {
    let total = content.len();
    let range = request.headers.get("range").filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let from = range.map_or(0, |r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    match fault {
        Some(Fault::Status(status, headers)) => return head(stream, *status, headers, 0),
        Some(Fault::Corrupt) => content.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Fault::TooLong(more)) => content.resize(total + more, 0),
        _ => {}
    }
    let body = &content[from..];
    if range.is_some() {
        let start = if matches!(fault, Some(Fault::WrongRange)) { from + 1 } else { from };
        head(stream, 206, &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1), body.len())?;
    } else {
        head(stream, 200, "", body.len())?;
    }
    match fault {
        Some(Fault::Cut(bytes)) => stream.write_all(&body[..*bytes]),
        Some(Fault::Stall(bytes)) => {
            stream.write_all(&body[..*bytes])?;
            stream.flush()?;
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
        _ => stream.write_all(body),
    }
}

fn is_json(file: &str) -> bool {
    std::path::Path::new(file).extension().is_some_and(|extension| extension == "json")
}

/// The checksum by which the Hub lists `content`.
pub(super) fn etag(file: &str, content: &[u8]) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|b| char::from_digit(b.into(), 16).unwrap()).collect()
    };
    if is_json(file) {
        hex(&Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
    } else {
        hex(&Sha256::digest(content))
    }
}
