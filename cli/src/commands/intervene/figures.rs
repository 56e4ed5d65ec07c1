//! Figures of a run of interventions.

use anyhow::Result;

use super::{
    plan::{InterventionPlan, technique_name},
    tables::Summary,
};
use crate::{
    effect_precision::{Measured, plot, points, spread},
    figures::{
        BarPanel, BarPlot, BarSeries, Figure, HeatMap, HeatPanel, LinePlot, Panel, ReferenceLine, Scale, Series,
    },
};

/// Pairs of which each gets a map of its own.
const MAPPED_PAIRS: usize = 12;

/// Every figure that the tables allow.
pub(super) fn all(plan: &InterventionPlan, summaries: &[Summary]) -> Result<Vec<Figure>> {
    let judged = summaries.iter().any(|of| of.effect.is_some());
    let mut figures = vec![by_layer(plan, summaries, "precision", "precision (−KL, nats)", |of| Some(of.precision))?];
    if !judged {
        return Ok(figures);
    }
    figures.push(by_layer(plan, summaries, "effect", "effect (log odds)", |of| of.effect)?);
    figures.push(effect_precision(plan, summaries)?);
    figures.push(original_desired(plan, summaries)?);
    figures.push(map(plan, summaries, "effect_map", "mean over all pairs", |_| true)?);
    if plan.pairs.len() <= MAPPED_PAIRS {
        for &(from, to) in &plan.pairs {
            let name = format!("effect_map_{}", plan.pair_name((from, to)));
            let (from, to) = (&plan.concepts[from].name, &plan.concepts[to].name);
            figures
                .push(map(plan, summaries, &name, &format!("{from} to {to}"), |of| of.from == *from && of.to == *to)?);
        }
    }
    Ok(figures)
}

fn panels(plan: &InterventionPlan) -> impl Iterator<Item = &'static str> {
    plan.techniques.iter().map(|&technique| technique_name(technique))
}

fn by_layer(
    plan: &InterventionPlan,
    summaries: &[Summary],
    name: &str,
    y_label: &str,
    value: fn(&Summary) -> Option<f64>,
) -> Result<Figure> {
    let series = |technique: &str, site: &str| Series {
        name: site.to_owned(),
        points: plan
            .layers
            .iter()
            .map(|&layer| {
                let of = |of: &&Summary| of.technique == technique && of.site == site && of.layer == layer;
                let values: Vec<f64> = summaries.iter().filter(of).filter_map(value).collect();
                let (mean, interval) = spread(&values);
                (layer as f64, mean, interval)
            })
            .collect(),
    };
    let over = match plan.pairs[..] {
        [(from, to)] => format!("from {} to {}", plan.concepts[from].name, plan.concepts[to].name),
        _ => format!("over {} pairs of concepts, with 95 % bootstrap intervals over pairs", plan.pairs.len()),
    };
    let panel = |technique: &str| Panel {
        title: technique.to_owned(),
        series: plan.sites.iter().map(|site| series(technique, site)).collect(),
    };
    LinePlot {
        name: format!("{name}_by_layer"),
        caption: format!("Mean {name} of the interventions at each site and layer {over}."),
        x_label: "layer".to_owned(),
        y_label: y_label.to_owned(),
        panels: panels(plan).map(panel).collect(),
        y_from_zero: false,
        reference_lines: vec![ReferenceLine { name: "no change".to_owned(), value: 0.0 }],
    }
    .draw()
}

fn effect_precision(plan: &InterventionPlan, summaries: &[Summary]) -> Result<Figure> {
    let size = format!("{} layers of width {}", plan.basis.layers, plan.basis.width);
    let measured: Vec<Measured> = summaries
        .iter()
        .map(|of| Measured {
            technique: of.technique.to_owned(),
            site: of.site.clone(),
            effect: of.effect,
            precision: of.precision,
        })
        .collect();
    let caption = "Effect against precision of both techniques at each site: means over pairs and layers, with 95 % bootstrap \
                   intervals.";
    plot("effect_precision", caption.to_owned(), points(&size, &measured)).draw()
}

fn original_desired(plan: &InterventionPlan, summaries: &[Summary]) -> Result<Figure> {
    let series = |technique: &str, name: &str, value: fn(&Summary) -> Option<f64>| BarSeries {
        name: name.to_owned(),
        values: plan
            .sites
            .iter()
            .map(|site| {
                let of = |of: &&Summary| of.technique == technique && of.site == *site;
                spread(&summaries.iter().filter(of).filter_map(value).collect::<Vec<f64>>())
            })
            .collect(),
    };
    let panel = |technique: &str| BarPanel {
        title: technique.to_owned(),
        series: vec![
            series(technique, "original removed", |of| of.effect_original),
            series(technique, "desired added", |of| of.effect_desired),
        ],
    };
    BarPlot {
        name: "original_desired".to_owned(),
        caption:
            "The two parts of the effect: what the original concept loses and what the desired one gains; means over \
                  pairs and layers, with 95 % bootstrap intervals."
                .to_owned(),
        x_label: "site".to_owned(),
        y_label: "effect (log odds)".to_owned(),
        groups: plan.sites.clone(),
        panels: panels(plan).map(panel).collect(),
        reference_lines: vec![],
    }
    .draw()
}

/// Layers across, sites (and heads) down.
fn map(
    plan: &InterventionPlan,
    summaries: &[Summary],
    name: &str,
    title: &str,
    wanted: impl Fn(&Summary) -> bool,
) -> Result<Figure> {
    let mut rows: Vec<(String, Option<usize>)> = vec![];
    for summary in summaries {
        let row = (summary.site.clone(), summary.head);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|(site, head)| (plan.sites.iter().position(|known| known == site), *head));
    let value = |technique: &str, (site, head): &(String, Option<usize>), layer: usize| {
        let of = |of: &&Summary| {
            of.technique == technique && of.site == *site && of.head == *head && of.layer == layer && wanted(of)
        };
        spread(&summaries.iter().filter(of).filter_map(|of| of.effect).collect::<Vec<f64>>()).0
    };
    let panel = |technique: &str| HeatPanel {
        title: technique.to_owned(),
        values: rows
            .iter()
            .map(|row| plan.layers.iter().map(|&layer| value(technique, row, layer)).collect())
            .collect(),
    };
    HeatMap {
        name: name.to_owned(),
        caption: format!("Effect of the interventions at each site and layer, {title}."),
        x_label: "layer".to_owned(),
        y_label: String::new(),
        x_ticks: plan.layers.iter().map(ToString::to_string).collect(),
        y_ticks: rows
            .iter()
            .map(|(site, head)| head.map_or_else(|| site.clone(), |head| format!("{site} {head}")))
            .collect(),
        value_label: "effect (log odds)".to_owned(),
        scale: Scale::Diverging,
        panels: panels(plan).map(panel).collect(),
    }
    .draw()
}
