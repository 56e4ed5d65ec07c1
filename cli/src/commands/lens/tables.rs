//! Tables of a run of the lens, made from its finished units.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result};
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use serde_json::json;
use tonoscope_core::metrics::{Interval, mean_interval};

use super::{figures, plan::LensPlan, unit::LensUnit};
use crate::{
    files::OutputFolder,
    json_path,
    tables::{AudioRow, Table},
    tensors::to_file,
    units::Units,
};

/// Resamples and seed of the bootstrap intervals.
const BOOTSTRAP: (usize, u64) = (2000, 42);

#[derive(Debug, Serialize)]
struct RecognisedRow<'a> {
    concept: &'a str,
    category: &'a str,
    prompt_index: usize,
    prompt: &'a str,
    layer: usize,
    ndcg: f64,
}

/// Recognisability of a concept in a layer, over prompts.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RecognisedSummary {
    pub(super) concept: String,
    pub(super) category: String,
    pub(super) layer: usize,
    pub(super) prompts: usize,
    pub(super) mean: f64,
    /// `None` of one prompt, which says nothing of others.
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

#[derive(Debug, Serialize)]
struct LogitRow<'a> {
    concept: &'a str,
    prompt_index: usize,
    layer: usize,
    codebook: usize,
    entropy_nats: f64,
    rank_of_final: f64,
    kl_last_layer_nats: f64,
    agreement: f64,
    top_tokens: String,
}

/// What a layer says about the tokens of a codebook, over prompts.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LogitSummary {
    pub(super) layer: usize,
    pub(super) codebook: usize,
    pub(super) prompts: usize,
    pub(super) entropy_nats: f64,
    pub(super) rank_of_final: f64,
    pub(super) agreement: f64,
    pub(super) kl_last_layer_nats: f64,
    /// `None` of one prompt.
    pub(super) kl_low: Option<f64>,
    pub(super) kl_high: Option<f64>,
}

#[derive(Debug, Serialize)]
struct StepRow<'a> {
    concept: &'a str,
    prompt_index: usize,
    layer: usize,
    codebook: usize,
    frame: usize,
    entropy_nats: f64,
    rank_of_final: usize,
    kl_last_layer_nats: f64,
    top_tokens: String,
}

#[derive(Debug, Serialize)]
struct DistanceRow {
    layer: usize,
    other: usize,
    distance: f64,
}

/// Makes tables and figures of the finished units, and prints what they say.
pub(crate) fn finish(
    plan: &LensPlan,
    units: &Units,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    units.clear_half_written()?;
    let mut recognised = Table::new();
    let mut logits = Table::new();
    let mut steps = Table::new();
    let mut audio = Table::new();
    let mut scores: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut readings: BTreeMap<(usize, usize), Vec<[f64; 4]>> = BTreeMap::new();
    let mut similarity = vec![vec![0.0; plan.basis.layers]; plan.basis.layers];
    let mut tokens: Vec<Vec<Vec<Vec<u32>>>> = vec![];
    for (index, prompt) in plan.prompts.iter().enumerate() {
        let name = plan.unit(index);
        let damaged = || format!("unit `{name}` is damaged");
        let unit: LensUnit = serde_json::from_slice(&units.read(&name)?).with_context(damaged)?;
        unit.check(plan, index).with_context(damaged)?;
        let of = prompt.concept.as_deref().unwrap_or("");
        for (&layer, ndcg) in plan.read.iter().zip(&unit.ndcg) {
            for (concept, &ndcg) in plan.measured(index).zip(ndcg) {
                let (category, prompt_index) = (concept.slot.as_str(), prompt.index);
                let row =
                    RecognisedRow { concept: &concept.name, category, prompt_index, prompt: &prompt.text, layer, ndcg };
                recognised.push(row)?;
                let number = plan.concepts.iter().position(|known| known.name == concept.name).unwrap_or(0);
                scores.entry((number, layer)).or_default().push(ndcg);
            }
        }
        push_readings(plan, index, &unit, &mut logits, &mut readings)?;
        push_steps(plan, index, &unit, &mut steps)?;
        let share = 1.0 / plan.prompts.len() as f64;
        for (sums, distances) in similarity.iter_mut().zip(&unit.similarity) {
            sums.iter_mut().zip(distances).for_each(|(sum, distance)| *sum += share * distance);
        }
        if prompt.audio {
            for &layer in &plan.read {
                audio.push(AudioRow {
                    file: format!("audio/{}", plan.audio(index, layer)),
                    group: format!("layer {layer}"),
                    label: format!("layer {layer} of {}", plan.basis.layers),
                    prompt: prompt.text.clone(),
                    details: format!(
                        "{}{}",
                        plan.mode.name(),
                        if of.is_empty() { String::new() } else { format!(", concept {of}") }
                    ),
                })?;
            }
        }
        tokens.extend(unit.codes);
    }
    recognised.write(folder, "recognisability.csv")?;
    logits.write(folder, "logit_lens.csv")?;
    steps.write(folder, "logit_lens_steps.csv")?;
    audio.write(folder, "audio.csv")?;
    let mut distances = Table::new();
    for (layer, row) in similarity.iter().enumerate() {
        for (other, &distance) in row.iter().enumerate() {
            distances.push(DistanceRow { layer: layer + 1, other: other + 1, distance })?;
        }
    }
    distances.write(folder, "self_similarity.csv")?;
    let recognised = recognised_summaries(plan, &scores)?;
    let logits = logit_summaries(&readings);
    write_all(folder, "recognisability_summary.csv", &recognised)?;
    write_all(folder, "logit_lens_summary.csv", &logits)?;
    if plan.tokens {
        folder.write("tokens.safetensors", &tokens_file(plan, &tokens)?)?;
    }
    for figure in figures::all(plan, &recognised, &logits, &similarity)? {
        figure.write(folder.path())?;
    }
    report(plan, &recognised, &logits, folder, as_json, out)
}

/// What each layer says about each codebook of prompt `index`, as rows and by layer and codebook.
fn push_readings<'a>(
    plan: &'a LensPlan,
    index: usize,
    unit: &LensUnit,
    logits: &mut Table<LogitRow<'a>>,
    readings: &mut BTreeMap<(usize, usize), Vec<[f64; 4]>>,
) -> Result<()> {
    let prompt = &plan.prompts[index];
    for (&layer, codebooks) in plan.read.iter().zip(&unit.readings) {
        for (codebook, reading) in codebooks.iter().enumerate() {
            let top: Vec<String> = reading.top.iter().map(|(token, count)| format!("{token}x{count}")).collect();
            logits.push(LogitRow {
                concept: prompt.concept.as_deref().unwrap_or(""),
                prompt_index: prompt.index,
                layer,
                codebook,
                entropy_nats: reading.entropy,
                rank_of_final: reading.rank,
                kl_last_layer_nats: reading.kl,
                agreement: reading.agreement,
                top_tokens: top.join(" "),
            })?;
            let numbers = [reading.entropy, reading.rank, reading.agreement, reading.kl];
            readings.entry((layer, codebook)).or_default().push(numbers);
        }
    }
    Ok(())
}

/// The same at every step, if it was kept.
fn push_steps<'a>(plan: &'a LensPlan, index: usize, unit: &LensUnit, steps: &mut Table<StepRow<'a>>) -> Result<()> {
    let prompt = &plan.prompts[index];
    for (&layer, codebooks) in plan.read.iter().zip(unit.steps.iter().flatten()) {
        for (codebook, frames) in codebooks.iter().enumerate() {
            for (frame, step) in frames.iter().enumerate() {
                let top: Vec<String> = step.top.iter().map(|(token, p)| format!("{token}:{p:.4}")).collect();
                steps.push(StepRow {
                    concept: prompt.concept.as_deref().unwrap_or(""),
                    prompt_index: prompt.index,
                    layer,
                    codebook,
                    frame,
                    entropy_nats: step.entropy,
                    rank_of_final: step.rank,
                    kl_last_layer_nats: step.kl,
                    top_tokens: top.join(" "),
                })?;
            }
        }
    }
    Ok(())
}

fn write_all<R: Serialize>(folder: &OutputFolder, name: &str, rows: &[R]) -> Result<()> {
    let mut table = Table::new();
    rows.iter().try_for_each(|row| table.push(row))?;
    table.write(folder, name)
}

fn interval(values: &[f64]) -> Interval {
    let none = Interval { low: None, mean: f64::NAN, high: None };
    mean_interval(values, 0.95, BOOTSTRAP.0, BOOTSTRAP.1).unwrap_or(none)
}

fn recognised_summaries(
    plan: &LensPlan,
    scores: &BTreeMap<(usize, usize), Vec<f64>>,
) -> Result<Vec<RecognisedSummary>> {
    let of = |(&(concept, layer), values): (&(usize, usize), &Vec<f64>)| {
        let concept = &plan.concepts[concept];
        let Interval { low, mean, high } = interval(values);
        Ok(RecognisedSummary {
            concept: concept.name.clone(),
            category: concept.slot.clone(),
            layer,
            prompts: values.len(),
            mean,
            low,
            high,
        })
    };
    scores.iter().map(of).collect()
}

fn logit_summaries(readings: &BTreeMap<(usize, usize), Vec<[f64; 4]>>) -> Vec<LogitSummary> {
    let of = |(&(layer, codebook), values): (&(usize, usize), &Vec<[f64; 4]>)| {
        let mean = |index: usize| values.iter().map(|of| of[index]).sum::<f64>() / values.len() as f64;
        let kl: Vec<f64> = values.iter().map(|of| of[3]).collect();
        let Interval { low, mean: kl, high } = interval(&kl);
        LogitSummary {
            layer,
            codebook,
            prompts: values.len(),
            entropy_nats: mean(0),
            rank_of_final: mean(1),
            agreement: mean(2),
            kl_last_layer_nats: kl,
            kl_low: low,
            kl_high: high,
        }
    };
    readings.iter().map(of).collect()
}

/// `codes` `[prompt, layer, codebook, frame]` as 64-bit integers.
fn tokens_file(plan: &LensPlan, tokens: &[Vec<Vec<Vec<u32>>>]) -> Result<Vec<u8>> {
    let flat = tokens.iter().flatten().flatten().flatten();
    let bytes: Vec<u8> = flat.flat_map(|&code| i64::from(code).to_le_bytes()).collect();
    let codes = &tokens[0][0];
    let shape = vec![tokens.len(), tokens[0].len(), codes.len(), codes[0].len()];
    let view = TensorView::new(Dtype::I64, shape, &bytes)?;
    let prompts: Vec<&str> = plan.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
    let metadata = BTreeMap::from([
        ("prompts".to_owned(), serde_json::to_string(&prompts)?),
        ("layers".to_owned(), serde_json::to_string(&plan.read)?),
    ]);
    to_file(vec![("codes", view)], metadata)
}

/// What is said at the end: one line per layer.
fn report(
    plan: &LensPlan,
    recognised: &[RecognisedSummary],
    logits: &[LogitSummary],
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    if as_json {
        let summary =
            json!({"out": json_path::shown(folder.path()), "recognisability": recognised, "logit_lens": logits});
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
        return Ok(());
    }
    writeln!(out, "{:>5}  {:>12}  {:>13}  {:>14}", "layer", "KL to last", "entropy", "recognisability")?;
    for &layer in &plan.read {
        let mean = |values: Vec<f64>| {
            if values.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.3}", values.iter().sum::<f64>() / values.len() as f64)
            }
        };
        let of_layer = || logits.iter().filter(move |of| of.layer == layer);
        writeln!(
            out,
            "{layer:>5}  {:>12}  {:>13}  {:>14}",
            mean(of_layer().map(|of| of.kl_last_layer_nats).collect()),
            mean(of_layer().map(|of| of.entropy_nats).collect()),
            mean(recognised.iter().filter(|of| of.layer == layer).map(|of| of.mean).collect()),
        )?;
    }
    writeln!(out, "tables, figures and audio are in `{}`", folder.path().display())?;
    Ok(())
}
