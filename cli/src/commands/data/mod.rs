//! `tonoscope data`

mod notes;
mod phrases;
mod programs;
mod qualities;
mod renderer;
mod soundfont;
mod vorbis;

pub(crate) use notes::BUILT_IN;
pub(crate) use programs::Kind;
pub(crate) use soundfont::Soundfont;

use std::io::Write;

use anyhow::Result;

/// Make data to try experiments on
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Render notes of real instruments in NSynth's layout
    Notes(notes::NotesArgs),
    /// Render phrases of which everything is known
    Phrases(phrases::PhrasesArgs),
}

pub(crate) fn run(args: &DataArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Notes(args) => notes::run(args, out),
        Action::Phrases(args) => phrases::run(args, out),
    }
}
