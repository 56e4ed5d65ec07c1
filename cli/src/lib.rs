//! The command line of tonoscope. Results go to the writer that is given, progress and complaints to stderr.

mod captures;
mod commands;
mod effect_precision;
mod failure;
mod figures;
mod files;
pub mod hub;
mod interrupt;
mod job;
mod judge;
mod png;
mod progress;
mod report;
mod session;
mod study;
mod tables;
mod tensors;
mod units;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

/// Look inside models that generate music
#[derive(Debug, Parser)]
#[command(name = "tonoscope", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make music from text
    Generate(Box<commands::generate::GenerateArgs>),
    /// Listen to what each layer already knows
    Lens(Box<commands::lens::LensArgs>),
    /// Put one concept's mean activations in place of another's
    Intervene(Box<commands::intervene::InterveneArgs>),
    /// Make the tables and figures of a run whose jobs have finished
    Merge(commands::merge::MergeArgs),
    /// Say what can be heard in audio files
    Classify(commands::classify::ClassifyArgs),
    /// Write prompts
    Prompts(commands::prompts::PromptsArgs),
    /// Find out what can be read off captured activations
    ProbeActivations(commands::probe_activations::ProbeActivationsArgs),
    /// Show what can compute here
    Devices(commands::devices::DevicesArgs),
    /// List, fetch, check and remove models
    Models(commands::models::ModelsArgs),
    /// Show the places in a model that can be looked at and changed
    Points(commands::points::PointsArgs),
    /// Make one HTML page of folders of results
    Report(commands::report::ReportArgs),
}

/// Carries out one command line. 0: done, 1: failed, 2: misused.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not failures, and go to stdout.
            let text = error.render();
            let shown = if error.use_stderr() { write!(std::io::stderr(), "{text}") } else { write!(out, "{text}") };
            return ExitCode::from(if shown.is_err() { 1 } else { error.exit_code() as u8 });
        }
    };
    let result = match cli.command {
        Command::Generate(args) => commands::generate::run(&args, out),
        Command::Lens(args) => commands::lens::run(&args, out),
        Command::Intervene(args) => commands::intervene::run(&args, out),
        Command::Merge(args) => commands::merge::run(&args, out),
        Command::Classify(args) => commands::classify::run(&args, out),
        Command::Prompts(args) => commands::prompts::run(&args, out),
        Command::ProbeActivations(args) => commands::probe_activations::run(&args, out),
        Command::Devices(args) => commands::devices::run(&args, out),
        Command::Models(args) => commands::models::run(args, out),
        Command::Points(args) => commands::points::run(&args, out),
        Command::Report(args) => commands::report::run(&args, out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
