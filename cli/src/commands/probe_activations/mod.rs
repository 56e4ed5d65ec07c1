//! `tonoscope probe-activations`

mod capture;
#[cfg(test)]
mod fuzz;
mod labels;
mod report;

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use tonoscope_core::{
    hooks::{Branch, CaptureName, Selector},
    metrics::accuracy,
    probes::{Features, Folds, LinearProbe, Probe, ProbeError, ProbeReport, cross_validate},
    readout::Readout,
};

use self::{
    capture::{CaptureFile, CapturedPoint},
    labels::Labelled,
    report::{PointReport, Report},
};
use super::concept_args::ConceptChoice;
use crate::{
    failure::{Failed, Misuse},
    files::{Inputs, OutputFolder},
    interrupt::{self, Interrupted},
    progress,
    session::sha256,
};

/// Find out what can be read off captured activations
///
/// Fits a linear probe on every point of a file that `generate --capture` wrote, cross-validated and beside the majority
/// baseline. Features are standardised within each fold; rows of prompts with the same text stay in one fold. With one
/// label per prompt its features are the mean over its steps (of the text encoder, over its padding too).
#[derive(Debug, clap::Args)]
pub(crate) struct ProbeActivationsArgs {
    /// The file, `capture.safetensors`
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    /// CSV file with a column `label` (a row per prompt), or columns `prompt_index,label` or `prompt_index,step,label`
    #[arg(long, value_name = "FILE", required_unless_present = "concepts", conflicts_with = "concepts")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    concepts: ConceptChoice,
    /// Points to probe, such as `decoder.*.resid_post` [default: all that were captured]
    #[arg(long, value_name = "POINTS", value_delimiter = ',', value_parser = str::parse::<Selector>)]
    points: Vec<Selector>,
    /// Half of the guidance batch
    #[arg(long, value_enum, default_value_t = BranchName::Cond)]
    branch: BranchName,
    /// Kind of probe
    #[arg(long, value_enum, default_value_t = Kind::Logistic)]
    probe: Kind,
    /// Inverse strength of the regularisation of `logistic`, as scikit-learn's `C` [default: 1]
    #[arg(long, value_name = "C")]
    c: Option<f64>,
    /// Strength of the regularisation of `ridge`, as scikit-learn's `alpha` [default: 1]
    #[arg(long, value_name = "ALPHA")]
    alpha: Option<f64>,
    /// Parts that are left out in turn, to be tested on
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// Seed of the division into folds
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for `probes.csv`, `probes.json`, and the probes, fitted on all rows: `probes.safetensors`
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Logistic,
    Ridge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BranchName {
    Cond,
    Uncond,
}

/// What is written: fitted probes, and how right they are.
const PROBES: &str = "probes.safetensors";
const TABLE: &str = "probes.csv";
const REPORT: &str = "probes.json";

pub(crate) fn run(args: &ProbeActivationsArgs, out: &mut dyn Write) -> Result<()> {
    let probe = args.probe()?;
    if args.folds < 2 {
        return Err(Misuse::new(format!("{} folds, expected 2 or more", args.folds)).into());
    }
    interrupt::listen();
    let capture = CaptureFile::open(&args.capture)?;
    let labelled = args.label(&capture.prompts)?;
    let branch = match args.branch.into() {
        Branch::Cond => 0,
        Branch::Uncond => 1,
    };
    let points = args.choose(&capture, labelled.per_frame(), branch)?;
    let folds = Folds::stratified(&labelled.labels, Some(&labelled.groups), args.folds, args.seed)
        .map_err(|error| explained(error, &labelled))?;
    let inputs = Inputs::new([&args.capture].into_iter().chain(&args.labels));
    let folder = args.out.as_deref().map(|path| OutputFolder::begin(path, &inputs)).transpose()?;
    if let Some(folder) = &folder {
        folder.refuse_inputs([PROBES, TABLE, REPORT])?;
    }
    let bar = progress::steps(points.len() as u64, "probing", "points");
    let (mut reports, mut fitted) = (vec![], BTreeMap::new());
    for point in points {
        let features = capture.features(point, branch, &labelled.rows)?;
        let features = Features::new(&features, point.width());
        let at_point = |error| anyhow::Error::context(explained(error, &labelled), format!("`{}`", point.name));
        let found = cross_validate(features, &labelled.labels, &folds, probe).map_err(at_point)?;
        reports.push(report_of(point, &found, &labelled));
        if folder.is_some() {
            let name = CaptureName { point: point.point, reduce: point.reduce };
            fitted.insert(name, LinearProbe::fit(features, &labelled.labels, probe).map_err(at_point)?);
        }
        bar.inc(1);
        if interrupt::asked() {
            anyhow::bail!(Interrupted::NothingWritten);
        }
    }
    bar.finish_and_clear();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        capture: args.capture.clone(),
        sha256: sha256(&args.capture)?,
        labels: args.labels.clone(),
        branch: args.branch.into(),
        probe,
        folds: args.folds,
        seed: args.seed,
        rows: labelled.rows.len(),
        prompts: labelled.independent(),
        per_frame: labelled.per_frame(),
        classes: labelled.classes.iter().cloned().zip(labelled.counts()).collect(),
        points: reports,
    };
    let text = serde_json::to_string_pretty(&report)?;
    if let Some(folder) = folder {
        let readout = Readout {
            labels: labelled.classes.clone(),
            branch: args.branch.into(),
            per_frame: labelled.per_frame(),
            rows: labelled.rows.len(),
            probes: fitted,
        };
        folder.write(PROBES, &readout.to_bytes()?)?;
        folder.write(TABLE, &report.csv()?)?;
        folder.write(REPORT, text.as_bytes())?;
    }
    if args.json { Ok(writeln!(out, "{text}")?) } else { report.print(out) }
}

impl ProbeActivationsArgs {
    fn probe(&self) -> Result<Probe, Misuse> {
        let (probe, strength, of_other) = match self.probe {
            Kind::Logistic => {
                let c = self.c.unwrap_or(1.0);
                (Probe::Logistic { c }, c, self.alpha.map(|_| "`--alpha` is for `--probe ridge`"))
            }
            Kind::Ridge => {
                let alpha = self.alpha.unwrap_or(1.0);
                (Probe::Ridge { alpha }, alpha, self.c.map(|_| "`--c` is for `--probe logistic`"))
            }
        };
        if let Some(what) = of_other {
            return Err(Misuse::new(what));
        }
        if !(strength > 0.0 && strength.is_finite()) {
            return Err(Misuse::new(format!("a regularisation of {strength}, expected a positive number")));
        }
        Ok(probe)
    }

    fn label(&self, prompts: &[String]) -> Result<Labelled> {
        let labelled = if let Some(path) = &self.labels {
            Labelled::from_csv(path, prompts)?
        } else {
            let set = self.concepts.set()?;
            Labelled::from_concepts(&self.concepts.chosen(&set)?, prompts)?
        };
        let of_prompts: std::collections::BTreeSet<usize> = labelled.rows.iter().map(|row| row.prompt).collect();
        if of_prompts.is_empty() {
            let what = format!("none of the {} prompts of the capture has a label", prompts.len());
            return Err(Failed::new(what, "give labels, or concepts that the prompts are about").into());
        }
        if of_prompts.len() < prompts.len() {
            let left = prompts.len() - of_prompts.len();
            progress::note(&format!("{left} of {} prompts have no label and are left out", prompts.len()));
        }
        Ok(labelled)
    }

    /// The captured points that are asked for and can be probed; says which cannot.
    fn choose<'a>(&self, capture: &'a CaptureFile, per_frame: bool, branch: usize) -> Result<Vec<&'a CapturedPoint>> {
        let known: Vec<_> = capture.points.iter().map(|captured| captured.point).collect();
        for selector in &self.points {
            selector.expand(&known).context("not captured")?;
        }
        let asked = |captured: &&CapturedPoint| {
            self.points.is_empty() || self.points.iter().any(|selector| selector.matches(&captured.point))
        };
        let (mut usable, mut obstacles) = (vec![], vec![]);
        for captured in capture.points.iter().filter(asked) {
            match captured.obstacle(per_frame, branch) {
                None => usable.push(captured),
                Some(obstacle) => obstacles.push(format!("`{}` cannot be probed: {obstacle}", captured.name)),
            }
        }
        if usable.is_empty() {
            let what = obstacles.into_iter().next().unwrap_or_else(|| "the capture is empty".to_owned());
            return Err(Failed::new(what, "capture it anew, for example `--capture 'decoder.*.resid_post'`").into());
        }
        for obstacle in &obstacles {
            progress::note(obstacle);
        }
        Ok(usable)
    }
}

fn report_of(point: &CapturedPoint, found: &ProbeReport, labelled: &Labelled) -> PointReport {
    PointReport {
        point: point.name.clone(),
        part: point.point.component.to_string(),
        layer: point.point.layer,
        site: point.point.site.to_string(),
        reduce: point.reduce,
        features: point.width(),
        balanced_accuracy: found.balanced_accuracy,
        auroc: found.auroc,
        accuracy: accuracy(&labelled.labels, &found.predicted).unwrap_or(f64::NAN),
        baseline_class: labelled.classes[found.baseline.class].clone(),
        baseline_accuracy: found.baseline.accuracy,
        baseline_balanced_accuracy: found.baseline.balanced_accuracy,
    }
}

/// In the words of the labels, with advice.
fn explained(error: ProbeError, labelled: &Labelled) -> anyhow::Error {
    let (what, hint) = match error {
        ProbeError::OneClass => (error.to_string(), "label two classes or more"),
        ProbeError::TooFew { class, found, folds } => (
            format!("class `{}` has {found} different prompts, {folds} folds need as many", labelled.classes[class]),
            "pass fewer `--folds`, or generate more prompts of this class",
        ),
        ProbeError::Fold { .. } => (error.to_string(), "try another `--seed` or fewer `--folds`"),
        ProbeError::NotFinite { row, feature } => {
            let at = labelled.rows[row];
            let step = at.step.map_or(String::new(), |step| format!(", step {step}"));
            let what = format!("feature {feature} of prompt {}{step} is not a number", at.prompt);
            (what, "the run that was captured went wrong, or its file is damaged: capture it anew")
        }
        other => return other.into(),
    };
    Failed::new(what, hint).into()
}

impl From<BranchName> for Branch {
    fn from(name: BranchName) -> Self {
        match name {
            BranchName::Cond => Self::Cond,
            BranchName::Uncond => Self::Uncond,
        }
    }
}
