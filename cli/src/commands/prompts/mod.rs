//! `tonoscope prompts`

mod annotate;
mod asking;
mod generate;
mod template;
mod train;

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
    /// Write many different prompts, by a language model or offline
    Generate(Box<generate::GenerateArgs>),
    /// Say which aspects and which tempo prompts ask for, by a language model or offline
    Annotate(Box<annotate::AnnotateArgs>),
    /// Learn from annotations what the offline annotator knows
    TrainAnnotator(train::TrainArgs),
}

pub(crate) fn run(args: &PromptsArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Template(args) => template::run(args, out),
        Action::Generate(args) => generate::run(args, out),
        Action::Annotate(args) => annotate::run(args, out),
        Action::TrainAnnotator(args) => train::run(args, out),
    }
}
