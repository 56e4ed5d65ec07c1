//! Finished pieces of a long run: kept when it is killed, and not made again by the next run of the same settings.
//!
//! Inside the folder of the results lies `units/`: one file per finished unit of work, and `key.json`, everything that
//! decides the results. Every file appears whole or not at all, and ends with a checksum. A unit is finished if its file is
//! there and the checksum fits. A unit that was damaged since is computed again: its key decides every bit of it, so that
//! this needs nobody's help and gives what was there before.
//!
//! Several processes, such as the jobs of an array, may fill one folder and begin at the same time. Each holds a lock shared
//! while it works. Who holds it alone may clear away what a killed process left behind, or remove a collection in which
//! nothing was finished; the lock file goes with it, so that a process which has waited for the lock makes sure that its
//! lock file is still there.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    failure::{Failed, Misuse},
    files::{OutputFolder, TEMPORARY, remove_if_there},
    interrupt::Interrupted,
    progress,
};

const FOLDER: &str = "units";
const KEY: &str = "key.json";
const LOCK: &str = ".lock";
/// Folders beside the units that the same runs write into; so do those that begin as [`STEP`] says.
const BESIDE: [&str; 8] = ["audio", "captures", "edits", "figures", "latents", "means", "noise", "pairs"];
/// A folder of what was made at a denoising step.
const STEP: &str = "diff_step_";
/// Behind the name of every unit; nothing else in the folder ends so.
const UNIT: &str = ".unit";
/// Between the content of a unit and its checksum.
const SEAL: &[u8] = b"\nsha256 ";
/// Times that a process begins again because another has removed the collection meanwhile.
const ATTEMPTS: usize = 10_000;

/// The finished units of one run.
#[derive(Debug)]
pub(crate) struct Units {
    folder: OutputFolder,
    key: Value,
    /// The key as it is written: a number with many digits may not come back from text as it was.
    key_text: Vec<u8>,
    /// `None`: for reading only.
    lock: Option<File>,
    checked: Mutex<Checked>,
}

/// Units whose checksum was compared.
#[derive(Debug, Default)]
struct Checked {
    whole: BTreeSet<String>,
    /// Those that were told to be damaged.
    damaged: BTreeSet<String>,
}

impl Units {
    /// Opens the units inside `folder` that were made under `key`, or begins such a collection.
    ///
    /// `key` is a JSON object of all that decides the results: model, prompts, settings, but no times. With `overwrite`,
    /// whatever is there is removed first.
    ///
    /// # Errors
    /// [`Misuse`] if the units there were made under another key: it names the first field that differs. Files that
    /// cannot be read or written.
    pub(crate) fn open(folder: &OutputFolder, key: &Value, overwrite: bool) -> Result<Self> {
        let path = folder.path().join(FOLDER);
        let key_text = serde_json::to_vec_pretty(key)?;
        let key = serde_json::from_slice(&key_text)?;
        // Without the check that it can be written to: its file would be foreign to a process that tidies up.
        let folder = OutputFolder::existing(&path);
        let mut units = Self { folder, key, key_text, lock: None, checked: Mutex::default() };
        for _ in 0..ATTEMPTS {
            if let Some(lock) = units.begin(overwrite)? {
                units.lock = Some(lock);
                return Ok(units);
            }
            std::thread::yield_now();
        }
        bail!("other processes begin and end in `{}` all the time", path.display())
    }

    /// Opens what is inside the folder of results `folder`, for reading, whatever its key is.
    ///
    /// # Errors
    /// [`Misuse`] if there is nothing; files that cannot be read.
    pub(crate) fn existing(folder: &Path) -> Result<Self> {
        let path = folder.join(FOLDER);
        let Some(key) = read_key(&path)? else {
            return Err(Misuse::new(format!("`{}` holds no units of a run", folder.display())).into());
        };
        let folder = OutputFolder::existing(&path);
        Ok(Self { folder, key, key_text: vec![], lock: None, checked: Mutex::default() })
    }

    /// Everything that decides the results.
    pub(crate) fn key(&self) -> &Value {
        &self.key
    }

    /// Whether the unit `name` is finished: its file is there, and its checksum fits. Says so where it does not.
    pub(crate) fn has(&self, name: &str) -> bool {
        let path = self.path(name);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.whole.contains(name) {
            return path.is_file();
        }
        let Ok(file) = fs::read(&path) else { return false };
        if unsealed(name, &file).is_some() {
            checked.whole.insert(name.to_owned());
            return true;
        }
        if checked.damaged.insert(name.to_owned()) {
            let folder = self.folder.path().display();
            progress::note(&format!("unit `{name}` in `{folder}` is damaged, so that it does not count as finished"));
        }
        false
    }

    /// Marks the unit `name` as finished, with `bytes` as what came out.
    ///
    /// # Errors
    /// If the file cannot be written; there is none of it then.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.folder.write(&file_name(name), &sealed(name, bytes))?;
        Ok(())
    }

    /// What came out of the finished unit `name`.
    ///
    /// # Errors
    /// If its file cannot be read, or is damaged.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        let mut file = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let Some(content) = unsealed(name, &file) else {
            let what = format!("`{}` is damaged", path.display());
            return Err(Failed::new(what, "run the command that has made it again: it computes the unit again").into());
        };
        file.truncate(content.len());
        Ok(file)
    }

    /// `error`, which says how many of the units `names` are finished if Ctrl-C is its cause; `what` they are, such as
    /// `prompts`.
    pub(crate) fn interrupted(
        &self,
        error: anyhow::Error,
        names: impl Iterator<Item = String>,
        what: &'static str,
    ) -> anyhow::Error {
        let (mut finished, mut all) = (0, 0);
        for name in names {
            all += 1;
            finished += usize::from(self.has(&name));
        }
        Interrupted::finished(error, finished, all, what)
    }

    /// Names of all finished units, sorted.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = listed(self.folder.path())?.iter().filter_map(|file| unit_name(file)).collect();
        names.sort();
        Ok(names)
    }

    /// Removes what jobs that were killed have left half-written, for when every unit is finished: an array that goes on
    /// is never without somebody who holds the lock, under which it is cleared away otherwise.
    ///
    /// # Errors
    /// If a folder cannot be read, or a file not be removed.
    pub(crate) fn clear_half_written(&self) -> Result<()> {
        self.folder.tidy()?;
        let Some(results) = self.folder.path().parent() else { return Ok(()) };
        OutputFolder::existing(results).tidy()?;
        tidy_beside(results)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(file_name(name))
    }

    /// Clears away what must not be there, and makes sure that what is there has our key. `None` if another process has
    /// removed the collection meanwhile.
    fn begin(&self, overwrite: bool) -> Result<Option<File>> {
        let folder = self.folder.path();
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        let path = folder.join(LOCK);
        let lock = match File::options().create(true).truncate(false).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            lock => lock.with_context(|| format!("cannot write `{}`", path.display()))?,
        };
        match lock.try_lock() {
            Ok(()) => {
                if !is_at(&lock, &path) {
                    return Ok(None);
                }
                // Nobody else works here: no file is being written, and none is about to be.
                self.tidy(overwrite)?;
                lock.unlock().with_context(|| format!("cannot unlock `{}`", folder.display()))?;
            }
            Err(TryLockError::WouldBlock) if overwrite => {
                let what = format!("another process writes into `{}`", folder.display());
                return Err(Misuse::new(what).hint("wait until it ends, or choose another folder with `--out`").into());
            }
            Err(TryLockError::WouldBlock) => {}
            // Some network file systems know no locks. Without one nothing is cleared away that is not asked for.
            Err(TryLockError::Error(_)) => {
                if overwrite {
                    self.tidy(true)?;
                }
            }
        }
        // Waits for a process that has just begun and still tidies up; where there are no locks there is no waiting. From
        // then on nobody removes what is here.
        let _ = lock.lock_shared();
        if !is_at(&lock, &path) {
            return Ok(None);
        }
        let there = match read_key(folder)? {
            Some(there) => there,
            // Two may come to this at once: the first decides.
            None if self.folder.write_once(KEY, &self.key_text)? => return Ok(Some(lock)),
            None => read_key(folder)?.unwrap_or_default(),
        };
        match first_difference(&there, &self.key) {
            None => Ok(Some(lock)),
            Some(difference) => Err(difference.misuse(folder).into()),
        }
    }

    /// Removes what a killed process left half-written, here and in the folder of the results, with `everything` also
    /// the units that are finished; gives an empty folder our key.
    fn tidy(&self, everything: bool) -> Result<()> {
        let folder = self.folder.path();
        let files = listed(folder)?;
        let (units, others): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| unit_name(file).is_some());
        let foreign = |file: &&&String| **file != KEY && **file != LOCK && !file.starts_with(TEMPORARY);
        let foreign = others.iter().find(foreign);
        if let Some(file) = foreign {
            let what = format!("`{}` is not a file of tonoscope", folder.join(file).display());
            return Err(Misuse::new(what).hint("choose another folder with `--out`").into());
        }
        self.clear_half_written()?;
        if everything {
            // The key goes last: until then what is left still belongs to it.
            units.iter().try_for_each(|file| remove_if_there(&folder.join(file)))?;
        }
        if everything || units.is_empty() {
            self.folder.write(KEY, &self.key_text)?;
        }
        Ok(())
    }

    /// Whether the folders beside the units hold nothing.
    fn alone(&self) -> bool {
        let Some(results) = self.folder.path().parent() else { return true };
        let empty = |folder: PathBuf| fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        listed(results)
            .is_ok_and(|names| names.iter().filter(|name| is_beside(name)).all(|name| empty(results.join(name))))
    }
}

/// Whether `lock` is the file at `path`, and not one that was removed.
#[cfg(unix)]
fn is_at(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = lock.metadata().and_then(|own| Ok((own, fs::metadata(path)?)));
    both.is_ok_and(|(own, there)| (own.dev(), own.ino()) == (there.dev(), there.ino()))
}

/// Whether `lock` is the file at `path`: elsewhere an open file cannot be removed and made again.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.is_file()
}

/// The file of the unit `name` with the content `bytes`.
fn sealed(name: &str, bytes: &[u8]) -> Vec<u8> {
    [bytes, SEAL, &checksum(name, bytes)].concat()
}

/// The content of the unit `name`, if its checksum fits.
fn unsealed<'a>(name: &str, file: &'a [u8]) -> Option<&'a [u8]> {
    let (rest, sum) = file.split_last_chunk::<32>()?;
    let content = rest.strip_suffix(SEAL)?;
    (checksum(name, content) == *sum).then_some(content)
}

/// Of name and content: a unit in the place of another is damaged, too.
fn checksum(name: &str, content: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update((name.len() as u64).to_le_bytes())
        .chain_update(name)
        .chain_update(content)
        .finalize()
        .into()
}

/// Removes what killed processes have left half-written in the folders beside the units.
fn tidy_beside(results: &Path) -> Result<()> {
    for name in listed(results)?.into_iter().filter(|name| is_beside(name)) {
        let path = results.join(name);
        if path.is_dir() {
            OutputFolder::existing(&path).tidy()?;
        }
    }
    Ok(())
}

/// Whether a folder of this name beside the units is one that the same runs write into.
pub(crate) fn is_beside(name: &str) -> bool {
    BESIDE.contains(&name) || name.starts_with(STEP)
}

/// A run that has finished nothing leaves nothing.
impl Drop for Units {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let path = self.folder.path().join(LOCK);
        // Another process may have removed the collection in between, and a third begun it anew.
        let own = lock.unlock().is_ok() && lock.try_lock().is_ok() && is_at(&lock, &path);
        if own && self.alone() && self.names().is_ok_and(|names| names.is_empty()) {
            // What cannot be removed does no harm: a key without units is replaced by the next run.
            let _ = fs::remove_file(self.folder.path().join(KEY));
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir(self.folder.path());
        }
    }
}

/// The first field in which two keys differ.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    /// Such as `settings.seed` or `prompts[3]`; empty: the whole.
    pub(crate) field: String,
    /// Its value in the first key, as JSON, or `nothing`.
    pub(crate) there: String,
    /// Its value in the second key.
    pub(crate) here: String,
}

impl Difference {
    fn misuse(&self, folder: &Path) -> Misuse {
        let Self { field, there, here } = self;
        let folder = folder.display();
        let field = if field.is_empty() { "key" } else { field };
        Misuse::new(format!("`{folder}` is of another run: `{field}` is {there} there, {here} now"))
            .hint("choose another folder with `--out`, or pass `--overwrite` to start anew")
    }
}

/// Compares two keys field by field, in the order of the fields' names.
pub(crate) fn first_difference(there: &Value, here: &Value) -> Option<Difference> {
    compare(String::new(), Some(there), Some(here))
}

fn compare(field: String, there: Option<&Value>, here: Option<&Value>) -> Option<Difference> {
    match (there, here) {
        (there, here) if there == here => None,
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            names.into_iter().find_map(|name| {
                let inner = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
                compare(inner, one.get(name), other.get(name))
            })
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) if one.len() == other.len() => {
            (0..one.len()).find_map(|index| compare(format!("{field}[{index}]"), one.get(index), other.get(index)))
        }
        (there, here) => Some(Difference { field, there: shown(there), here: shown(here) }),
    }
}

/// A value of a key for a message: lists by their length, texts not at full length.
fn shown(value: Option<&Value>) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        None => return "nothing".to_owned(),
        Some(Value::Array(items)) => return format!("{} long", items.len()),
        Some(value) => value.to_string(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// The key of the units in `folder`; `None` if it has none.
fn read_key(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(KEY);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let damaged = || {
        Misuse::new(format!("`{}` is not JSON", path.display()))
            .hint("choose another folder with `--out`, or pass `--overwrite` to start anew")
    };
    Ok(Some(serde_json::from_slice(&text).map_err(|_| damaged())?))
}

/// Names of the files in `folder`.
fn listed(folder: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().with_context(|| format!("cannot read the folder `{}`", folder.display()))
}

/// File of a unit. Names may hold anything, files may not: what is not plain becomes `%` and two digits, capitals too,
/// since some file systems take them for small letters.
fn file_name(unit: &str) -> String {
    let mut name = String::new();
    for (index, byte) in unit.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if index > 0 => name.push('.'),
            _ => write!(name, "%{byte:02x}").expect("a string takes all"),
        }
    }
    name.push_str(UNIT);
    name
}

/// The unit that is in `file`; `None` if it is not a unit's.
fn unit_name(file: &str) -> Option<String> {
    let mut rest = file.strip_suffix(UNIT).filter(|name| !name.starts_with('.'))?.bytes();
    let mut name = vec![];
    while let Some(byte) = rest.next() {
        name.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results() -> (tempfile::TempDir, OutputFolder) {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::open(folder.path()).unwrap();
        (folder, output)
    }

    #[test]
    fn units_stay_under_the_same_key() {
        let (_guard, folder) = results();
        // Some readers take the last digits for others.
        let key = json!({"model": "m", "settings": {"seed": 42, "top_p": 0.123_456_789_012_345_68}});
        let units = Units::open(&folder, &key, false).unwrap();
        assert!(!units.has("a/B c"));
        units.write("a/B c", b"one").unwrap();
        units.write("z", b"two").unwrap();
        drop(units);
        let units = Units::open(&folder, &key, false).unwrap();
        assert_eq!(units.names().unwrap(), ["a/B c", "z"]);
        assert_eq!(units.read("a/B c").unwrap(), b"one");
        let readable = Units::existing(folder.path()).unwrap();
        assert_eq!((readable.key(), readable.read("z").unwrap()), (units.key(), b"two".to_vec()));
    }

    #[test]
    fn another_key_is_misuse_that_names_the_field() {
        let (_guard, folder) = results();
        let key = |seed: u32| json!({"model": "m", "settings": {"seed": seed, "top_k": 250}});
        Units::open(&folder, &key(42), false).unwrap().write("a", b"one").unwrap();
        let error = Units::open(&folder, &key(43), false).unwrap_err();
        assert!(error.is::<Misuse>());
        assert!(error.to_string().ends_with("`settings.seed` is 42 there, 43 now"), "{error}");
        assert!(Units::open(&folder, &key(42), false).unwrap().has("a"), "the refusal removed nothing");
        let units = Units::open(&folder, &key(43), true).unwrap();
        assert!(units.names().unwrap().is_empty());
    }

    #[test]
    fn what_a_kill_left_is_cleared_away_but_nothing_that_is_being_written() {
        let (_guard, folder) = results();
        let key = json!({});
        let units = Units::open(&folder, &key, false).unwrap();
        units.write("a", b"one").unwrap();
        let path = folder.path().join(FOLDER);
        let half = path.join(format!("{TEMPORARY}x"));
        fs::write(&half, b"o").unwrap();
        fs::create_dir(folder.path().join("audio")).unwrap();
        let beside = ["", "audio"].map(|name| folder.path().join(name).join(format!("{TEMPORARY}y")));
        for path in &beside {
            fs::write(path, b"o").unwrap();
        }
        let second = Units::open(&folder, &key, false).unwrap();
        assert!(half.exists(), "the first process may be writing it");
        assert!(beside.iter().all(|path| path.exists()), "nor are those beside the units touched");
        assert!(Units::open(&folder, &key, true).is_err(), "nor may everything be removed");
        drop((units, second));
        let units = Units::open(&folder, &key, false).unwrap();
        assert!(!half.exists() && !beside.iter().any(|path| path.exists()));
        assert_eq!(units.names().unwrap(), ["a"]);
    }

    #[test]
    fn a_run_that_finished_nothing_leaves_nothing() {
        let (_guard, folder) = results();
        drop(Units::open(&folder, &json!({"seed": 1}), false).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // As after a kill before the first unit.
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        fs::write(folder.path().join(FOLDER).join(KEY), "{\"seed\": 1}").unwrap();
        Units::open(&folder, &json!({"seed": 2}), false).unwrap();
    }

    #[test]
    fn a_turned_bit_anywhere_makes_a_unit_unfinished() {
        let (_guard, folder) = results();
        let units = Units::open(&folder, &json!({}), false).unwrap();
        units.write("a", b"content").unwrap();
        units.write("empty", b"").unwrap();
        assert!(units.has("a") && units.has("empty") && units.read("empty").unwrap().is_empty());
        drop(units);
        let path = folder.path().join(FOLDER).join(file_name("a"));
        let whole = fs::read(&path).unwrap();
        let damaged = (0..8 * whole.len()).step_by(7).map(|bit| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        let other = sealed("b", b"content");
        for bytes in damaged.chain((0..whole.len()).step_by(9).map(|len| whole[..len].to_vec())).chain([other]) {
            fs::write(&path, bytes).unwrap();
            let units = Units::open(&folder, &json!({}), false).unwrap();
            assert!(!units.has("a") && units.has("empty"));
            assert!(units.read("a").unwrap_err().to_string().contains("is damaged"));
        }
        let units = Units::open(&folder, &json!({}), false).unwrap();
        assert!(!units.has("a"));
        units.write("a", b"content").unwrap();
        assert!(units.has("a"), "it was computed again");
    }

    #[test]
    fn a_key_stays_while_files_lie_beside_it() {
        let (_guard, folder) = results();
        let units = Units::open(&folder, &json!({}), false).unwrap();
        folder.within("audio").unwrap().write("a.wav", b"x").unwrap();
        drop(units);
        assert!(Units::existing(folder.path()).is_ok(), "whose sound it is can still be told");
    }

    #[test]
    fn runs_that_begin_and_end_at_once_in_a_new_folder_all_begin() {
        let key = json!({"seed": 1});
        for round in 0..30 {
            let (_guard, folder) = results();
            let start = std::sync::Barrier::new(16);
            std::thread::scope(|scope| {
                for thread in 0..16 {
                    let (folder, key, start) = (&folder, &key, &start);
                    scope.spawn(move || {
                        start.wait();
                        let units =
                            Units::open(folder, key, false).unwrap_or_else(|error| panic!("{round}: {error:#}"));
                        // Every second one has nothing to do, as jobs of an array that is larger than the work.
                        if thread % 2 == 0 {
                            units.write(&format!("{thread}"), b"x").unwrap();
                        }
                    });
                }
            });
            assert_eq!(Units::open(&folder, &key, false).unwrap().names().unwrap().len(), 8);
        }
    }

    #[test]
    fn of_runs_with_other_keys_that_begin_at_once_the_units_never_mix() {
        for _ in 0..30 {
            let (_guard, folder) = results();
            let start = std::sync::Barrier::new(8);
            let begun: Vec<usize> = std::thread::scope(|scope| {
                let run = |thread: usize| {
                    let (folder, start) = (&folder, &start);
                    scope.spawn(move || {
                        start.wait();
                        let units = Units::open(folder, &json!({"seed": thread % 2}), false).ok()?;
                        units.write(&format!("{}_{thread}", thread % 2), b"x").unwrap();
                        Some(thread % 2)
                    })
                };
                let all: Vec<_> = (0..8).map(run).collect();
                all.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert!(!begun.is_empty() && begun.iter().all(|key| *key == begun[0]), "{begun:?}");
            let units = Units::existing(folder.path()).unwrap();
            assert_eq!((units.key(), units.names().unwrap().len()), (&json!({"seed": begun[0]}), begun.len()));
        }
    }

    #[test]
    fn folders_of_somebody_else_are_left_alone() {
        let (_guard, folder) = results();
        let theirs = folder.path().join(FOLDER).join("thesis.tex");
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        fs::write(&theirs, "x").unwrap();
        assert!(Units::open(&folder, &json!({}), true).unwrap_err().to_string().contains("thesis.tex"));
        assert!(theirs.exists());
    }

    #[test]
    fn differences_are_found_at_any_depth() {
        let there = json!({"a": [1, {"b": 2}], "c": "x"});
        assert_eq!(first_difference(&there, &there), None);
        let found = |here: Value| first_difference(&there, &here).map(|found| (found.field, found.there, found.here));
        let expected = |field: &str, there: &str, here: &str| Some((field.into(), there.into(), here.into()));
        assert_eq!(found(json!({"a": [1, {"b": 3}], "c": "x"})), expected("a[1].b", "2", "3"));
        assert_eq!(found(json!({"a": [1], "c": "x"})), expected("a", "2 long", "1 long"));
        assert_eq!(found(json!({"a": [1, {"b": 2}]})), expected("c", "\"x\"", "nothing"));
        assert_eq!(found(json!({"a": [1, {"b": 2}], "c": "x", "d": null})), expected("d", "nothing", "null"));
    }

    #[test]
    fn every_name_comes_back_from_its_file() {
        for name in ["", "a", ".", "..", "A", "a", "ä ö/ü\\%41", "key.json", ".tonoscope-x", "x.unit"] {
            let file = file_name(name);
            assert_eq!(unit_name(&file).as_deref(), Some(name));
            assert!(!file.contains(['/', '\\', ' ']) && (name.is_empty() || !file.starts_with('.')), "{file}");
        }
    }
}
