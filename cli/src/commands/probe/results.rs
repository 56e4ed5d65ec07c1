//! Tables and figures of finished units.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tonoscope_core::metrics::{BinaryScores, Interval, mean_interval};

use super::{
    distances::StepDistance,
    figures,
    plan::{Classifier, ProbePlan},
    unit::{ClassifierResult, ConceptUnit, Judged},
};
use crate::{files::OutputFolder, json_path, tables::Table, units::Units};

/// Draws and seed of intervals over concepts.
const BOOTSTRAP: (usize, u64) = (2000, 0);

/// All finished units.
pub(super) struct Finished<'a> {
    pub(super) plan: &'a ProbePlan,
    /// In the order of the plan.
    pub(super) concepts: Vec<(&'a str, ConceptUnit)>,
    pub(super) distances: Vec<StepDistance>,
}

/// One classifier of one concept at one step. The first eleven fields are those of published results.
#[derive(Debug, Serialize)]
struct ResultRow<'a> {
    concept: &'a str,
    diff_step: usize,
    pos_gen_audio_samples: usize,
    neg_gen_audio_samples: usize,
    embed_model: &'a str,
    class_model_type: &'static str,
    class_model_train_acc: Option<f64>,
    class_model_test_acc: Option<f64>,
    acc: Option<f64>,
    tpr: Option<f64>,
    tnr: Option<f64>,
    balanced_acc: Option<f64>,
    auroc: Option<f64>,
    majority_baseline: Option<f64>,
    acc_low: Option<f64>,
    acc_high: Option<f64>,
    balanced_acc_low: Option<f64>,
    balanced_acc_high: Option<f64>,
    auroc_low: Option<f64>,
    auroc_high: Option<f64>,
}

/// One classifier of one concept on the notes.
#[derive(Debug, Serialize)]
struct NotesRow<'a> {
    concept: &'a str,
    class_model_type: &'static str,
    part: &'static str,
    positives: usize,
    negatives: usize,
    acc: Option<f64>,
    acc_low: Option<f64>,
    acc_high: Option<f64>,
    balanced_acc: Option<f64>,
    auroc: Option<f64>,
    majority_baseline: Option<f64>,
    support_vectors: Option<usize>,
}

/// One classifier at one step, over the concepts.
#[derive(Debug, Serialize)]
pub(super) struct SummaryRow {
    pub(super) class_model_type: &'static str,
    pub(super) diff_step: usize,
    pub(super) concepts: usize,
    pub(super) acc: f64,
    pub(super) majority_baseline: f64,
    pub(super) concepts_above_baseline: usize,
    pub(super) balanced_acc: f64,
    /// `None` of one concept.
    pub(super) balanced_acc_low: Option<f64>,
    pub(super) balanced_acc_high: Option<f64>,
    pub(super) auroc: f64,
}

/// One way to tell one concept at one step.
#[derive(Debug, Serialize)]
struct RouteRow<'a> {
    concept: &'a str,
    route: &'a str,
    features: usize,
    step: usize,
    balanced_acc: f64,
    balanced_acc_sd: f64,
    auroc: Option<f64>,
    auroc_sd: Option<f64>,
}

impl<'a> Finished<'a> {
    fn read(plan: &'a ProbePlan, units: &Units) -> Result<Self> {
        let damaged = |name: &str| format!("the unit `{name}` is damaged: remove it, and run the command again");
        let read = |name: &str| -> Result<ConceptUnit> {
            serde_json::from_slice(&units.read(name)?).with_context(|| damaged(name))
        };
        let concepts = plan.concepts.iter().map(|concept| Ok((concept.name.as_str(), read(&concept.name)?)));
        let distances = if plan.distances {
            serde_json::from_slice(&units.read(ProbePlan::DISTANCES)?).with_context(|| damaged(ProbePlan::DISTANCES))?
        } else {
            vec![]
        };
        Ok(Self { plan, concepts: concepts.collect::<Result<_>>()?, distances })
    }

    /// Every classifier with its concept.
    fn classifiers(&self) -> impl Iterator<Item = (&'a str, &ClassifierResult)> {
        self.concepts.iter().flat_map(|(name, unit)| unit.classifiers.iter().map(|of| (*name, of)))
    }

    fn rows(&self) -> impl Iterator<Item = ResultRow<'_>> {
        self.classifiers().flat_map(move |(concept, of)| {
            of.steps.iter().map(move |(step, judged)| self.row(concept, of, *step, judged))
        })
    }

    fn row(&self, concept: &'a str, of: &ClassifierResult, step: usize, judged: &Judged) -> ResultRow<'_> {
        let BinaryScores { accuracy, tpr, tnr, balanced_accuracy, auroc } = judged.scores;
        let ends = |interval: Option<Interval>| (interval.and_then(|of| of.low), interval.and_then(|of| of.high));
        let (acc_low, acc_high) = ends(judged.intervals.accuracy);
        let (balanced_acc_low, balanced_acc_high) = ends(judged.intervals.balanced_accuracy);
        let (auroc_low, auroc_high) = ends(judged.intervals.auroc);
        ResultRow {
            concept,
            diff_step: step,
            pos_gen_audio_samples: judged.positives,
            neg_gen_audio_samples: judged.negatives,
            embed_model: &self.plan.embed_model,
            class_model_type: of.classifier.name(),
            class_model_train_acc: of.train.scores.accuracy,
            class_model_test_acc: of.test.scores.accuracy,
            acc: accuracy,
            tpr,
            tnr,
            balanced_acc: balanced_accuracy,
            auroc,
            majority_baseline: judged.baseline,
            acc_low,
            acc_high,
            balanced_acc_low,
            balanced_acc_high,
            auroc_low,
            auroc_high,
        }
    }

    /// Means over the concepts for which balanced accuracy is defined.
    pub(super) fn summary(&self) -> Vec<SummaryRow> {
        let mut summary = vec![];
        for &classifier in &self.plan.settings.classifiers {
            for &step in &self.plan.steps {
                let of_concept = |(_, of): (&str, &'_ ClassifierResult)| -> Option<[f64; 4]> {
                    let (_, judged) = of.steps.iter().find(|(other, _)| *other == step)?;
                    let scores = judged.scores;
                    Some([scores.accuracy?, judged.baseline?, scores.balanced_accuracy?, scores.auroc?])
                };
                let found: Vec<[f64; 4]> =
                    self.classifiers().filter(|(_, of)| of.classifier == classifier).filter_map(of_concept).collect();
                let column = |index: usize| found.iter().map(|of| of[index]).collect::<Vec<f64>>();
                let mean = |index: usize| column(index).iter().sum::<f64>() / found.len() as f64;
                let Some(balanced) = mean_interval(&column(2), 0.95, BOOTSTRAP.0, BOOTSTRAP.1) else { continue };
                summary.push(SummaryRow {
                    class_model_type: classifier.name(),
                    diff_step: step,
                    concepts: found.len(),
                    acc: mean(0),
                    majority_baseline: mean(1),
                    concepts_above_baseline: found.iter().filter(|of| of[0] > of[1]).count(),
                    balanced_acc: balanced.mean,
                    balanced_acc_low: balanced.low,
                    balanced_acc_high: balanced.high,
                    auroc: mean(3),
                });
            }
        }
        summary
    }

    /// Mean accuracy on notes that were tested on.
    pub(super) fn mean_test_accuracy(&self, classifier: Classifier) -> f64 {
        let of = self.classifiers().filter(|(_, of)| of.classifier == classifier);
        let all: Vec<f64> = of.filter_map(|(_, of)| of.test.scores.accuracy).collect();
        all.iter().sum::<f64>() / all.len() as f64
    }
}

/// Writes everything, and says how it went.
pub(crate) fn finish(
    plan: &ProbePlan,
    units: &Units,
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    units.clear_half_written()?;
    let finished = Finished::read(plan, units)?;
    let rows: Vec<ResultRow<'_>> = finished.rows().collect();
    let mut by_concept: BTreeMap<&str, Vec<&ResultRow<'_>>> = BTreeMap::new();
    for row in &rows {
        by_concept.entry(row.concept).or_default().push(row);
    }
    folder.write("concept_results.json", &serde_json::to_vec_pretty(&by_concept)?)?;
    write_all(folder, "concept_results.csv", &rows)?;
    write_notes(&finished, folder)?;
    let summary = finished.summary();
    write_all(folder, "summary.csv", &summary)?;
    write_all(folder, "distances.csv", &finished.distances)?;
    write_routes(&finished, folder)?;
    let record = json!({"command": ProbePlan::COMMAND, "version": env!("CARGO_PKG_VERSION"), "plan": plan});
    folder.write("run.json", &serde_json::to_vec_pretty(&record)?)?;
    figures::write(&finished, &summary, folder)?;
    report(&finished, &summary, folder, as_json, out)
}

fn write_notes(finished: &Finished<'_>, folder: &OutputFolder) -> Result<()> {
    let mut table = Table::new();
    for (concept, of) in finished.classifiers() {
        for (part, judged) in [("train", &of.train), ("test", &of.test)] {
            table.push(NotesRow {
                concept,
                class_model_type: of.classifier.name(),
                part,
                positives: judged.positives,
                negatives: judged.negatives,
                acc: judged.scores.accuracy,
                acc_low: judged.intervals.accuracy.and_then(|of| of.low),
                acc_high: judged.intervals.accuracy.and_then(|of| of.high),
                balanced_acc: judged.scores.balanced_accuracy,
                auroc: judged.scores.auroc,
                majority_baseline: judged.baseline,
                support_vectors: of.support,
            })?;
        }
    }
    table.write(folder, "notes.csv")
}

fn write_routes(finished: &Finished<'_>, folder: &OutputFolder) -> Result<()> {
    let mut table = Table::new();
    for (concept, unit) in &finished.concepts {
        for route in &unit.routes {
            for step in &route.steps {
                table.push(RouteRow {
                    concept,
                    route: &route.name,
                    features: route.features,
                    step: step.step,
                    balanced_acc: step.balanced_accuracy.mean,
                    balanced_acc_sd: step.balanced_accuracy.deviation,
                    auroc: step.auroc.map(|of| of.mean),
                    auroc_sd: step.auroc.map(|of| of.deviation),
                })?;
            }
        }
    }
    table.write(folder, "routes.csv")
}

fn write_all<R: Serialize>(folder: &OutputFolder, name: &str, rows: &[R]) -> Result<()> {
    let mut table = Table::new();
    rows.iter().try_for_each(|row| table.push(row))?;
    table.write(folder, name)
}

/// One line per concept and classifier at the last step, then the means.
fn report(
    finished: &Finished<'_>,
    summary: &[SummaryRow],
    folder: &OutputFolder,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let obstacles: Vec<Value> = finished
        .plan
        .concepts
        .iter()
        .filter_map(|concept| Some(json!({"concept": concept.name, "obstacle": concept.obstacle.as_ref()?})))
        .collect();
    if as_json {
        let rows: Vec<ResultRow<'_>> = finished.rows().collect();
        let all = json!({"out": json_path::shown(folder.path()), "results": rows, "summary": summary, "without_classifiers": obstacles});
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let wide = finished.concepts.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(7);
    writeln!(
        out,
        "{:<wide$}  {:<8}  {:>10}  {:>4}  {:>8}  {:>8}  {:>8}  {:>22}  {:>6}",
        "concept", "", "notes test", "step", "samples", "accuracy", "baseline", "balanced accuracy", "AUROC"
    )?;
    for (name, of) in finished.classifiers() {
        let (step, judged) =
            of.steps.last().map_or(("-".to_owned(), None), |(step, judged)| (step.to_string(), Some(judged)));
        let balanced = judged.and_then(|of| of.intervals.balanced_accuracy);
        writeln!(
            out,
            "{name:<wide$}  {:<8}  {:>10}  {step:>4}  {:>8}  {:>8}  {:>8}  {:>22}  {:>6}",
            of.classifier.name(),
            shown(of.test.scores.accuracy),
            judged.map_or(0, |of| of.positives + of.negatives),
            shown(judged.and_then(|of| of.scores.accuracy)),
            shown(judged.and_then(|of| of.baseline)),
            balanced.map_or("-".to_owned(), |of| match of.ends() {
                Some((low, high)) => format!("{:.3} ({low:.3} to {high:.3})", of.mean),
                None => format!("{:.3}", of.mean),
            }),
            shown(judged.and_then(|of| of.scores.auroc)),
        )?;
    }
    for row in summary.iter().filter(|row| Some(&row.diff_step) == finished.plan.steps.last()) {
        writeln!(
            out,
            "{}, step {}, mean of {} concepts: accuracy {:.3}, baseline {:.3} ({} above it), balanced accuracy {:.3}, AUROC {:.3}",
            row.class_model_type,
            row.diff_step,
            row.concepts,
            row.acc,
            row.majority_baseline,
            row.concepts_above_baseline,
            row.balanced_acc,
            row.auroc
        )?;
    }
    for concept in &finished.plan.concepts {
        if let Some(obstacle) = &concept.obstacle {
            writeln!(out, "{}: no classifier: {obstacle}", concept.name)?;
        }
    }
    writeln!(out, "tables and figures are in `{}`", folder.path().display())?;
    Ok(())
}
