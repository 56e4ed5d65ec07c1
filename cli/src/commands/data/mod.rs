//! `tonoscope data`

mod compare;
#[cfg(test)]
mod fuzz;
mod programs;
mod qualities;
mod render;
mod renderer;
mod soundfont;
mod vorbis;

use std::io::Write;

use anyhow::Result;

pub(crate) use render::{NotesArgs, notes as render_notes};
pub(crate) use renderer::Renderer;

/// 51 programs of FluidR3Mono; see `data/README.md`.
pub(crate) const BUILT_IN: &[u8] = include_bytes!("../../../../data/soundfont/fluidr3mono_51.sf3");

/// Samples per second of notes.
const RATE: u32 = 16_000;
/// Seconds that the key of a note is held.
const HELD: usize = 3;
/// Seconds of a note.
const LENGTH: usize = 4;

/// Make data to try experiments on
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Render notes or phrases
    Render(render::RenderArgs),
    /// Say how much of sounds a codec keeps
    Compare(compare::CompareArgs),
    /// The same as `render notes`
    #[command(hide = true)]
    Notes(NotesArgs),
}

pub(crate) fn run(args: &DataArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Render(args) => render::run(args, out),
        Action::Compare(args) => compare::run(args, out),
        Action::Notes(args) => render_notes(args, out),
    }
}
