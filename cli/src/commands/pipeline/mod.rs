//! `tonoscope pipeline`: the six steps, from prompts to an animated PCA, one command after another.

mod argv;
mod file;
#[cfg(test)]
mod fuzz;
mod step;

use std::{io::Write, ops::RangeInclusive, path::PathBuf};

use anyhow::{Context, Result};

pub(crate) use argv::shown;

use self::{
    file::PipelineFile,
    step::{STEPS, Step},
};
use crate::{
    Command, carry_out,
    failure::Misuse,
    files::{Inputs, output_file},
    interrupt::{self, Interrupted},
    job::JobArgs,
};

/// What `pipeline init` writes: the published settings, with comments.
const EXAMPLE: &str = include_str!("../../../../data/pipeline.toml");

/// Run the six steps: prompts, diffusion, embeddings, concepts, their embeddings, probes
///
/// Each step is a command of its own, and its table in the file has exactly that command's options.
#[derive(Debug, clap::Args)]
pub(crate) struct PipelineArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a file of settings: the published ones, with comments
    Init(InitArgs),
    /// Carry out the steps of a file; what an earlier run has finished is not made again
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    /// Where to
    #[arg(default_value = "pipeline.toml")]
    file: PathBuf,
    /// Replace what is there
    #[arg(long)]
    overwrite: bool,
}

/// Carry out the steps of a file
///
/// 1: prompts and annotations, 2: diffusion, 3: embeddings of what was generated, 4: concept datasets, 5: embeddings of
/// their notes, 6: probes and figures. Everything in the file is checked before the first step begins. In an array of
/// jobs, run one step at a time: the next needs what all jobs of the last have made.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// File of settings; `tonoscope pipeline init` writes one
    file: PathBuf,
    /// First step
    #[arg(long, value_name = "STEP", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=6))]
    from: u8,
    /// Last step
    #[arg(long, value_name = "STEP", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=6))]
    to: u8,
    #[command(flatten)]
    job: JobArgs,
    /// Check the file and show the commands, but carry out none
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &PipelineArgs, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        Action::Init(args) => init(args, out),
        Action::Run(args) => run_steps(args, out),
    }
}

fn init(args: &InitArgs, out: &mut dyn Write) -> Result<()> {
    if args.file.exists() && !args.overwrite {
        let misuse = Misuse::new(format!("`{}` is there already", args.file.display()));
        return Err(misuse.hint("name another file, or pass `--overwrite`").into());
    }
    let (folder, name) = output_file(&args.file, &Inputs::default())?;
    let path = folder.write(&name, EXAMPLE.as_bytes())?;
    writeln!(out, "{}", path.display())?;
    Ok(())
}

/// A step with its command line, checked.
#[derive(Debug)]
struct Planned {
    step: &'static Step,
    /// Without the name of the program.
    words: Vec<String>,
    command: Command,
    takes: Vec<String>,
    makes: Vec<String>,
}

fn run_steps(args: &RunArgs, out: &mut dyn Write) -> Result<()> {
    if args.from > args.to {
        return Err(Misuse::new(format!("from step {} to step {}", args.from, args.to)).into());
    }
    let job = args.job.job()?;
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read `{}`", args.file.display()))?;
    let file = PipelineFile::parse(&args.file, &text)?;
    let chosen = chosen(args.from..=args.to);
    if job.count > 1 {
        alone(&chosen, job.count)?;
    }
    let planned: Vec<Planned> = chosen.into_iter().map(|step| file.plan(step, &args.job)).collect::<Result<_>>()?;
    interrupt::listen();
    let count = planned.len();
    for (done, planned) in planned.into_iter().enumerate() {
        if interrupt::asked() {
            return Err(Interrupted::Finished { finished: done, all: count, what: "commands" }.into());
        }
        announce(&planned, args.dry_run, out)?;
        if !args.dry_run {
            let name = planned.step.title();
            carry_out(planned.command, out).with_context(|| format!("{name} has failed"))?;
        }
    }
    Ok(())
}

fn chosen(numbers: RangeInclusive<u8>) -> Vec<&'static Step> {
    STEPS.iter().filter(|step| numbers.contains(&step.number)).collect()
}

/// In an array, a job must not begin a step while others are still at the one before.
fn alone(steps: &[&'static Step], jobs: usize) -> Result<(), Misuse> {
    let hint = "run each step as an array of its own that waits for the last one; docs/slurm shows how";
    match steps {
        [step] if step.splits() => Ok(()),
        [step] => Err(Misuse::new(format!("{} cannot be split into {jobs} jobs", step.title()))
            .hint("run it once, outside the array")),
        steps => Err(Misuse::new(format!("{} commands at once in an array of {jobs} jobs", steps.len())).hint(hint)),
    }
}

fn announce(planned: &Planned, dry_run: bool, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}: tonoscope {}", planned.step.title(), argv::shown(&planned.words))?;
    for path in &planned.takes {
        let there = if dry_run && !std::path::Path::new(path).exists() { " (not there yet)" } else { "" };
        writeln!(out, "  takes {path}{there}")?;
    }
    for path in &planned.makes {
        writeln!(out, "  makes {path}")?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_pipeline() {
        let file = PipelineFile::parse(std::path::Path::new("pipeline.toml"), EXAMPLE).unwrap();
        for step in STEPS {
            file.plan(step, &JobArgs::default()).unwrap_or_else(|error| panic!("{}: {error:#}", step.title()));
        }
    }

    /// What is commented out can be taken in as it stands.
    #[test]
    fn every_setting_of_the_example_is_one_of_its_command() {
        let (mut table, mut settings) = ("", 0);
        for line in EXAMPLE.lines() {
            if line.starts_with('[') {
                table = line;
            }
            let setting = line.strip_prefix("# ").filter(|rest| {
                let name = rest.split_once(" = ").map(|(name, _)| name).unwrap_or_default();
                !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            });
            let Some(setting) = setting else { continue };
            settings += 1;
            let text = format!("{table}\n{setting}");
            let file = PipelineFile::parse(std::path::Path::new("p.toml"), &text);
            let file = file.unwrap_or_else(|error| panic!("{text}: {error:#}"));
            for step in STEPS {
                file.plan(step, &JobArgs::default()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
            }
        }
        assert!(settings > 30, "{settings} settings");
    }

    #[test]
    fn an_array_runs_one_step_that_can_be_split() {
        assert!(alone(&chosen(2..=2), 4).is_ok());
        assert!(alone(&chosen(2..=3), 4).unwrap_err().to_string().contains("2 commands at once"));
        assert!(alone(&chosen(4..=4), 4).unwrap_err().to_string().contains("cannot be split"));
    }
}
