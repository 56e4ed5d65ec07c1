//! One file from any address: resumed and retried as those of the Hub are, without their checksums.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::Response;

use super::download::{GOOD_PROGRESS, back_off};
use super::http::{Client, text};
use super::layout::create_parent;
use super::progress::{Event, Progress};
use super::{HubConfig, HubError};

/// Longest tag of a version that is kept.
const LONGEST_TAG: usize = 256;

/// Fetches `url` as `path`, which appears when it is whole; what an earlier attempt left is gone on with if the server
/// says that it is still the same file. No token is sent.
///
/// # Errors
/// [`HubError`] for what does not pass by waiting.
pub fn fetch_url(config: &HubConfig, url: &str, path: &Path, progress: &mut dyn Progress) -> Result<(), HubError> {
    let config = HubConfig { token: None, ..config.clone() };
    let client = Client::new(&config)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    create_parent(path)?;
    let mut download = Download { client, url, name, part: beside(path, "incomplete"), tag: beside(path, "etag") };
    let mut failures = 0;
    loop {
        let before = download.present();
        let error = match download.attempt(progress) {
            Ok(()) => break,
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if download.present().saturating_sub(before) >= GOOD_PROGRESS {
            failures = 0;
        }
        failures += 1;
        back_off(&config, config.retries, &download.name, failures, error, progress)?;
    }
    fs::rename(&download.part, path).map_err(HubError::io("put in place", path))?;
    // Nothing is gone on with any more; a tag that stays does no harm.
    let _ = fs::remove_file(&download.tag);
    progress.report(Event::Finished { file: &download.name });
    Ok(())
}

/// `path` with one more extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

struct Download<'a> {
    client: Client,
    url: &'a str,
    name: String,
    /// What there is so far.
    part: PathBuf,
    /// Version of the file that this is of.
    tag: PathBuf,
}

impl Download<'_> {
    fn present(&self) -> u64 {
        self.part.metadata().map_or(0, |found| found.len())
    }

    /// One request, read to its end.
    fn attempt(&mut self, progress: &mut dyn Progress) -> Result<(), HubError> {
        // Without the version of an earlier attempt nobody knows what its part is of.
        let etag = fs::read_to_string(&self.tag).ok().filter(|tag| !tag.is_empty() && self.part.is_file());
        let from = if etag.is_some() { self.present() } else { 0 };
        let response = self.client.get_url(self.url, from, etag.as_deref().unwrap_or_default())?;
        match response.status().as_u16() {
            206 => match part_of(&response) {
                Some((start, size)) if start == from => self.fill(response, from, Some(size), progress),
                _ => Err(self.restart(from, from)),
            },
            // Nothing follows what is here: it is whole, or of another file.
            416 => match text(&response, "content-range").and_then(|range| range.trim().strip_prefix("bytes */")) {
                Some(size) if size.parse() == Ok(from) => Ok(()),
                _ => Err(self.restart(from, 0)),
            },
            _ => {
                let tag = text(&response, "etag").filter(|tag| tag.len() <= LONGEST_TAG && !tag.starts_with("W/"));
                fs::write(&self.tag, tag.unwrap_or_default()).map_err(HubError::write(&self.tag, 0))?;
                let size = response.body().content_length();
                self.fill(response, 0, size, progress)
            }
        }
    }

    /// Begins again with the next attempt.
    fn restart(&self, found: u64, expected: u64) -> HubError {
        let _ = fs::remove_file(&self.tag);
        HubError::Cut { file: self.name.clone(), expected, found }
    }

    fn fill(
        &self,
        response: Response<Body>,
        from: u64,
        size: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let file = &self.name;
        let part = File::options().create(true).append(true).open(&self.part);
        let mut part = part.map_err(HubError::io("open", &self.part))?;
        part.set_len(from).map_err(HubError::io("shorten", &self.part))?;
        progress.report(Event::Planned { files: 1, bytes: size.unwrap_or(0), present: from });
        progress.report(Event::Started { file, resumed: from, size: size.unwrap_or(0) });
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (mut done, mut buffer) = (from, vec![0; 1 << 16]);
        loop {
            if progress.cancelled() {
                return Err(HubError::Cancelled);
            }
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(self.client.explain(self.url, ureq::Error::from(error))),
            };
            if read == 0 {
                break;
            }
            part.write_all(&buffer[..read]).map_err(HubError::write(&self.part, size.unwrap_or(done) - done))?;
            done += read as u64;
            progress.report(Event::Advanced { file, done, size: size.unwrap_or(done) });
        }
        if let Some(expected) = size.filter(|size| *size != done) {
            return Err(HubError::Cut { file: file.clone(), expected, found: done });
        }
        part.sync_all().map_err(HubError::write(&self.part, 0))
    }
}

/// First byte and whole size, by the header of a part.
fn part_of(response: &Response<Body>) -> Option<(u64, u64)> {
    let (range, size) = text(response, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
}
