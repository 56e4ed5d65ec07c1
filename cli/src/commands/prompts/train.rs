//! `tonoscope prompts train-annotator`

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tonoscope_core::musicologist::{
    ASPECTS, Annotation,
    annotator::{Annotator, Evaluation, INSTRUMENTS, evaluate, train},
    read_annotations,
};

use super::asking::print_json;
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder, output_file},
    json_path, progress,
};

/// Learn from annotations what the offline annotator knows
///
/// Instruments and tempi are told by rules; the other aspects are learnt as logistic regressions over the words of the
/// prompts. Before that, how well it goes is measured: every prompt is annotated by an annotator that has learnt from the
/// other folds. The file goes to `prompts annotate --offline --annotator FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// Annotations to learn from, as `prompts annotate` writes them
    #[arg(value_name = "ANNOTATIONS")]
    annotations: PathBuf,
    /// File to write the weights to [default: only measure]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Aspects to know [default: the 25 published ones]
    #[arg(long, value_name = "ASPECTS", value_delimiter = ',')]
    aspects: Vec<String>,
    /// Parts of the prompts that are held out in turn; 0: do not measure
    #[arg(long, value_name = "N", default_value_t = 5)]
    folds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How well annotators do on prompts that they have not seen.
struct Measured {
    /// All folds together: rules alone, rules and what was learnt.
    rules: Evaluation,
    learnt: Evaluation,
    /// Of each fold, by what was learnt.
    folds: Vec<f64>,
}

pub(super) fn run(args: &TrainArgs, out: &mut dyn Write) -> Result<()> {
    let path = &args.annotations;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let annotations = read_annotations(&bytes).with_context(|| format!("`{}`", path.display()))?;
    if args.folds == 1 || args.folds > annotations.len() {
        let what =
            format!("`--folds` is {}, expected 0 or 2 to {}, the number of prompts", args.folds, annotations.len());
        return Err(Misuse::new(what).into());
    }
    let aspects: Vec<&str> = match args.aspects.as_slice() {
        [] => ASPECTS.to_vec(),
        own => own.iter().map(|aspect| aspect.trim()).filter(|aspect| !aspect.is_empty()).collect(),
    };
    if let Some(aspect) = aspects.iter().enumerate().find_map(|(at, one)| aspects[..at].contains(one).then_some(one)) {
        return Err(Misuse::new(format!("aspect `{aspect}` is asked for twice")).into());
    }
    let inputs = Inputs::new([&args.annotations]);
    let target = args.out.as_deref().map(|path| output_file(path, &inputs)).transpose()?;
    let measured = if args.folds == 0 { None } else { Some(measure(&annotations, &aspects, args.folds)?) };
    if let Some(target) = target {
        write(&train(&annotations, &aspects)?, target)?;
    }
    if args.json {
        let measured = measured.as_ref().map_or(Value::Null, as_json);
        return print_json(
            &json!({"out": args.out.as_ref().map(json_path::shown), "prompts": annotations.len(), "held_out": measured}),
            out,
        );
    }
    if let Some(measured) = &measured {
        print(measured, out)?;
    }
    if let Some(path) = &args.out {
        writeln!(out, "{}: learnt from {} prompts", path.display(), annotations.len())?;
    }
    Ok(())
}

/// Every prompt by an annotator that has learnt from the others: of `folds` parts, prompt i is in part i modulo `folds`.
fn measure(annotations: &[Annotation], aspects: &[&str], folds: usize) -> Result<Measured> {
    let mut measured = Measured { rules: Evaluation::default(), learnt: Evaluation::default(), folds: vec![] };
    let bar = progress::steps(folds as u64, "measuring", "folds");
    for fold in 0..folds {
        let part = |held_out: bool| {
            annotations.iter().enumerate().filter(move |(at, _)| (at % folds == fold) == held_out).map(|(_, one)| one)
        };
        let learnt = evaluate(&train(part(false), aspects)?, part(true), aspects);
        measured.folds.push(learnt.micro_f1());
        measured.learnt.add(&learnt);
        measured.rules.add(&evaluate(&Annotator::rules(), part(true), aspects));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn write(annotator: &Annotator, (folder, name): (OutputFolder, String)) -> Result<()> {
    folder.write(&name, annotator.to_json().unwrap_or_default().as_bytes())?;
    Ok(())
}

fn is_instrument(aspect: &str) -> bool {
    INSTRUMENTS.contains(&aspect)
}

fn as_json(measured: &Measured) -> Value {
    let summary = |evaluation: &Evaluation| {
        let aspect = |(name, counts): &(String, tonoscope_core::musicologist::annotator::Counts)| {
            json!({
                "aspect": name, "right": counts.right, "wrong": counts.wrong, "missed": counts.missed,
                "precision": counts.precision(), "recall": counts.recall(), "f1": counts.f1(),
            })
        };
        json!({
            "micro_f1": evaluation.micro_f1(), "instruments": evaluation.micro_f1_of(is_instrument),
            "others": evaluation.micro_f1_of(|aspect| !is_instrument(aspect)), "same_bpm": evaluation.same_bpm,
            "aspects": evaluation.aspects.iter().map(aspect).collect::<Vec<_>>(),
        })
    };
    json!({
        "prompts": measured.learnt.prompts, "folds": measured.folds, "rules": summary(&measured.rules),
        "learnt": summary(&measured.learnt),
    })
}

fn print(measured: &Measured, out: &mut dyn Write) -> Result<()> {
    let Measured { rules, learnt, folds } = measured;
    let number = |value: Option<f64>| value.map_or("    -".to_owned(), |value| format!("{value:.3}"));
    writeln!(out, "F1 on {} held-out prompts  there  rules  learnt", learnt.prompts)?;
    for ((name, by_rules), (_, by_learnt)) in rules.aspects.iter().zip(&learnt.aspects) {
        let there = by_learnt.right + by_learnt.missed;
        let (by_rules, by_learnt) = (number(by_rules.f1()), number(by_learnt.f1()));
        writeln!(out, "{name:<28} {there:>5}  {by_rules}   {by_learnt}")?;
    }
    let mut total = |name: &str, chosen: &dyn Fn(&str) -> bool| {
        let (by_rules, by_learnt) = (rules.micro_f1_of(chosen), learnt.micro_f1_of(chosen));
        writeln!(out, "{name:<28}        {by_rules:.3}   {by_learnt:.3}")
    };
    total("all", &|_| true)?;
    total("instruments", &is_instrument)?;
    total("others", &|aspect| !is_instrument(aspect))?;
    let worst = folds.iter().copied().fold(f64::INFINITY, f64::min);
    let best = folds.iter().copied().fold(0.0, f64::max);
    writeln!(
        out,
        "{} folds from {worst:.3} to {best:.3}; the tempo is right in {} prompts",
        folds.len(),
        learnt.same_bpm
    )?;
    Ok(())
}
