//! `tonoscope data render`

#[cfg(test)]
mod fuzz;
mod notes;
mod phrases;
mod scores;

use std::io::Write;

use anyhow::Result;

#[cfg(test)]
pub(crate) use notes::play_note;

pub(crate) use notes::{NotesArgs, run as notes};

/// Render notes or phrases
#[derive(Debug, clap::Args)]
pub(crate) struct RenderArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Render notes of real instruments in NSynth's layout
    Notes(NotesArgs),
    /// Render phrases of which everything is known
    Phrases(phrases::PhrasesArgs),
}

pub(super) fn run(args: &RenderArgs, out: &mut dyn Write) -> Result<()> {
    match &args.what {
        What::Notes(args) => notes::run(args, out),
        What::Phrases(args) => phrases::run(args, out),
    }
}
