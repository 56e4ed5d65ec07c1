//! `tonoscope prompts annotate`

mod ask;
mod judge;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tonoscope_core::musicologist::{ASPECTS, Annotation, annotator::Annotator};

use super::asking::{self, Missing, print_json};
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder, output_file},
    interrupt, json_path,
    llm::{Client, LlmArgs, Settings, Source},
    progress, prompt_file,
};

/// Prompts of one request at most: a longer answer is cut off, or never comes.
const LARGEST_BATCH: usize = 100;
/// Words that are no aspects that are told in the end.
const MOST_TOLD: usize = 20;

/// Say which aspects and which tempo prompts ask for, by a language model or offline
///
/// Writes a list of `{"prompt", "aspects", "bpm"}` in the order of the prompts; a tempo of 0 means that none is given. What
/// the model answers is checked: prompts that are missing, annotated twice or with words that are no aspects are asked again.
/// What is finished lies in a folder beside the file, `annotations.json.parts`: the same command goes on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct AnnotateArgs {
    /// File of prompts, one a line, numbered or not
    #[arg(value_name = "PROMPTS")]
    prompts: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Prompts per request
    #[arg(long, value_name = "N", default_value_t = 5)]
    batch: usize,
    /// Aspects to choose from [default: the 25 published ones]
    #[arg(long, value_name = "ASPECTS", value_delimiter = ',')]
    aspects: Vec<String>,
    /// Weights of the offline annotator, as `prompts train-annotator` writes them [default: built in]
    #[arg(long, value_name = "FILE")]
    annotator: Option<PathBuf>,
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
    /// In the order of the prompts.
    annotations: Vec<Option<Annotation>>,
    missing: Missing,
    /// Words that the model held to be aspects.
    dropped: BTreeMap<String, usize>,
    how: Value,
}

pub(super) fn run(args: &AnnotateArgs, out: &mut dyn Write) -> Result<()> {
    if !(1..=LARGEST_BATCH).contains(&args.batch) {
        return Err(Misuse::new(format!("`--batch` is {}, expected 1 to {LARGEST_BATCH}", args.batch)).into());
    }
    args.inputs().refuse(&args.out)?;
    let prompts = prompt_file::read(&args.prompts)?;
    let aspects = args.aspects()?;
    let done = match args.llm.source()? {
        Source::Offline { noted } => {
            if noted {
                progress::note("there is no `OPENAI_API_KEY`, so the prompts are annotated offline");
            }
            args.offline(&prompts, &aspects)?
        }
        Source::Server(settings) if args.llm.dry_run => {
            let questions = ask::questions(&prompts, args.batch, &aspects);
            // An object around the prompt and some six aspects.
            let letters: usize = prompts.iter().map(|prompt| prompt.chars().count() + 120).sum();
            return asking::dry_run(&settings, &questions, letters as u64 / 4, args.json, out);
        }
        Source::Server(settings) => {
            if args.annotator.is_some() {
                let what = "`--annotator` is for annotating offline";
                return Err(Misuse::new(what).hint("pass `--offline` as well").into());
            }
            args.online(&settings, &prompts, &aspects)?
        }
    };
    args.finish(&prompts, &done, out)
}

impl AnnotateArgs {
    fn inputs(&self) -> Inputs {
        Inputs::new([&self.prompts].into_iter().chain(&self.annotator))
    }

    fn aspects(&self) -> Result<Vec<String>> {
        if self.aspects.is_empty() {
            return Ok(ASPECTS.map(str::to_owned).to_vec());
        }
        let mut aspects: Vec<String> = vec![];
        for aspect in self.aspects.iter().map(|aspect| aspect.trim()) {
            let plain = !aspect.is_empty() && aspect.chars().count() <= 60 && !aspect.contains(char::is_control);
            if !plain || aspects.iter().any(|other| judge::same_aspect(other, aspect)) {
                return Err(Misuse::new(format!("`{}` is no aspect of its own", aspect.escape_debug())).into());
            }
            aspects.push(aspect.to_owned());
        }
        Ok(aspects)
    }

    fn offline(&self, prompts: &[String], aspects: &[String]) -> Result<Done> {
        let own = self.annotator.as_deref().map(read_annotator).transpose()?;
        let annotator = own.as_ref().unwrap_or_else(|| Annotator::embedded());
        let known = annotator.aspects();
        if let Some(aspect) = aspects.iter().find(|aspect| !known.contains(&aspect.as_str())) {
            let what = format!("offline, nobody knows the aspect `{aspect}`");
            let hint = "train an annotator with `tonoscope prompts train-annotator` and pass it as `--annotator`";
            return Err(Misuse::new(what).hint(hint).into());
        }
        let annotate = |prompt: &String| {
            let mut annotation = annotator.annotate(prompt);
            annotation.aspects.retain(|aspect| aspects.contains(aspect));
            Some(annotation)
        };
        let how = json!({"offline": true, "annotator": self.annotator.as_ref().map(json_path::shown)});
        let annotations = prompts.iter().map(annotate).collect();
        Ok(Done { annotations, missing: Missing::default(), dropped: BTreeMap::new(), how })
    }

    fn online(&self, settings: &Settings, prompts: &[String], aspects: &[String]) -> Result<Done> {
        interrupt::listen();
        let (folder, name) = output_file(&self.out, &self.inputs())?;
        let key = json!({
            "command": "prompts annotate", "base_url": settings.base_url, "model": settings.model, "aspects": aspects,
            "batch": self.batch, "prompts": prompts,
        });
        let units = asking::open_units(&folder, &name, &key, self.overwrite)?;
        let mut client = Client::new(settings.clone())?;
        let mut missing = Missing::default();
        let mut dropped = BTreeMap::new();
        let batches = prompts.len().div_ceil(self.batch);
        let bar = progress::steps(prompts.len() as u64, "annotating", "prompts");
        let mut annotations = vec![];
        let mut going_on = true;
        for (index, texts) in prompts.chunks(self.batch).enumerate() {
            let mut batch = ask::Batch::new(texts, asking::read_batch(&units, index)?);
            if going_on && !batch.is_whole() {
                let mut keep = |found: &[Annotation]| asking::write_batch(&units, index, found);
                let ended = batch.complete(&mut client, aspects, &mut keep, &mut dropped)?;
                going_on = missing.goes_on_after(ended);
                let first = index * self.batch;
                missing.reasons.extend(batch.reasons().map(|(at, why)| (first + at + 1, why)));
            }
            bar.inc(texts.len() as u64);
            annotations.extend(batch.into_annotations());
        }
        bar.finish_and_clear();
        asking::close_units(units, &folder, &name);
        let mut how = asking::asked(&client, settings);
        how["batches"] = json!(batches);
        Ok(Done { annotations, missing, dropped, how })
    }

    /// Writes the file, or says what is missing.
    fn finish(&self, prompts: &[String], done: &Done, out: &mut dyn Write) -> Result<()> {
        let lacking: Vec<usize> =
            (0..prompts.len()).filter(|at| done.annotations[*at].is_none()).map(|at| at + 1).collect();
        let there: Vec<&Annotation> = done.annotations.iter().flatten().collect();
        let written = lacking.is_empty() || (self.partial && !there.is_empty());
        if written {
            let (folder, name) = output_file(&self.out, &self.inputs())?;
            write_annotations(&folder, &name, &there)?;
        }
        if !done.dropped.is_empty() {
            let words: Vec<String> =
                done.dropped.iter().take(MOST_TOLD).map(|(word, count)| format!("`{word}` ({count})")).collect();
            progress::note(&format!("the model insisted on words that are no aspects; left out: {}", words.join(", ")));
        }
        if self.json {
            let missing: Vec<Value> = lacking
                .iter()
                .map(|number| json!({"number": number, "prompt": prompts[number - 1], "reason": done.missing.reason(*number)}))
                .collect();
            let summary = json!({
                "out": if written { json!(json_path::shown(&self.out)) } else { Value::Null }, "prompts": prompts.len(),
                "annotated": there.len(), "missing": missing, "dropped": done.dropped, "how": done.how,
            });
            print_json(&summary, out)?;
        }
        if lacking.is_empty() || written {
            if !lacking.is_empty() {
                progress::note(&done.missing.failure(&lacking, prompts.len(), "prompts are not annotated").to_string());
            }
            if !self.json {
                writeln!(out, "{}: {} annotated prompts", self.out.display(), there.len())?;
            }
            return Ok(());
        }
        Err(done.missing.failure(&lacking, prompts.len(), "prompts are not annotated"))
    }
}

fn read_annotator(path: &Path) -> Result<Annotator> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Annotator::from_json(&path.display().to_string(), &bytes)?)
}

fn write_annotations(folder: &OutputFolder, name: &str, annotations: &[&Annotation]) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(annotations)?;
    bytes.push(b'\n');
    folder.write(name, &bytes)?;
    Ok(())
}
