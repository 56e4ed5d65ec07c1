//! `tonoscope prompts`

mod template;

use std::io::Write;

use anyhow::Result;

/// Write prompts
#[derive(Debug, clap::Args)]
pub(crate) struct PromptsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Fill the slots of a template, for each of some concepts
    Template(template::TemplateArgs),
}

pub(crate) fn run(args: &PromptsArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Template(args) => template::run(args, out),
    }
}
