//! Files that appear whole or not at all, and sound from files.

use std::{
    fs::{self, File},
    io::{BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use tonoscope_core::audio::Waveform;

/// The sound of a WAV file.
pub(crate) fn read_wav(path: &Path) -> Result<Waveform> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Waveform::from_wav(BufReader::new(file)).with_context(|| format!("`{}`", path.display()))
}

/// Folder and name of a file that is to be written; the folder is made if need be.
pub(crate) fn output_file(path: &Path) -> Result<(OutputFolder, String)> {
    let name = path.file_name().filter(|_| !path.is_dir()).and_then(|name| name.to_str());
    let name = name.ok_or_else(|| anyhow!("`{}` cannot be the name of a file", path.display()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((OutputFolder::open(parent)?, name.to_owned()))
}

/// How the names of files begin that are not finished.
pub(crate) const TEMPORARY: &str = ".tonoscope-";

/// A folder for results, made if need be.
#[derive(Debug)]
pub(crate) struct OutputFolder(PathBuf);

impl OutputFolder {
    /// Makes sure that `path` is a folder that can be written to, before hours are spent on what goes there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder `{}`", path.display()))?;
        tempfile::tempfile_in(path).with_context(|| format!("cannot write into `{}`", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// A folder that is there, to read from.
    pub(crate) fn existing(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Removes what a killed process left half-written; what another process is writing right now stays.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not be removed.
    pub(crate) fn tidy(&self) -> Result<()> {
        let listed = fs::read_dir(&self.0).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        for entry in listed.with_context(|| format!("cannot read the folder `{}`", self.0.display()))? {
            let path = entry.path();
            let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
            if plain && entry.file_name().to_string_lossy().starts_with(TEMPORARY) && is_abandoned(&path) {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot remove `{}`", path.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes those of the files `names` within it that are there.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.0.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove `{}`", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `bytes` as `name` and returns its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.0.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.0)?;
            // Says that somebody is at it, for `tidy`; the lock ends with the process. Some file systems know none.
            let _ = file.as_file().lock();
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // Temporary files are private; results are for everybody who may read the folder.
                file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            }
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(without_path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }
}

/// Whether nobody writes the unfinished file at `path` any more; on a file system without locks that is not known.
fn is_abandoned(path: &Path) -> bool {
    File::options().write(true).open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// An error of the system without the name of the temporary file that `tempfile` adds: nobody has asked for that one.
fn without_path(error: std::io::Error) -> std::io::Error {
    let inner = error.get_ref().and_then(|error| error.source()).and_then(|source| source.downcast_ref());
    inner.and_then(std::io::Error::raw_os_error).map_or(error, std::io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_any_more_is_tidied_away() {
        let guard = tempfile::tempdir().unwrap();
        let folder = OutputFolder::open(guard.path()).unwrap();
        let [abandoned, written, finished] =
            [".tonoscope-a", ".tonoscope-b", "result.csv"].map(|name| guard.path().join(name));
        for path in [&abandoned, &written, &finished] {
            fs::write(path, b"x").unwrap();
        }
        let writer = File::options().write(true).open(&written).unwrap();
        writer.lock().unwrap();
        folder.tidy().unwrap();
        assert!(!abandoned.exists() && written.exists() && finished.exists());
        drop(writer);
        folder.tidy().unwrap();
        assert!(!written.exists() && finished.exists());
    }
}
