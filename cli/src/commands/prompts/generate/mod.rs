//! `tonoscope prompts generate`

mod ask;
mod lines;

use std::{collections::BTreeSet, fmt::Write as _, io::Write, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tonoscope_core::musicologist::generator::generate_prompts;

use super::asking::{self, Missing, essence, print_json};
use crate::{
    failure::Misuse,
    files::{Inputs, output_file},
    interrupt, json_path,
    llm::{Client, LlmArgs, Settings, Source},
    progress, prompt_file,
};

/// Prompts at most: more are no longer different.
const MOST: usize = 100_000;
/// Prompts of one request at most.
const LARGEST_REQUEST: usize = 1000;
/// Letters of a prompt in the estimate.
const TYPICAL: u64 = 130;

/// Write many different prompts, by a language model or offline
///
/// Each is one line that names genre, mood, tempo and instruments. The file has a number in front of each, which starts anew
/// with every request's block. Prompts that are too long or occur twice are asked for again. What is finished lies in a
/// folder beside the file, `prompts.txt.parts`: the same command goes on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many prompts
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: usize,
    /// How many of them a request asks for
    #[arg(long, value_name = "N", default_value_t = 250)]
    per_request: usize,
    /// File of prompts that show the model what is wanted, one a line [default: three built-in ones]
    #[arg(long, value_name = "FILE")]
    examples: Option<PathBuf>,
    /// Other prompts for another number; sent to a server only if it is given [default offline: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    llm: LlmArgs,
    /// Write what is there even if something is missing in the end
    #[arg(long)]
    partial: bool,
    /// Ask anew for what is there already
    #[arg(long)]
    overwrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
struct Done {
    /// The prompts of each request.
    blocks: Vec<Vec<String>>,
    missing: Missing,
    how: Value,
}

pub(super) fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<()> {
    for (option, value, most) in [("--count", args.count, MOST), ("--per-request", args.per_request, LARGEST_REQUEST)] {
        if !(1..=most).contains(&value) {
            return Err(Misuse::new(format!("`{option}` is {value}, expected 1 to {most}")).into());
        }
    }
    args.inputs().refuse(&args.out)?;
    let done = match args.llm.source()? {
        Source::Offline { noted } => {
            if noted {
                progress::note("there is no `OPENAI_API_KEY`, so the prompts are put together offline");
            }
            if args.examples.is_some() {
                return Err(Misuse::new("`--examples` is for a language model, none is asked offline").into());
            }
            args.offline()?
        }
        Source::Server(settings) => {
            let examples = match &args.examples {
                Some(path) => prompt_file::read(path)?,
                None => ask::EXAMPLES.map(str::to_owned).to_vec(),
            };
            if args.llm.dry_run {
                let ask = |(block, size): (usize, usize)| {
                    ask::question(size, &examples, &[], args.seed.map(|seed| seed + block as u64))
                };
                let questions: Vec<_> = args.sizes().into_iter().enumerate().map(ask).collect();
                return asking::dry_run(&settings, &questions, args.count as u64 * TYPICAL / 4, args.json, out);
            }
            args.online(&settings, &examples)?
        }
    };
    args.finish(&done, out)
}

impl GenerateArgs {
    fn inputs(&self) -> Inputs {
        Inputs::new(self.examples.iter())
    }

    /// How many prompts each request asks for.
    fn sizes(&self) -> Vec<usize> {
        let starts = (0..self.count).step_by(self.per_request);
        starts.map(|start| self.per_request.min(self.count - start)).collect()
    }

    fn offline(&self) -> Result<Done> {
        let seed = self.seed.unwrap_or(0);
        let prompts = generate_prompts(self.count, seed)?;
        let blocks = prompts.chunks(self.per_request).map(<[String]>::to_vec).collect();
        Ok(Done { blocks, missing: Missing::default(), how: json!({"offline": true, "seed": seed}) })
    }

    fn online(&self, settings: &Settings, examples: &[String]) -> Result<Done> {
        interrupt::listen();
        let (folder, name) = output_file(&self.out, &self.inputs())?;
        let key = json!({
            "command": "prompts generate", "base_url": settings.base_url, "model": settings.model, "seed": self.seed,
            "count": self.count, "per_request": self.per_request, "examples": examples,
        });
        let units = asking::open_units(&folder, &name, &key, self.overwrite)?;
        let mut client = Client::new(settings.clone())?;
        let mut missing = Missing::default();
        let sizes = self.sizes();
        let mut blocks: Vec<Vec<String>> =
            (0..sizes.len()).map(|index| asking::read_batch(&units, index)).collect::<Result<_>>()?;
        let mut seen: BTreeSet<String> = blocks.iter().flatten().map(|prompt| essence(prompt)).collect();
        let bar = progress::steps(self.count as u64, "asking for prompts", "prompts");
        let mut number = 0;
        for (index, size) in sizes.into_iter().enumerate() {
            let block = &mut blocks[index];
            let mut asked =
                ask::Block { size, examples, seed: self.seed.map(|seed| seed + index as u64), prompts: block };
            if missing.stopped.is_none() && !asked.is_whole() {
                let mut keep = |prompts: &[String]| asking::write_batch(&units, index, prompts);
                let (ended, why) = asked.complete(&mut client, &mut seen, &mut keep)?;
                missing.goes_on_after(ended);
                if let Some(why) = why {
                    missing.reasons.extend((block.len()..size).map(|at| (number + at + 1, why.clone())));
                }
            }
            number += size;
            bar.inc(size as u64);
        }
        bar.finish_and_clear();
        asking::close_units(units, &folder, &name);
        let mut how = asking::asked(&client, settings);
        how["seed"] = json!(self.seed);
        Ok(Done { blocks, missing, how })
    }

    /// Writes the file, or says what is missing.
    fn finish(&self, done: &Done, out: &mut dyn Write) -> Result<()> {
        let mut lacking = vec![];
        let mut number = 0;
        for (size, block) in self.sizes().into_iter().zip(&done.blocks) {
            lacking.extend((block.len()..size).map(|at| number + at + 1));
            number += size;
        }
        let there = self.count - lacking.len();
        let written = lacking.is_empty() || (self.partial && there > 0);
        if written {
            let mut text = String::new();
            for block in &done.blocks {
                for (at, prompt) in block.iter().enumerate() {
                    let _ = writeln!(text, "{}. {prompt}", at + 1);
                }
            }
            let (folder, name) = output_file(&self.out, &self.inputs())?;
            folder.write(&name, text.as_bytes())?;
        }
        let failure = || done.missing.failure(&lacking, self.count, "prompts are not written");
        if self.json {
            let summary = json!({
                "out": if written { json!(json_path::shown(&self.out)) } else { Value::Null }, "prompts": there, "missing": lacking.len(),
                "how": done.how,
            });
            print_json(&summary, out)?;
        } else if written {
            writeln!(out, "{}: {there} prompts", self.out.display())?;
        }
        if !written {
            return Err(failure());
        }
        if !lacking.is_empty() {
            progress::note(&failure().to_string());
        }
        Ok(())
    }
}
