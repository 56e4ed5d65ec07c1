//! Notes of concepts: which, of what class, and their embeddings.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    super::unit::Rows,
    stored::{Stored, only_file},
};
use crate::{failure::Failed, session::sha256};

/// How published files of embeddings end.
const PUBLISHED: &str = "_embeddings.pt";

/// A folder of concepts.
pub(super) struct NotesFolder {
    path: PathBuf,
    shared: Option<Shared>,
}

/// Embeddings of notes that all concepts share.
struct Shared {
    stored: Stored,
    row_of: HashMap<String, usize>,
}

/// The notes of one concept, and what was read for them.
pub(super) struct Notes {
    pub(super) rows: Rows,
    /// File → sha256.
    pub(super) inputs: Vec<(String, String)>,
}

/// A line of a concept's table.
struct Line {
    name: String,
    positive: bool,
    instrument: Option<String>,
}

impl NotesFolder {
    /// Reads the shared embeddings of `path`, if there are any.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let what = format!("`{}` is no folder", path.display());
            return Err(Failed::new(what, "pass the folder that `tonoscope concepts build` has written").into());
        }
        let file = path.join("embeddings.safetensors");
        let shared = if file.is_file() { Some(Shared::read(&file)?) } else { None };
        Ok(Self { path: path.to_owned(), shared })
    }

    /// The notes of the concept `name`; `None` if there is no table of it.
    pub(super) fn concept(&self, name: &str) -> Result<Option<Notes>> {
        let (inside, beside) = (self.path.join(name), self.path.join(format!("{name}.csv")));
        let table = if beside.is_file() {
            Some(beside)
        } else {
            only_file(&inside, |file| Path::new(file).extension().is_some_and(|extension| extension == "csv"))?
        };
        let Some(table) = table else { return Ok(None) };
        let text = std::fs::read(&table).with_context(|| format!("cannot read `{}`", table.display()))?;
        let lines = lines(&text).with_context(|| format!("`{}`", table.display()))?;
        let mut inputs = vec![(format!("notes of {name}"), sha256(&table)?)];
        let published = match only_file(&inside, |file| file.ends_with(PUBLISHED))? {
            None => only_file(&self.path, |file| file.starts_with(&format!("{name}_")) && file.ends_with(PUBLISHED))?,
            found => found,
        };
        let (features, width) = match (published, &self.shared) {
            (Some(path), _) => {
                let stored = Stored::read(&path)?;
                if stored.rows() != lines.len() {
                    let what = format!(
                        "`{}` has {} rows, `{}` has {} notes",
                        path.display(),
                        stored.rows(),
                        table.display(),
                        lines.len()
                    );
                    return Err(Failed::new(what, "embed the notes of the concept anew").into());
                }
                inputs.push((format!("embeddings of {name}"), stored.sha256.clone()));
                let width = stored.width();
                (stored.values, width)
            }
            (None, Some(shared)) => (shared.select(&lines)?, shared.stored.width()),
            (None, None) => {
                let what = format!("`{}` holds no embeddings of notes", self.path.display());
                return Err(Failed::new(what, "run `tonoscope concepts embed` first").into());
            }
        };
        let mut clusters: HashMap<String, usize> = HashMap::new();
        let cluster = lines.iter().enumerate().map(|(index, line)| {
            let key = line.instrument.clone().unwrap_or_else(|| format!("row {index}"));
            let next = clusters.len();
            *clusters.entry(key).or_insert(next)
        });
        let cluster = cluster.collect();
        let positive = lines.iter().map(|line| line.positive).collect();
        Ok(Some(Notes { rows: Rows { features, width, positive, cluster }, inputs }))
    }

    /// The shared file and its sum.
    pub(super) fn input(&self) -> Option<(String, String)> {
        self.shared.as_ref().map(|shared| ("embeddings of notes".to_owned(), shared.stored.sha256.clone()))
    }
}

impl Shared {
    fn read(path: &Path) -> Result<Self> {
        let stored = Stored::read(path)?;
        let names = stored.texts("notes")?;
        let names = names.with_context(|| format!("`{}` does not say of which notes it is", path.display()))?;
        if names.len() != stored.rows() {
            anyhow::bail!("`{}` has {} rows and the names of {} notes", path.display(), stored.rows(), names.len());
        }
        let row_of = names.into_iter().enumerate().map(|(row, name)| (name, row)).collect();
        Ok(Self { stored, row_of })
    }

    fn select(&self, lines: &[Line]) -> Result<Vec<f32>> {
        let mut features = Vec::with_capacity(lines.len() * self.stored.width());
        for line in lines {
            let Some(row) = self.row_of.get(&line.name) else {
                let what = format!("`{}` has no embedding of note `{}`", self.stored.path.display(), line.name);
                return Err(Failed::new(what, "run `tonoscope concepts embed` again: concepts have changed").into());
            };
            features.extend_from_slice(self.stored.row(*row));
        }
        Ok(features)
    }
}

/// The lines of a concept's table; columns that are not needed may be anything.
fn lines(text: &[u8]) -> Result<Vec<Line>> {
    let mut reader = csv::Reader::from_reader(text);
    let headers = reader.headers()?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let needed = |name: &str| {
        column(name)
            .ok_or_else(|| Failed::new(format!("there is no column `{name}`"), "expected a table of `concepts build`"))
    };
    let (name, class, instrument) = (needed("note_str")?, needed("binary_class")?, column("instrument_str"));
    let mut lines = vec![];
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let positive =
            class_of(cell(class)).with_context(|| format!("line {line}: class `{}`, expected 1 or 0", cell(class)))?;
        let instrument = instrument.map(|column| cell(column).to_owned()).filter(|name| !name.is_empty());
        lines.push(Line { name: cell(name).to_owned(), positive, instrument });
    }
    Ok(lines)
}

/// `1`, `true`, `positive`, `yes`, and their opposites.
pub(super) fn class_of(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "1.0" | "true" | "positive" | "yes" => Some(true),
        "0" | "0.0" | "false" | "negative" | "no" => Some(false),
        _ => None,
    }
}
