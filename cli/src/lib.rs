//! The command line of tonoscope. Results go to the writer that is given, progress and complaints to stderr.

mod commands;
mod failure;
mod files;
pub mod hub;
mod interrupt;
mod progress;
mod session;
mod tensors;

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
    /// Show what can compute here
    Devices(commands::devices::DevicesArgs),
    /// List, fetch, check and remove models
    Models(commands::models::ModelsArgs),
    /// Show the places in a model that can be looked at and changed
    Points(commands::points::PointsArgs),
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
        Command::Generate(args) => commands::generate::run(*args, out),
        Command::Devices(args) => commands::devices::run(&args, out),
        Command::Models(args) => commands::models::run(args, out),
        Command::Points(args) => commands::points::run(&args, out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
