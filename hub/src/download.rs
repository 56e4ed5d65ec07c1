//! One file from the Hub into the cache: resumed, retried, checked, and then put in its place at once.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::Response;

use super::checksum::{Hasher, hash_rest};
use super::http::{Client, Remote, text};
use super::layout::{Layout, Lock, create_parent};
use super::progress::{Event, Progress};
use super::{HubConfig, HubError, HubId};

/// A connection that brought this much was good: the next failure is counted as the first.
pub(super) const GOOD_PROGRESS: u64 = 1 << 20;
/// How often to look whether another process is done.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A file to fetch.
pub(super) struct Job<'a> {
    pub(super) config: &'a HubConfig,
    pub(super) client: &'a Client,
    pub(super) layout: &'a Layout,
    pub(super) id: &'a HubId,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
    pub(super) remote: &'a Remote,
}

impl Job<'_> {
    /// Makes `blobs/<etag>` exist and `snapshots/<commit>/<file>` point to it.
    pub(super) fn run(&self, progress: &mut dyn Progress) -> Result<(), HubError> {
        if !self.is_present() {
            self.fetch_blob(progress)?;
            self.layout.link(self.commit, self.file, self.remote.etag.as_str())?;
        }
        progress.report(Event::Finished { file: self.file });
        Ok(())
    }

    /// Whether the snapshot has the file at its full size. Where links cannot be made it has no blob.
    pub(super) fn is_present(&self) -> bool {
        has_size(&self.layout.snapshot(self.commit).join(self.file), self.remote.size)
    }

    fn blob(&self) -> PathBuf {
        self.layout.blobs().join(self.remote.etag.as_str())
    }

    fn fetch_blob(&self, progress: &mut dyn Progress) -> Result<(), HubError> {
        let blob = self.blob();
        if has_size(&blob, self.remote.size) {
            return Ok(());
        }
        let lock = self.wait_for_lock(progress)?;
        if has_size(&blob, self.remote.size) {
            return Ok(());
        }
        create_parent(&blob)?;
        // Without a lock nobody can tell whether the common partial file is being written to.
        let path = match lock {
            Lock::Held(_) => PathBuf::from(format!("{}.incomplete", blob.display())),
            _ => PathBuf::from(format!("{}.{}.incomplete", blob.display(), unique())),
        };
        let result = self.write_blob(&path, &blob, progress);
        if result.is_err() && !matches!(lock, Lock::Held(_)) {
            // Nobody will look for it under this name again.
            let _ = fs::remove_file(&path);
        }
        result
    }

    fn write_blob(&self, path: &Path, blob: &Path, progress: &mut dyn Progress) -> Result<(), HubError> {
        let mut partial = self.open_partial(path, progress)?;
        progress.report(Event::Started { file: self.file, resumed: partial.done, size: self.remote.size });
        self.fill(&mut partial, progress)?;
        partial.file.sync_all().map_err(HubError::write(path, 0))?;
        drop(partial);
        fs::rename(path, blob).map_err(HubError::io("put in place", blob))
    }

    fn wait_for_lock(&self, progress: &mut dyn Progress) -> Result<Lock, HubError> {
        let path = self.layout.lock(self.remote.etag.as_str());
        let mut told = false;
        loop {
            match Lock::try_take(&path)? {
                Lock::Taken => {}
                lock => return Ok(lock),
            }
            if !told {
                progress.report(Event::Waiting { file: self.file });
                told = true;
            }
            pause(LOCK_POLL, progress)?;
        }
    }

    /// Opens what an earlier run left, and hashes it; nothing is kept that cannot be a beginning of the file.
    fn open_partial<'a>(&self, path: &'a Path, progress: &mut dyn Progress) -> Result<Partial<'a>, HubError> {
        let size = self.remote.size;
        if let Ok(found) = path.symlink_metadata()
            && (!found.is_file() || found.len() > size)
        {
            fs::remove_file(path).map_err(HubError::io("remove", path))?;
        }
        let mut file =
            File::options().create(true).read(true).append(true).open(path).map_err(HubError::io("open", path))?;
        let mut hasher = self.remote.etag.hasher(size);
        let done = hash_rest(&mut file, path, self.file, size, &mut hasher, progress)?;
        Ok(Partial { path, file, hasher, done, foreign: done })
    }

    /// Requests until the file is whole and its checksum right.
    fn fill(&self, partial: &mut Partial<'_>, progress: &mut dyn Progress) -> Result<(), HubError> {
        let mut failures = 0;
        loop {
            let before = partial.done;
            let result = if partial.done < self.remote.size { self.transfer(partial, progress) } else { Ok(()) };
            let error = match result {
                Ok(()) => match self.remote.etag.check(self.file, partial.hasher.clone()) {
                    Ok(()) => return Ok(()),
                    // What another run left may not have been a beginning of this file; start once more.
                    Err(_) if partial.foreign > 0 => {
                        self.restart(partial)?;
                        progress.report(Event::Advanced { file: self.file, done: 0, size: self.remote.size });
                        continue;
                    }
                    Err(error) => {
                        fs::remove_file(partial.path).map_err(HubError::io("remove", partial.path))?;
                        return Err(error);
                    }
                },
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            if partial.done.saturating_sub(before) >= GOOD_PROGRESS {
                failures = 0;
            }
            failures += 1;
            back_off(self.config, self.config.retries, self.file, failures, error, progress)?;
        }
    }

    /// One request, read to its end.
    fn transfer(&self, partial: &mut Partial<'_>, progress: &mut dyn Progress) -> Result<(), HubError> {
        let size = self.remote.size;
        let response = self.client.get(self.id, self.commit, self.file, partial.done)?;
        if partial.done > 0 && !continues_at(&response, partial.done, size) {
            self.restart(partial)?;
            progress.report(Event::Advanced { file: self.file, done: 0, size });
            if response.status().as_u16() != 200 {
                return Err(self.cut(partial));
            }
        }
        let left = size - partial.done;
        if let Some(length) = response.body().content_length()
            && length != left
        {
            return Err(HubError::Length { file: self.file.to_owned(), expected: left, found: length });
        }
        let url = self.client.url(self.id, self.commit, self.file);
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if progress.cancelled() {
                return Err(HubError::Cancelled);
            }
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(self.client.explain(&url, ureq::Error::from(error))),
            };
            if n == 0 {
                return if partial.done == size { Ok(()) } else { Err(self.cut(partial)) };
            }
            let left = size - partial.done;
            if n as u64 > left {
                let found = partial.done + n as u64;
                return Err(HubError::Length { file: self.file.to_owned(), expected: size, found });
            }
            partial.file.write_all(&buffer[..n]).map_err(HubError::write(partial.path, left))?;
            partial.hasher.update(&buffer[..n]);
            partial.done += n as u64;
            progress.report(Event::Advanced { file: self.file, done: partial.done, size });
        }
    }

    fn cut(&self, partial: &Partial<'_>) -> HubError {
        HubError::Cut { file: self.file.to_owned(), expected: self.remote.size, found: partial.done }
    }

    fn restart(&self, partial: &mut Partial<'_>) -> Result<(), HubError> {
        partial.file.set_len(0).map_err(HubError::io("empty", partial.path))?;
        partial.hasher = self.remote.etag.hasher(self.remote.size);
        partial.done = 0;
        partial.foreign = 0;
        Ok(())
    }
}

/// The file being written, and what is known of it.
struct Partial<'a> {
    path: &'a Path,
    /// Opened to append, so that a restart needs no seek.
    file: File,
    hasher: Hasher,
    done: u64,
    /// Bytes that an earlier run left.
    foreign: u64,
}

/// Questions are given up sooner than transfers: where there is no network, the user wants to know.
const QUESTION_RETRIES: u32 = 2;

/// Repeats the question `request` while it fails in ways that may pass.
pub(super) fn with_retries<T>(
    config: &HubConfig,
    file: &str,
    progress: &mut dyn Progress,
    mut request: impl FnMut() -> Result<T, HubError>,
) -> Result<T, HubError> {
    let mut failures = 0;
    loop {
        match request() {
            Err(error) if error.is_transient() => {
                failures += 1;
                back_off(config, config.retries.min(QUESTION_RETRIES), file, failures, error, progress)?;
            }
            result => return result,
        }
    }
}

/// Waits before the next attempt, or gives `error` back after too many.
pub(super) fn back_off(
    config: &HubConfig,
    retries: u32,
    file: &str,
    failures: u32,
    error: HubError,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    if failures > retries {
        return Err(error);
    }
    let factor = 1 << (failures - 1).min(6);
    let mut wait = config.backoff * factor.min(60);
    if let HubError::Status { retry_after: Some(seconds), .. } = &error {
        wait = wait.max(Duration::from_secs((*seconds).min(120)));
    }
    progress.report(Event::Retrying { file, attempt: failures, wait, error: &error });
    pause(wait, progress)
}

/// Sleeps in short pieces, so that it can be stopped.
fn pause(wait: Duration, progress: &mut dyn Progress) -> Result<(), HubError> {
    let end = Instant::now() + wait;
    loop {
        if progress.cancelled() {
            return Err(HubError::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// Whether the answer is the part of the file from `from` to its end.
fn continues_at(response: &Response<Body>, from: u64, size: u64) -> bool {
    let expected = format!("bytes {from}-{}/{size}", size - 1);
    response.status().as_u16() == 206 && text(response, "content-range").map(str::trim) == Some(expected.as_str())
}

fn has_size(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == size)
}

fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
