//! What `tonoscope probe-activations` says: a table, a CSV file, JSON.

use std::{io::Write, path::PathBuf};

use anyhow::Result;
use serde::Serialize;
use tonoscope_core::{
    hooks::{Branch, Reduce},
    probes::{Probe, Spread},
};

/// Settings and results.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    #[serde(serialize_with = "crate::json_path::one")]
    pub(super) capture: PathBuf,
    /// Checksum of the capture.
    pub(super) sha256: String,
    /// `None`: labels came from concepts.
    #[serde(serialize_with = "crate::json_path::optional")]
    pub(super) labels: Option<PathBuf>,
    pub(super) branch: Branch,
    pub(super) probe: Probe,
    pub(super) folds: usize,
    pub(super) seed: u64,
    pub(super) rows: usize,
    /// Different prompts that the rows come from.
    pub(super) prompts: usize,
    pub(super) per_frame: bool,
    /// Names of the classes and their rows.
    pub(super) classes: Vec<(String, usize)>,
    pub(super) points: Vec<PointReport>,
}

/// What can be read off one point.
#[derive(Debug, Serialize)]
pub(super) struct PointReport {
    pub(super) point: String,
    pub(super) part: String,
    pub(super) layer: Option<usize>,
    pub(super) site: String,
    pub(super) reduce: Reduce,
    pub(super) features: usize,
    pub(super) balanced_accuracy: Spread,
    /// `None`: no fold holds all classes.
    pub(super) auroc: Option<Spread>,
    /// Share of all rows, each predicted by the probe that did not see it.
    pub(super) accuracy: f64,
    pub(super) baseline_class: String,
    pub(super) baseline_accuracy: f64,
    pub(super) baseline_balanced_accuracy: f64,
}

impl Report {
    /// A row per point.
    pub(super) fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record([
            "point",
            "part",
            "layer",
            "site",
            "rows",
            "prompts",
            "features",
            "classes",
            "balanced_accuracy",
            "balanced_accuracy_sd",
            "auroc",
            "auroc_sd",
            "accuracy",
            "baseline_class",
            "baseline_accuracy",
            "baseline_balanced_accuracy",
        ])?;
        for row in &self.points {
            let auroc = |of: fn(Spread) -> f64| row.auroc.map_or(String::new(), |auroc| of(auroc).to_string());
            writer.write_record([
                row.point.clone(),
                row.part.clone(),
                row.layer.map_or(String::new(), |layer| layer.to_string()),
                row.site.clone(),
                self.rows.to_string(),
                self.prompts.to_string(),
                row.features.to_string(),
                self.classes.len().to_string(),
                row.balanced_accuracy.mean.to_string(),
                row.balanced_accuracy.deviation.to_string(),
                auroc(|auroc| auroc.mean),
                auroc(|auroc| auroc.deviation),
                row.accuracy.to_string(),
                row.baseline_class.clone(),
                row.baseline_accuracy.to_string(),
                row.baseline_balanced_accuracy.to_string(),
            ])?;
        }
        Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
    }

    /// The table, under what it is about.
    pub(super) fn print(&self, out: &mut dyn Write) -> Result<()> {
        let classes: Vec<String> = self.classes.iter().map(|(name, rows)| format!("{name} ({rows})")).collect();
        let what = if self.per_frame { "frames" } else { "rows" };
        writeln!(out, "{} {what} of {} different prompts; {}", self.rows, self.prompts, classes.join(", "))?;
        let probe = match self.probe {
            Probe::Logistic { c } => format!("logistic, c {c}"),
            Probe::Ridge { alpha } => format!("ridge, alpha {alpha}"),
        };
        let branch = match self.branch {
            Branch::Cond => "conditional",
            Branch::Uncond => "unconditional",
        };
        writeln!(out, "{probe}; {} folds, seed {}; {branch} branch; mean ± standard deviation", self.folds, self.seed)?;
        let width = self.points.iter().map(|row| row.point.len()).max().unwrap_or(0).max("majority baseline".len());
        writeln!(out, "{:<width$}  balanced accuracy  AUROC          accuracy", "")?;
        if let Some(row) = self.points.first() {
            let (balanced, accuracy) = (row.baseline_balanced_accuracy, row.baseline_accuracy);
            writeln!(out, "{:<width$}  {balanced:<17.3}  {:<13.3}  {accuracy:.3}", "majority baseline", 0.5)?;
        }
        for row in &self.points {
            let balanced = spread(row.balanced_accuracy);
            let auroc = row.auroc.map_or("-".to_owned(), spread);
            writeln!(out, "{:<width$}  {balanced:<17}  {auroc:<13}  {:.3}", row.point, row.accuracy)?;
        }
        Ok(())
    }
}

fn spread(of: Spread) -> String {
    format!("{:.3} ± {:.3}", of.mean, of.deviation)
}
