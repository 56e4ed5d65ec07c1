//! Tables as CSV files.

use anyhow::Result;
use serde::Serialize;

use crate::files::OutputFolder;

/// Rows on their way to a CSV file; the columns are the fields of a row.
pub(crate) struct Table<R> {
    writer: csv::Writer<Vec<u8>>,
    rows: std::marker::PhantomData<R>,
}

impl<R: Serialize> Table<R> {
    pub(crate) fn new() -> Self {
        Self { writer: csv::Writer::from_writer(vec![]), rows: std::marker::PhantomData }
    }

    pub(crate) fn push(&mut self, row: R) -> Result<()> {
        Ok(self.writer.serialize(row)?)
    }

    /// Writes the table as `name`; without rows there is no file.
    pub(crate) fn write(self, folder: &OutputFolder, name: &str) -> Result<()> {
        let bytes = self.writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        if !bytes.is_empty() {
            folder.write(name, &bytes)?;
        }
        Ok(())
    }
}

/// One line of `audio.csv`: what can be listened to.
#[derive(Debug, Serialize)]
pub(crate) struct AudioRow {
    /// Path within the folder of the results.
    pub(crate) file: String,
    /// What a player shows together.
    pub(crate) group: String,
    /// What sets it apart within its group.
    pub(crate) label: String,
    pub(crate) prompt: String,
    pub(crate) details: String,
}
