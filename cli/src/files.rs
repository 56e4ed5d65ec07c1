//! Files that appear whole or not at all.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use tempfile::NamedTempFile;

use crate::failure::Misuse;

/// Files that a command reads, none of which it may write over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs(Arc<HashMap<Identity, PathBuf>>);

/// What two paths of one file have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    /// Device and inode.
    #[cfg(unix)]
    Inode(u64, u64),
    /// Without links.
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl Identity {
    /// The file at `path`, links followed; `None` if there is none.
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|about| Self::Inode(about.dev(), about.ino()))
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<Self> {
        fs::canonicalize(path).ok().map(Self::Path)
    }
}

impl Inputs {
    /// The files at `paths`; those that are not there are nobody's input.
    pub(crate) fn new(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let known = |path: &Path| Some((Identity::of(path)?, path.to_owned()));
        Self(Arc::new(paths.into_iter().filter_map(|path| known(path.as_ref())).collect()))
    }

    /// Makes sure that `output` is none of them, under whatever name.
    ///
    /// # Errors
    /// [`Misuse`] if it is.
    pub(crate) fn refuse(&self, output: &Path) -> Result<()> {
        let input = if self.0.is_empty() { None } else { Identity::of(output).and_then(|id| self.0.get(&id)) };
        let Some(input) = input else { return Ok(()) };
        let (output, input) = (output.display(), input.display());
        let what = format!("`{output}` would be written over, but this command reads `{input}`, the same file");
        Err(Misuse::new(what).hint("choose another name or folder for the results").into())
    }
}

/// Makes sure that `folder` holds none of the files `names`, and nothing in folders of these names: a command that has not
/// made them would write over them.
///
/// # Errors
/// [`Misuse`] names the first.
pub(crate) fn refuse_made_by_others(folder: &Path, names: &[&str]) -> Result<(), Misuse> {
    let filled = |name: &&&str| {
        let path = folder.join(name);
        path.is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    };
    match names.iter().find(filled) {
        Some(name) => {
            let what = format!("`{}` holds `{name}`, which this command has not made", folder.display());
            Err(Misuse::new(what).hint("choose a new folder"))
        }
        None => Ok(()),
    }
}

/// Folder and name of a file that is to be written, and that is none of `inputs`; the folder is made if need be.
pub(crate) fn output_file(path: &Path, inputs: &Inputs) -> Result<(OutputFolder, String)> {
    let name = path.file_name().filter(|_| !path.is_dir()).and_then(|name| name.to_str());
    let name = name.ok_or_else(|| anyhow!("`{}` cannot be the name of a file", path.display()))?;
    inputs.refuse(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((OutputFolder::begin(parent, inputs)?, name.to_owned()))
}

/// How the names of files begin that are not finished.
pub(crate) const TEMPORARY: &str = ".tonoscope-";

/// A folder for results, made if need be.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    path: PathBuf,
    /// What is never written over.
    inputs: Inputs,
}

impl OutputFolder {
    /// Makes sure that `path` is a folder that can be written to, before hours are spent on what goes there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder `{}`", path.display()))?;
        tempfile::tempfile_in(path).with_context(|| format!("cannot write into `{}`", path.display()))?;
        Ok(Self::existing(path))
    }

    /// As [`Self::open`], for a command that begins: clears away what a killed one has left, and writes over none of `inputs`.
    pub(crate) fn begin(path: &Path, inputs: &Inputs) -> Result<Self> {
        let folder = Self { inputs: inputs.clone(), ..Self::open(path)? };
        // A folder that may be written to but not listed is rare, and no reason to refuse.
        let _ = folder.tidy();
        Ok(folder)
    }

    /// A folder that is there, to read from.
    pub(crate) fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), inputs: Inputs::default() }
    }

    /// The folder `name` within this one, made if need be; the same inputs are safe from it.
    pub(crate) fn within(&self, name: &str) -> Result<Self> {
        Ok(Self { inputs: self.inputs.clone(), ..Self::open(&self.path.join(name))? })
    }

    /// Makes sure that no file `names` within it is an input, before hours are spent.
    ///
    /// # Errors
    /// [`Misuse`] if one is.
    pub(crate) fn refuse_inputs(&self, names: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
        names.into_iter().try_for_each(|name| self.inputs.refuse(&self.path.join(name)))
    }

    /// Removes what a killed process left half-written; what another process is writing right now stays.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not be removed.
    pub(crate) fn tidy(&self) -> Result<()> {
        let listed = fs::read_dir(&self.path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        for entry in listed.with_context(|| format!("cannot read the folder `{}`", self.path.display()))? {
            let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
            if plain && entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove_abandoned(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes those of the files `names` within it that are there.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| remove_if_there(&self.path.join(name)))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes` as `name` and returns its path.
    ///
    /// # Errors
    /// [`Misuse`] if that is an input of the command; if the file cannot be written.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        self.inputs.refuse(&path)?;
        let write = || -> std::io::Result<()> {
            self.temporary(bytes)?.persist(&path)?;
            Ok(())
        };
        write().map_err(without_path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    /// Writes `bytes` as `name` unless there is such a file already; whether it was written.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write_once(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path.join(name);
        let write = || -> std::io::Result<bool> {
            match self.temporary(bytes)?.persist_noclobber(&path) {
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
                written => Ok(written.map(|_| true)?),
            }
        };
        write().map_err(without_path).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// A file of `bytes` that nobody takes for abandoned: it is locked. Some file systems know no locks; there nothing is
    /// tidied away.
    fn temporary(&self, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
        let mut file = loop {
            let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.path)?;
            // Another process may have tidied it away before it was locked.
            if file.as_file().lock().is_err() || file.path().exists() {
                break file;
            }
        };
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary files are private; results are for everybody who may read the folder.
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        Ok(file)
    }
}

/// Removes the unfinished file at `path` if nobody writes it any more; on a file system without locks that is not known.
fn remove_abandoned(path: &Path) -> Result<()> {
    let Ok(file) = File::options().write(true).open(path) else { return Ok(()) };
    // Locked until it is removed, so that a writer that has just made it waits, and then notices.
    if file.try_lock().is_err() { Ok(()) } else { remove_if_there(path) }
}

/// Removes the file at `path`, which another process may have done.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
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

    #[test]
    fn files_that_many_write_and_tidy_at_once_all_appear() {
        let guard = tempfile::tempdir().unwrap();
        let folder = OutputFolder::open(guard.path()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let folder = &folder;
                scope.spawn(move || {
                    for index in 0..40 {
                        folder.write(&format!("{thread}_{index}"), b"x").unwrap();
                        folder.tidy().unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 8 * 40);
    }

    #[test]
    fn an_input_is_not_written_over_under_any_name() {
        let guard = tempfile::tempdir().unwrap();
        let [input, other] = ["y.wav", "z.wav"].map(|name| guard.path().join(name));
        fs::write(&input, b"sound").unwrap();
        fs::write(&other, b"old").unwrap();
        let inputs = Inputs::new([&input]);
        fs::create_dir(guard.path().join("sub")).unwrap();
        let roundabout = guard.path().join("sub/../y.wav");
        for output in [&input, &roundabout] {
            let error = output_file(output, &inputs).unwrap_err();
            assert!(error.is::<Misuse>() && error.to_string().contains("would be written over"), "{error}");
        }
        #[cfg(unix)]
        {
            let [hard, soft] = ["hard.wav", "soft.wav"].map(|name| guard.path().join(name));
            fs::hard_link(&input, &hard).unwrap();
            std::os::unix::fs::symlink(&input, &soft).unwrap();
            assert!(output_file(&hard, &inputs).is_err() && output_file(&soft, &inputs).is_err());
        }
        let folder = OutputFolder::begin(guard.path(), &inputs).unwrap();
        assert!(folder.refuse_inputs(["x.wav", "y.wav"]).is_err() && folder.refuse_inputs(["x.wav"]).is_ok());
        assert!(folder.write("y.wav", b"vectors").is_err());
        assert!(folder.within("sub").unwrap().write("../y.wav", b"vectors").is_err());
        folder.write("z.wav", b"new").unwrap();
        assert_eq!((fs::read(&input).unwrap(), fs::read(&other).unwrap()), (b"sound".to_vec(), b"new".to_vec()));
    }
}
