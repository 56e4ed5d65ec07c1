//! `tonoscope demo`: what a newcomer sees first, one command after another.

use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tonoscope_backends::DeviceName;

use super::pipeline::shown;
use crate::{Cli, carry_out, interrupt, progress};

/// See everything once, in small, with the models inside the program
///
/// Carries out a few commands, which are shown, so that they can be varied: it makes music from text, listens to the layers
/// of the model, puts one concept in place of another, and ends in one HTML page of all that. What an earlier demo has
/// finished in the same folder is not made again.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", default_value = "tonoscope-demo")]
    out: PathBuf,
    /// Device, as of the other commands
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Show the commands, and carry out none
    #[arg(long)]
    dry_run: bool,
}

/// Stands for the folder in an argument.
const OUT: &str = "{out}";
/// Whatever is drawn at random.
const SEED: &str = "--seed=7";

/// The commands, and what they are for. All but the last take `--device`.
const STEPS: &[(&str, &[&str])] = &[
    (
        "music from text",
        &[
            "generate",
            "--prompt=Compose a happy rock piece, with a guitar melody. Use a fast tempo.",
            "--prompt=Compose a sad classical piece, with a piano melody. Use a slow tempo.",
            "--duration=4",
            SEED,
            "--out={out}/music",
        ],
    ),
    (
        "what each layer already knows",
        &[
            "lens",
            "--concepts=all",
            "--prompts-per-concept=2",
            "--mode=teacher-forced",
            "--duration=4",
            SEED,
            "--out={out}/lens",
        ],
    ),
    (
        "what becomes of pop when its activations are moved towards those of jazz",
        &[
            "intervene",
            "--from=pop",
            "--to=jazz",
            "--technique=adjust",
            "--feed=own",
            "--prompts-per-concept=4",
            "--controls=1",
            "--save-extremes=1",
            "--duration=4",
            SEED,
            "--out={out}/intervention",
        ],
    ),
    ("one page of it", &["report", "{out}/music", "{out}/lens", "{out}/intervention", "--out={out}/report.html"]),
];

pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<()> {
    let folder = args.out.to_str().with_context(|| format!("`{}` is not UTF-8", args.out.display()))?;
    let started = Instant::now();
    interrupt::listen();
    for (what, words) in STEPS {
        let mut words: Vec<String> = words.iter().map(|word| word.replace(OUT, folder)).collect();
        if words[0] != "report" {
            words.push(format!("--device={}", args.device));
        }
        if args.dry_run {
            writeln!(out, "# {what}\ntonoscope {}", shown(&words))?;
            continue;
        }
        if interrupt::asked() {
            bail!("interrupted; the same command goes on from here");
        }
        progress::note(&format!("{what}: tonoscope {}", shown(&words)));
        let parsed = Cli::try_parse_from(std::iter::once("tonoscope").chain(words.iter().map(String::as_str)));
        carry_out(parsed.context("a command of the demo")?.command, out)?;
    }
    if !args.dry_run {
        progress::note(&format!("done in {:.0} s; open `{folder}/report.html`", started.elapsed().as_secs_f64()));
    }
    Ok(())
}
