//! `tonoscope demo`: what a newcomer sees first, one command after another.

use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tonoscope_backends::DeviceName;

use super::pipeline::shown;
use crate::{
    Cli, carry_out,
    files::{Inputs, output_file},
    interrupt::{self, Interrupted},
    progress,
};

/// See everything once, in small, with the models inside the program
///
/// Carries out a few commands, which are shown, so that they can be varied: it makes music from text, listens to the layers
/// of the model, moves one concept towards another, goes through the six steps of concepts along a diffusion, and ends in
/// one HTML page of all that. What an earlier demo has
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
/// An argument of commands that compute.
const DEVICE: &str = "--device={device}";
/// Whatever is drawn at random.
const SEED: &str = "--seed=7";

/// What the six steps make music of: an instrument of each of five families.
const INSTRUMENTS: [&str; 5] = ["guitar", "piano", "trumpet", "violin", "flute"];
/// In these moods.
const MOODS: [&str; 2] = ["happy", "emotional"];
/// Where these prompts lie in the folder.
const PROMPTS: &str = "six-steps/prompts.txt";

/// The commands, and what they are for.
const STEPS: &[(&str, &[&str])] = &[
    (
        "music from text",
        &[
            "generate",
            "--prompt=Compose a happy rock piece, with a guitar melody. Use a fast tempo.",
            "--prompt=Compose a sad classical piece, with a piano melody. Use a slow tempo.",
            "--duration=4",
            SEED,
            DEVICE,
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
            DEVICE,
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
            DEVICE,
            "--out={out}/intervention",
        ],
    ),
    (
        "six steps, 1: what prompts ask for",
        &["prompts", "annotate", "{out}/six-steps/prompts.txt", "--offline", "--out={out}/six-steps/annotations.json"],
    ),
    (
        "six steps, 2: music out of noise, heard on the way",
        &[
            "diffuse",
            "--prompts={out}/six-steps/prompts.txt",
            "--annotations={out}/six-steps/annotations.json",
            "--samples=2",
            "--steps=20",
            "--snapshots=1,4,8,12,16,19",
            SEED,
            DEVICE,
            "--out={out}/six-steps/generated",
        ],
    ),
    (
        "six steps, 3: that music as vectors",
        &["embed-generated", "{out}/six-steps/generated", DEVICE, "--out={out}/six-steps/embeddings"],
    ),
    ("six steps, 4: notes of instruments", &["data", "render", "notes", "{out}/six-steps/nsynth", "--per-program=8"]),
    (
        "six steps, 4: notes that have a concept, and as many that have not",
        &["concepts", "build", "--notes={out}/six-steps/nsynth", "--out={out}/six-steps/concepts"],
    ),
    ("six steps, 5: these notes as vectors", &["concepts", "embed", "{out}/six-steps/concepts", DEVICE]),
    (
        "six steps, 6: classifiers of notes, asked about the music",
        &[
            "probe",
            "--concepts={out}/six-steps/concepts",
            "--embeddings={out}/six-steps/embeddings",
            "--annotations={out}/six-steps/annotations.json",
            "--only=is_guitar,is_keyboard,is_brass,is_string,is_flute",
            "--hold-out=instruments",
            "--classifiers=logistic",
            "--frames=last",
            "--out={out}/six-steps/probe",
        ],
    ),
    (
        "one page of it",
        &[
            "report",
            "{out}/music",
            "{out}/lens",
            "{out}/intervention",
            "{out}/six-steps/generated",
            "{out}/six-steps/probe",
            "--max-audio-mb=30",
            "--out={out}/report.html",
        ],
    ),
];

pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<()> {
    let folder = args.out.to_str().with_context(|| format!("`{}` is not UTF-8", args.out.display()))?;
    let started = Instant::now();
    interrupt::listen();
    if !args.dry_run {
        let (folder, name) = output_file(&args.out.join(PROMPTS), &Inputs::default())?;
        folder.write(&name, prompts().join("\n").as_bytes())?;
    }
    for (what, words) in STEPS {
        let filled = |word: &&str| word.replace(OUT, folder).replace("{device}", &args.device.to_string());
        let words: Vec<String> = words.iter().map(filled).collect();
        if args.dry_run {
            writeln!(out, "# {what}\ntonoscope {}", shown(&words))?;
            continue;
        }
        if interrupt::asked() {
            bail!(Interrupted::Resumable);
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

/// What the six steps begin with.
fn prompts() -> Vec<String> {
    let prompt =
        |mood: &str, instrument: &str| format!("Compose a {mood} piece for solo {instrument}. Use a medium tempo.");
    INSTRUMENTS.iter().flat_map(|instrument| MOODS.map(|mood| prompt(mood, instrument))).collect()
}
