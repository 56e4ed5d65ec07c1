//! CSV files from outside.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

/// Most columns that are looked at.
const MOST_COLUMNS: usize = 100;
/// Longest first line, in bytes.
const LONGEST_HEADER: usize = 1 << 14;
/// Longest file.
const LONGEST: u64 = 4 << 30;

/// A CSV file whose columns are found by name.
pub(crate) struct CsvInput {
    path: PathBuf,
    headers: Vec<String>,
    reader: csv::Reader<std::io::Take<BufReader<File>>>,
}

impl CsvInput {
    /// Opens the file at `path` and reads the names of its columns.
    ///
    /// # Errors
    /// A file that cannot be read, or with more columns than any of ours has.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read `{}`", path.display());
        let file = File::open(path).with_context(cannot)?;
        let mut reader = BufReader::with_capacity(LONGEST_HEADER, file);
        // Looked at before it is read: a line without an end would fill the memory.
        let begin = reader.fill_buf().with_context(cannot)?;
        let line = begin.iter().position(|byte| *byte == b'\n');
        ensure!(
            line.is_some() || begin.len() < LONGEST_HEADER,
            "`{}`: its first line is longer than {LONGEST_HEADER} bytes",
            path.display()
        );
        let mut reader = csv::Reader::from_reader(reader.take(LONGEST));
        let headers = reader.headers().with_context(|| format!("`{}`", path.display()))?;
        let columns = headers.len();
        ensure!(columns <= MOST_COLUMNS, "`{}` has {columns} columns, at most {MOST_COLUMNS} are read", path.display());
        let headers = headers.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        Ok(Self { path: path.to_owned(), headers, reader })
    }

    /// Index of the column called `name`.
    ///
    /// # Errors
    /// If there is none: names those that there are.
    pub(crate) fn column(&self, name: &str) -> Result<usize> {
        let found = self.headers.iter().position(|header| header == name);
        let mut there = self.headers.join(",");
        there.truncate(there.floor_char_boundary(200));
        found.with_context(|| format!("`{}` has no column `{name}`; its columns are `{there}`", self.path.display()))
    }

    /// Calls `row` with every line but the first; its errors are given the number of the line.
    pub(crate) fn each(mut self, mut row: impl FnMut(&csv::StringRecord) -> Result<()>) -> Result<()> {
        let mut record = csv::StringRecord::new();
        loop {
            match self.reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => bail!("`{}`: {error}", self.path.display()),
            }
            let line = record.position().map_or(0, csv::Position::line);
            row(&record).with_context(|| format!("`{}`, line {line}", self.path.display()))?;
        }
    }
}

/// A number in column `column` of `record`.
pub(crate) fn number<T: std::str::FromStr>(record: &csv::StringRecord, column: usize) -> Result<T> {
    let text = record.get(column).unwrap_or_default().trim();
    let shown: String = text.chars().take(40).collect();
    text.parse().ok().with_context(|| format!("`{shown}` is no number"))
}
