//! What the pipeline "musicologist" reads and counts: prompts, their annotations, notes of `NSynth`, and the concepts that
//! are looked for in both.
//!
//! Reference: github.com/dkytezab/musicologist (MIT). Pure functions of bytes: files are the caller's.

mod annotations;
pub mod annotator;
pub mod generator;
mod matching;
mod notes;
mod prompts;
mod results;
mod table;

pub use annotations::{ASPECTS, Annotation, read_annotations};
pub use matching::{Matched, Sides, Vocabulary, parse_printed_list, printed_list};
pub use notes::{FAMILIES, Note, QUALITIES, SOURCES, read_notes};
pub use prompts::{PromptLine, read_prompt_lines, read_prompts};
pub use results::{PublishedResult, read_results};
pub use table::{ConceptTable, ConceptTables, Join, Rule};

/// Published data, or own data of its form, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A file that is not what it is taken for.
    #[error("{what} cannot be read: {reason}")]
    Format {
        /// What was expected, such as `annotations`.
        what: &'static str,
        /// Where, what was expected and what was found.
        reason: String,
    },
    /// A file without anything in it.
    #[error("{what}: there is nothing in it")]
    Empty {
        /// What was expected, such as `prompts`.
        what: &'static str,
    },
    /// A note that cannot be one.
    #[error("note `{key}`: {reason}")]
    Note {
        /// Its key in `examples.json`, shortened.
        key: String,
        /// What contradicts what.
        reason: String,
    },
    /// Tables of concepts that do not parse, or ask for what there is not.
    #[error("`{file}`: {reason}")]
    Tables {
        /// Name of the file.
        file: String,
        /// Where, what was expected and what was found.
        reason: String,
    },
    /// A name that no concept has.
    #[error("no concept is called `{name}`; the nearest is `{nearest}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name that is most like it.
        nearest: String,
    },
}

/// A text from outside, for a message: short, and on one line.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(plain).collect();
    if short.len() < text.len() && text.chars().count() > LONGEST {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
