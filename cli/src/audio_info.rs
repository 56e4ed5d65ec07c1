//! `audio_info.csv`: what generated audio was made of.

use std::path::Path;

use anyhow::{Result, ensure};
use tonoscope_core::musicologist::{Annotation, parse_printed_list};

use crate::csv_input::{CsvInput, number};

/// One file of generated audio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GeneratedClip {
    /// Diffusion step after which it was heard.
    pub(crate) diffusion_step: usize,
    /// The prompt and what is said of it.
    pub(crate) annotation: Annotation,
}

/// Reads an `audio_info.csv`, published or own: a row per file.
///
/// # Errors
/// A column that is missing, a line that cannot be read, or no line at all.
pub(crate) fn read(path: &Path) -> Result<Vec<GeneratedClip>> {
    let input = CsvInput::open(path)?;
    let column = |name: &str| input.column(name);
    let (step, prompt) = (column("diffusion_step")?, column("prompt")?);
    let (aspects, bpm) = (column("tag.aspects")?, column("tag.bpm")?);
    let mut clips = vec![];
    input.each(|record| {
        let annotation = Annotation {
            prompt: record[prompt].to_owned(),
            aspects: parse_printed_list(&record[aspects])?,
            bpm: number(record, bpm)?,
        };
        clips.push(GeneratedClip { diffusion_step: number(record, step)?, annotation });
        Ok(())
    })?;
    ensure!(!clips.is_empty(), "`{}`: there is no clip in it", path.display());
    Ok(clips)
}
