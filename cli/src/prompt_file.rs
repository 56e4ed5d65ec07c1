//! Prompt files of the command line: [`tonoscope_core::musicologist::read_prompt_lines`], and the name of the file in errors.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use tonoscope_core::musicologist::{PromptLine, read_prompt_lines};

/// Longest prompt file, in bytes: some 500 000 prompts.
const LONGEST: u64 = 64 << 20;

/// The prompts of a file, with their concepts and lines.
///
/// # Errors
/// If the file cannot be read, is no text, or holds no prompt.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<PromptLine>> {
    let cannot = || format!("cannot read `{}`", path.display());
    let mut bytes = vec![];
    File::open(path).with_context(cannot)?.take(LONGEST + 1).read_to_end(&mut bytes).with_context(cannot)?;
    ensure!(bytes.len() as u64 <= LONGEST, "`{}` is longer than {} MiB", path.display(), LONGEST >> 20);
    read_prompt_lines(&bytes).with_context(|| format!("`{}`", path.display()))
}

/// The texts of [`read_lines`].
///
/// # Errors
/// As [`read_lines`].
pub(crate) fn read(path: &Path) -> Result<Vec<String>> {
    Ok(read_lines(path)?.into_iter().map(|prompt| prompt.text).collect())
}
