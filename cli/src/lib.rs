//! The command line of tonoscope. Results go to the writer that is given, progress and complaints to stderr.

mod archive;
mod audio_info;
mod commands;
mod csv_input;
mod diffuser;
mod effect_precision;
mod embedder;
mod failure;
mod figures;
mod file_name;
mod files;
#[cfg(test)]
mod fuzz;
mod guarded;
mod interrupt;
mod job;
mod json_path;
mod judge;
mod llm;
mod png;
mod progress;
mod prompt_file;
mod readable;
mod report;
mod second_judge;
mod session;
mod sound;
mod study;
mod tables;
mod tensors;
mod terminal;
mod units;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use terminal::Results;

/// Look inside models that generate music
#[derive(Debug, Parser)]
#[command(name = "tonoscope", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See everything once, in small, with the models inside the program
    Demo(commands::demo::DemoArgs),
    /// Make music from text
    Generate(Box<commands::generate::GenerateArgs>),
    /// Listen to what each layer already knows
    Lens(Box<commands::lens::LensArgs>),
    /// Put one concept's mean activations in place of another's
    Intervene(Box<commands::intervene::InterveneArgs>),
    /// Make the tables and figures of a run whose jobs have finished
    Merge(commands::merge::MergeArgs),
    /// Let a diffusion model make music, and listen to it on the way
    Diffuse(Box<commands::diffuse::DiffuseArgs>),
    /// Embed what `diffuse` has generated
    EmbedGenerated(Box<commands::embed_generated::EmbedGeneratedArgs>),
    /// Run the six steps, from prompts to probes, from a file of settings
    Pipeline(commands::pipeline::PipelineArgs),
    /// Say what can be heard in audio files
    Classify(commands::classify::ClassifyArgs),
    /// Make vectors of sound and text
    Embed(commands::embed::EmbedArgs),
    /// Write prompts
    Prompts(commands::prompts::PromptsArgs),
    /// Follow concepts along a diffusion trajectory
    Probe(Box<commands::probe::ProbeArgs>),
    /// Build, count and embed sets of notes that have a concept or not
    Concepts(commands::concepts::ConceptsArgs),
    /// Make data to try experiments on
    Data(commands::data::DataArgs),
    /// Train a small model from a file of settings
    Train(commands::train::TrainArgs),
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

/// What a shell sees of a program whose reader has gone, as `yes | head -1` ends: 128 and the number of the signal.
const BROKEN_PIPE: u8 = 128 + 13;

/// Carries out one command line. 0: done, 1: failed, 2: misused, 141: nobody reads the results any more.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut out = Results::new(out);
    let done = match Cli::try_parse_from(&args) {
        Ok(cli) => carry_out(cli.command, &mut out),
        Err(error) if error.use_stderr() => {
            terminal::complain(misread(&error, &args).trim_end());
            return ExitCode::from(error.exit_code() as u8);
        }
        // Help and version are not failures, and go to stdout.
        Err(error) => write!(out, "{}", error.render()).map_err(anyhow::Error::from),
    };
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        _ if out.is_closed() => ExitCode::from(BROKEN_PIPE),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out.has_failed() => failure::report(&error.context("cannot write the results")),
        Err(error) => failure::report(&error),
    }
}

/// What clap says of arguments that it does not take.
fn misread(error: &clap::Error, args: &[OsString]) -> String {
    let mut text = error.render().to_string();
    if error.kind() == clap::error::ErrorKind::InvalidUtf8 {
        // Clap does not say which.
        let foreign = args.iter().filter(|arg| arg.to_str().is_none());
        let named: Vec<_> = foreign.map(|arg| format!("`{}`", arg.to_string_lossy())).collect();
        text = text.replacen('\n', &format!(": {}\n", named.join(", ")), 1);
    }
    text
}

/// Carries out one command.
fn carry_out(command: Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => commands::demo::run(&args, out),
        Command::Generate(args) => commands::generate::run(&args, out),
        Command::Lens(args) => commands::lens::run(&args, out),
        Command::Intervene(args) => commands::intervene::run(&args, out),
        Command::Merge(args) => commands::merge::run(&args, out),
        Command::Diffuse(args) => commands::diffuse::run(&args, out),
        Command::EmbedGenerated(args) => commands::embed_generated::run(&args, out),
        Command::Pipeline(args) => commands::pipeline::run(&args, out),
        Command::Classify(args) => commands::classify::run(&args, out),
        Command::Embed(args) => commands::embed::run(&args, out),
        Command::Prompts(args) => commands::prompts::run(&args, out),
        Command::Probe(args) => commands::probe::run(&args, out),
        Command::Concepts(args) => commands::concepts::run(&args, out),
        Command::Data(args) => commands::data::run(&args, out),
        Command::Train(args) => commands::train::run(&args, out),
        Command::ProbeActivations(args) => commands::probe_activations::run(&args, out),
        Command::Devices(args) => commands::devices::run(&args, out),
        Command::Models(args) => commands::models::run(args, out),
        Command::Points(args) => commands::points::run(&args, out),
        Command::Report(args) => commands::report::run(&args, out),
    }
}
