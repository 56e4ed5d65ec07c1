//! Other ways to tell a concept than the sound's embedding: latents and activations, under one protocol.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tonoscope_core::probes::{Folds, Probe, ProbeError, Spread, cross_validate};

use super::{plan::Settings, unit::Rows};

/// Inverse strength of the probes' regularisation.
const C: f64 = 1.0;

/// Features of what was generated, step by step; the clusters are the prompts.
#[derive(Debug, Clone, Default)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) steps: Vec<(usize, Rows)>,
}

/// How well a linear probe tells the concept, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteResult {
    pub(crate) name: String,
    pub(crate) features: usize,
    pub(crate) steps: Vec<RouteStep>,
    /// Why there is nothing.
    pub(crate) obstacle: Option<String>,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteStep {
    pub(crate) step: usize,
    pub(crate) balanced_accuracy: Spread,
    pub(crate) auroc: Option<Spread>,
}

impl Route {
    /// Cross-validates at every step; the samples of a prompt stay together, and all routes get the same folds.
    ///
    /// # Errors
    /// If a value is not a number, or the solver gives up. Too few prompts are no error.
    pub(super) fn work(&self, settings: &Settings) -> Result<RouteResult> {
        let width = self.steps.first().map_or(0, |(_, rows)| rows.width);
        let mut result = RouteResult { name: self.name.clone(), features: width, steps: vec![], obstacle: None };
        for (step, rows) in &self.steps {
            let labels: Vec<usize> = rows.positive.iter().map(|positive| usize::from(*positive)).collect();
            let folds = Folds::stratified(&labels, Some(&rows.cluster), settings.folds, settings.seed);
            let probed =
                folds.and_then(|folds| cross_validate(rows.features(), &labels, &folds, Probe::Logistic { c: C }));
            match probed {
                Ok(report) => result.steps.push(RouteStep {
                    step: *step,
                    balanced_accuracy: report.balanced_accuracy,
                    auroc: report.auroc,
                }),
                Err(error @ (ProbeError::OneClass | ProbeError::TooFew { .. } | ProbeError::Fold { .. })) => {
                    result.obstacle = Some(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(result)
    }
}
