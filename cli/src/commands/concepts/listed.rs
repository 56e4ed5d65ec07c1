//! The notes that `concepts build` has chosen, read back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{csv_input::CsvInput, failure::Misuse};

/// What was chosen from what, beside the files of the concepts.
pub(super) const INDEX: &str = "concepts.json";

/// The part of [`INDEX`] that is read.
#[derive(Deserialize)]
struct Index {
    concepts: Vec<IndexedConcept>,
}

#[derive(Deserialize)]
struct IndexedConcept {
    concept: String,
    chosen: usize,
}

/// The chosen notes of all concepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Name of a note → path of its sound.
    pub(super) notes: BTreeMap<String, PathBuf>,
    /// Concept → how many notes.
    pub(super) concepts: Vec<(String, usize)>,
}

impl Listed {
    /// Reads the files of the concepts in `folder`.
    ///
    /// # Errors
    /// [`Misuse`] if there is none; a file that cannot be read, or names a note that cannot be one.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        if !path.is_file() {
            let what = format!("`{}` holds no `{INDEX}`", folder.display());
            return Err(Misuse::new(what).hint("make it with `tonoscope concepts build`").into());
        }
        let text = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let index: Index = serde_json::from_slice(&text).with_context(|| format!("`{}`", path.display()))?;
        let mut listed = Self { notes: BTreeMap::new(), concepts: vec![] };
        for IndexedConcept { concept, .. } in index.concepts.into_iter().filter(|concept| concept.chosen > 0) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            ensure!(concept.bytes().all(plain), "`{}` names a concept `{concept:.60}`", path.display());
            let count = listed.take(&folder.join(format!("{concept}.csv")))?;
            listed.concepts.push((concept, count));
        }
        if listed.notes.is_empty() {
            return Err(Misuse::new(format!("no note was chosen in `{}`", folder.display())).into());
        }
        Ok(listed)
    }

    fn take(&mut self, path: &Path) -> Result<usize> {
        let input = CsvInput::open(path)?;
        let (name, audio) = (input.column("note_str")?, input.column("audio_fpath")?);
        let mut count = 0;
        input.each(|record| {
            let name = &record[name];
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            let good = !name.is_empty() && !name.starts_with('.') && name.len() <= 120 && name.bytes().all(plain);
            ensure!(good, "`{name:.60}` is no name of a note");
            self.notes.entry(name.to_owned()).or_insert_with(|| PathBuf::from(&record[audio]));
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// How often a note would be embedded if each concept embedded its own.
    pub(super) fn once_per_concept(&self) -> usize {
        self.concepts.iter().map(|(_, count)| count).sum()
    }
}
