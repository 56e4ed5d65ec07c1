//! Finished pieces of a long run: kept when it is killed, and not made again by the next run of the same settings.
//!
//! Inside the folder of the results lies `units/`: one file per finished unit of work, and `key.json`, everything that
//! decides the results. Every file appears whole or not at all, so a unit is finished exactly if its file is there.
//! Several processes, such as the jobs of an array, may fill one folder: a lock that each holds shared keeps the files
//! that one is writing from being taken for what a killed one left behind.

use std::{
    fmt::Write as _,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    failure::Misuse,
    files::{OutputFolder, TEMPORARY},
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

/// The finished units of one run.
#[derive(Debug)]
pub(crate) struct Units {
    folder: OutputFolder,
    key: Value,
    /// The key as it is written: a number with many digits may not come back from text as it was.
    key_text: Vec<u8>,
    /// `None`: for reading only.
    lock: Option<File>,
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
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder `{}`", path.display()))?;
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.with_context(|| format!("cannot write `{}`", lock_path.display()))?;
        let key_text = serde_json::to_vec_pretty(key)?;
        let key = serde_json::from_slice(&key_text)?;
        let units = Self { folder: OutputFolder::open(&path)?, key, key_text, lock: Some(lock) };
        units.begin(overwrite)?;
        Ok(units)
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
        Ok(Self { folder: OutputFolder::existing(&path), key, key_text: vec![], lock: None })
    }

    /// Everything that decides the results.
    pub(crate) fn key(&self) -> &Value {
        &self.key
    }

    /// Whether the unit `name` is finished.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Marks the unit `name` as finished, with `bytes` as what came out.
    ///
    /// # Errors
    /// If the file cannot be written; there is none of it then.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.folder.write(&file_name(name), bytes)?;
        Ok(())
    }

    /// What came out of the finished unit `name`.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
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
        self.folder.path().parent().map_or(Ok(()), tidy_beside)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(file_name(name))
    }

    /// Clears away what must not be there, and makes sure that what is there has our key.
    fn begin(&self, overwrite: bool) -> Result<()> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let folder = self.folder.path();
        match lock.try_lock() {
            Ok(()) => {
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
        // Waits for a process that has just begun and still tidies up; where there are no locks there is no waiting.
        let _ = lock.lock_shared();
        match read_key(folder)? {
            None => self.write_key(),
            Some(there) => match first_difference(&there, &self.key) {
                None => Ok(()),
                Some(difference) => Err(difference.misuse(folder).into()),
            },
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
        let remove = |file: &str| {
            let path = folder.join(file);
            fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))
        };
        for file in others.iter().filter(|file| file.starts_with(TEMPORARY)) {
            remove(file)?;
        }
        if let Some(results) = folder.parent() {
            OutputFolder::existing(results).tidy()?;
            tidy_beside(results)?;
        }
        if everything {
            // The key goes last: until then what is left still belongs to it.
            for file in &units {
                remove(file)?;
            }
        }
        if everything || units.is_empty() {
            self.write_key()?;
        }
        Ok(())
    }

    fn write_key(&self) -> Result<()> {
        self.folder.write(KEY, &self.key_text)?;
        Ok(())
    }
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
        let alone = lock.unlock().is_ok() && lock.try_lock().is_ok();
        if alone && self.names().is_ok_and(|names| names.is_empty()) {
            // What cannot be removed does no harm: a key without units is replaced by the next run.
            let _ = fs::remove_file(self.folder.path().join(KEY));
            let _ = fs::remove_file(self.folder.path().join(LOCK));
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
