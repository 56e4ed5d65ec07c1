//! Archives from outside: unpacked as a whole or not at all, and nowhere but where they belong.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::{
    failure::Failed,
    files::TEMPORARY,
    interrupt::{self, Interrupted},
};

/// What an archive may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Files and folders.
    pub(crate) entries: usize,
    /// Bytes of one file.
    pub(crate) file: u64,
    /// Bytes of all files.
    pub(crate) all: u64,
}

impl Limits {
    /// More than any split of `NSynth` needs: 289 205 notes of 128 kB, and 200 MB of what is said of them.
    pub(crate) const NSYNTH: Self = Self { entries: 1_000_000, file: 2 << 30, all: 100 << 30 };
}

/// Longest name of a file within its archive.
const LONGEST_NAME: usize = 200;
/// Most folders above a file.
const DEEPEST: usize = 4;
/// Longest extended header: a few times and numbers.
const LONGEST_HEADER: u64 = 1 << 16;
/// What may follow the end of an archive: blocks of zeros.
const LONGEST_END: u64 = 16 << 20;

/// Unpacks the `.tar.gz` file `archive` as the folder `target`, which must not be there yet; a single folder around all
/// files of the archive is left out. Returns how many files there are.
///
/// Only plain files and folders are unpacked. They lie beside `target` under another name until all are there.
///
/// # Errors
/// A name that leads out of the folder, a link, a device, a file beyond `limits`, an archive that is cut short or
/// damaged: nothing is left of it then.
pub(crate) fn unpack(archive: &Path, target: &Path, limits: &Limits, watch: &mut dyn FnMut(u64)) -> Result<usize> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder `{}`", parent.display()))?;
    let file = File::open(archive).with_context(|| format!("cannot read `{}`", archive.display()))?;
    let stage = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .with_context(|| format!("cannot write into `{}`", parent.display()))?;
    let refused = || format!("`{}` was not unpacked", archive.display());
    let read = Counted { inner: BufReader::with_capacity(1 << 20, file), done: 0, watch };
    let mut archive = Archive::new(MultiGzDecoder::new(read));
    let count = entries(&mut archive, stage.path(), limits).with_context(refused)?;
    // The checksum of the compressed file stands behind all of it.
    let rest = io::copy(&mut archive.into_inner().take(LONGEST_END + 1), &mut io::sink());
    ensure!(
        rest.context("the archive is damaged").with_context(refused)? <= LONGEST_END,
        "{}: more follows",
        refused()
    );
    let inner = single_folder(stage.path())?.unwrap_or_else(|| stage.path().to_owned());
    readable(&inner)?;
    fs::rename(&inner, target).with_context(|| format!("cannot make the folder `{}`", target.display()))?;
    Ok(count)
}

/// Unpacks all entries below `stage`.
fn entries<R: Read>(archive: &mut Archive<R>, stage: &Path, limits: &Limits) -> Result<usize> {
    let (mut files, mut all) = (0, 0);
    // Raw: what extends a header is looked at here, not obeyed.
    for (index, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry.context("the archive is damaged")?;
        ensure!(index < limits.entries, "it holds more than {} files", limits.entries);
        if interrupt::asked() {
            bail!(Interrupted::NothingWritten);
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::XHeader | EntryType::XGlobalHeader => plain_header(&mut entry)?,
            EntryType::Directory => {
                if let Some(path) = inside(&entry, stage)? {
                    fs::create_dir_all(&path)
                        .with_context(|| format!("cannot make the folder `{}`", path.display()))?;
                }
            }
            EntryType::Regular => {
                let size = entry.size();
                let name = shown(&entry);
                ensure!(size <= limits.file, "`{name}` has {size} bytes, more than {} of a file", limits.file);
                all += size;
                ensure!(all <= limits.all, "its files have more than {} bytes", limits.all);
                let path = inside(&entry, stage)?.with_context(|| format!("`{name}` is no name of a file"))?;
                write(&mut entry, &path, size).with_context(|| format!("`{name}`"))?;
                files += 1;
            }
            kind => {
                let what = format!("`{}` is {}", shown(&entry), called(kind));
                return Err(Failed::new(what, "only archives of plain files and folders are unpacked").into());
            }
        }
    }
    ensure!(files > 0, "there is no file in it");
    Ok(files)
}

/// Copies one file; a name that occurs twice is refused, and so is a file that would be written through a link.
fn write<R: Read>(entry: &mut Entry<'_, R>, path: &Path, size: u64) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make the folder `{}`", parent.display()))?;
    }
    let mut file = File::create_new(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let copied = io::copy(entry, &mut file).context("the archive is damaged, or cannot be written")?;
    ensure!(copied == size, "the archive ends within this file");
    Ok(())
}

/// Where an entry goes; `None`: the folder that all goes into.
///
/// # Errors
/// A name that leads elsewhere, or means something else on another system.
fn inside<R: Read>(entry: &Entry<'_, R>, stage: &Path) -> Result<Option<PathBuf>> {
    let bytes = entry.path_bytes();
    let bad = |why: &str| format!("`{}` {why}", shown(entry));
    let name = std::str::from_utf8(&bytes).ok().filter(|name| name.len() <= LONGEST_NAME);
    let name = name.with_context(|| bad("is no name that is unpacked"))?;
    ensure!(!name.starts_with('/'), bad("leads out of the archive"));
    let mut path = stage.to_owned();
    let mut depth = 0;
    for part in name.split('/').filter(|part| !part.is_empty() && *part != ".") {
        ensure!(part != "..", bad("leads out of the archive"));
        let plain = |byte: u8| {
            byte.is_ascii_graphic() && !matches!(byte, b'\\' | b':' | b'*' | b'?' | b'"' | b'<' | b'>' | b'|')
        };
        ensure!(part.bytes().all(plain), bad("holds characters that no name of `NSynth` has"));
        path.push(part);
        depth += 1;
    }
    ensure!(depth <= DEEPEST + 1, bad("lies too deep"));
    Ok((depth > 0).then_some(path))
}

/// Passes over an extended header that says nothing of names and sizes.
fn plain_header<R: Read>(entry: &mut Entry<'_, R>) -> Result<()> {
    let size = entry.size();
    ensure!(size <= LONGEST_HEADER, "an extended header has {size} bytes");
    let mut text = vec![];
    entry.take(LONGEST_HEADER).read_to_end(&mut text).context("the archive is damaged")?;
    let lines = text.split(|byte| *byte == b'\n');
    // `23 path=some/where`
    let keys = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(1)?.split(|byte| *byte == b'=').next());
    for key in keys {
        let moves = [&b"path"[..], b"linkpath", b"size"].contains(&key) || key.starts_with(b"GNU.sparse");
        ensure!(!moves, "an extended header changes `{}`, which is not unpacked", String::from_utf8_lossy(key));
    }
    Ok(())
}

/// The name of an entry, for messages.
fn shown<R: Read>(entry: &Entry<'_, R>) -> String {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    name.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn called(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::Char | EntryType::Block | EntryType::Fifo => "a device",
        EntryType::GNULongName | EntryType::GNULongLink => "a name too long",
        EntryType::GNUSparse => "a file with holes",
        _ => "of an unknown kind",
    }
}

/// The only thing in `folder`, if it is a folder.
fn single_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let found = fs::read_dir(folder).and_then(|listed| listed.take(2).collect::<io::Result<Vec<_>>>());
    let found = found.with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    Ok(match found.as_slice() {
        [only] if only.path().is_dir() => Some(only.path()),
        _ => None,
    })
}

/// Temporary folders are private; what is unpacked is for everybody who may read the folder around it.
fn readable(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, mode).with_context(|| format!("cannot change `{}`", folder.display()))?;
    }
    Ok(())
}

/// Tells how much of a file was read.
struct Counted<'a, R> {
    inner: R,
    done: u64,
    watch: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        (self.watch)(self.done);
        Ok(read)
    }
}
