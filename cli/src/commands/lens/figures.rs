//! Figures of a run of the lens.

use anyhow::Result;

use super::{
    plan::LensPlan,
    tables::{LogitSummary, RecognisedSummary},
};
use crate::figures::{Figure, HeatMap, HeatPanel, LinePlot, Panel, Scale, Series};

/// Every figure that the tables allow.
pub(super) fn all(
    plan: &LensPlan,
    recognised: &[RecognisedSummary],
    logits: &[LogitSummary],
    similarity: &[Vec<f64>],
) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    if !recognised.is_empty() {
        figures.push(recognisability(plan, recognised)?);
    }
    figures.push(logit_lens(plan, logits)?);
    figures.push(self_similarity(plan, similarity)?);
    Ok(figures)
}

fn recognisability(plan: &LensPlan, recognised: &[RecognisedSummary]) -> Result<Figure> {
    let mut categories: Vec<&str> = vec![];
    for concept in &plan.concepts {
        if !categories.contains(&concept.slot.as_str()) {
            categories.push(&concept.slot);
        }
    }
    let series = |name: &str| Series {
        name: name.to_owned(),
        points: recognised
            .iter()
            .filter(|of| of.concept == name)
            .map(|of| (of.layer as f64, of.mean, of.low.zip(of.high)))
            .collect(),
    };
    let panel = |category: &&str| Panel {
        title: category.to_lowercase(),
        series: plan
            .concepts
            .iter()
            .filter(|concept| concept.slot == **category && recognised.iter().any(|of| of.concept == concept.name))
            .map(|concept| series(&concept.name))
            .collect(),
    };
    LinePlot {
        name: "recognisability".to_owned(),
        caption: format!(
            "How well the judge recognises each concept in the music of each layer ({}): mean NDCG over {} prompts, with \
             95 % bootstrap intervals.",
            plan.mode.name(),
            plan.prompts.len()
        ),
        x_label: "layers that have run".to_owned(),
        y_label: "recognisability (NDCG)".to_owned(),
        panels: categories.iter().map(panel).filter(|panel| !panel.series.is_empty()).collect(),
        y_from_zero: true,
        reference_lines: vec![],
    }
    .draw()
}

fn logit_lens(plan: &LensPlan, logits: &[LogitSummary]) -> Result<Figure> {
    let mut codebooks: Vec<usize> = logits.iter().map(|of| of.codebook).collect();
    codebooks.sort_unstable();
    codebooks.dedup();
    let series = |&codebook: &usize| Series {
        name: format!("codebook {}", codebook + 1),
        points: logits
            .iter()
            .filter(|of| of.codebook == codebook)
            .map(|of| (of.layer as f64, of.kl_last_layer_nats, of.kl_low.zip(of.kl_high)))
            .collect(),
    };
    LinePlot {
        name: "logit_lens".to_owned(),
        caption: format!(
            "Divergence of each layer's distribution from the last layer's, along the tokens of the whole model{}: mean over \
             steps and {} prompts, with 95 % bootstrap intervals over prompts.",
            if plan.mode == super::plan::Mode::Tuned { ", through fitted translators" } else { "" },
            plan.prompts.len()
        ),
        x_label: "layers that have run".to_owned(),
        y_label: "KL(last ‖ layer) (nats)".to_owned(),
        panels: vec![Panel { title: String::new(), series: codebooks.iter().map(series).collect() }],
        y_from_zero: true,
        reference_lines: vec![],
    }
    .draw()
}

fn self_similarity(plan: &LensPlan, similarity: &[Vec<f64>]) -> Result<Figure> {
    let ticks: Vec<String> = (1..=plan.basis.layers).map(|layer| layer.to_string()).collect();
    HeatMap {
        name: "self_similarity".to_owned(),
        caption: format!(
            "Euclidean distance between the residual streams after every two layers, each averaged over time; mean over {} \
             prompts.",
            plan.prompts.len()
        ),
        x_label: "layers that have run".to_owned(),
        y_label: "layers that have run".to_owned(),
        x_ticks: ticks.clone(),
        y_ticks: ticks,
        value_label: "Euclidean distance".to_owned(),
        scale: Scale::Sequential,
        panels: vec![HeatPanel { title: String::new(), values: similarity.to_vec() }],
    }
    .draw()
}
