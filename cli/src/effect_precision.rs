//! Effect against precision of interventions: the figure of one run, and that of models of several sizes.

use serde::Deserialize;
use tonoscope_core::metrics::mean_interval;

use crate::figures::{ReferenceLine, ScatterPlot, ScatterPoint, distinct};

/// What is drawn of one intervention of a pair: some columns of `summary.csv`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Measured {
    pub(crate) technique: String,
    pub(crate) site: String,
    /// Log odds; `None` where no class stands for a concept.
    pub(crate) effect: Option<f64>,
    /// `−KL`, nats.
    pub(crate) precision: f64,
}

/// Mean of `values` with its 95 % interval; gaps where there is none.
pub(crate) fn spread(values: &[f64]) -> (f64, Option<(f64, f64)>) {
    match mean_interval(values, 0.95, 2000, 42) {
        Some(of) => (of.mean, of.ends()),
        None => (f64::NAN, None),
    }
}

/// A point for each technique at each site, in the order in which `measured` has them: means over all else with their
/// intervals. `size` says which model it is.
pub(crate) fn points(size: &str, measured: &[Measured]) -> Vec<ScatterPoint> {
    let techniques = distinct(measured.iter().map(|of| of.technique.as_str()));
    let sites = distinct(measured.iter().map(|of| of.site.as_str()));
    let mut points = vec![];
    for technique in techniques {
        for site in &sites {
            let members = || measured.iter().filter(|of| of.technique == technique && of.site == *site);
            let effects: Vec<f64> = members().filter_map(|of| of.effect).collect();
            let precisions: Vec<f64> = members().map(|of| of.precision).collect();
            let ((x, x_interval), (y, y_interval)) = (spread(&precisions), spread(&effects));
            points.push(ScatterPoint {
                label: technique.to_owned(),
                group: (*site).to_owned(),
                size: size.to_owned(),
                x,
                y,
                x_interval,
                y_interval,
            });
        }
    }
    points
}

/// The figure `name` of these points.
pub(crate) fn plot(name: &str, caption: String, points: Vec<ScatterPoint>) -> ScatterPlot {
    ScatterPlot {
        name: name.to_owned(),
        caption,
        x_label: "precision (−KL, nats)".to_owned(),
        y_label: "effect (log odds)".to_owned(),
        points,
        reference_lines: vec![ReferenceLine { name: "no change".to_owned(), value: 0.0 }],
    }
}
