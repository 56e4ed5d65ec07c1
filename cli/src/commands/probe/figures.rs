//! Figures of finished units.

use anyhow::Result;
use tonoscope_core::metrics::Interval;

use super::{
    plan::{Classifier, Frames, ProbePlan},
    plane::{Plane, cells},
    results::{Finished, SummaryRow},
    unit::{ClassifierResult, ConceptUnit, Judged},
};
use crate::{
    figures::{
        LinePlot, Panel, PointKind, ReferenceLine, RegionGroup, RegionPanel, RegionPlot, Series, distinct,
        write_animation,
    },
    files::OutputFolder,
    progress,
};

/// A picture of the animation is shown for so long.
const MILLISECONDS: u16 = 500;
/// Routes that one figure can show.
const ROUTES: usize = 12;

const STEP: &str = "diffusion step";

/// Draws everything that there is.
pub(super) fn write(finished: &Finished<'_>, summary: &[SummaryRow], folder: &OutputFolder) -> Result<()> {
    let bar = progress::steps(finished.concepts.len() as u64, "drawing", "concepts");
    for (name, unit) in &finished.concepts {
        trajectory(name, unit, folder)?;
        if let Some(plane) = &unit.plane {
            planes(name, plane, finished.plan.settings.frames, folder)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !summary.is_empty() {
        draw_summary(finished, summary, folder)?;
    }
    if !finished.distances.is_empty() {
        draw_distances(finished, folder)?;
    }
    routes(finished, folder)
}

/// A score and its interval, where they are defined.
type Number = (Option<f64>, Option<Interval>);

/// Accuracy and rates over the steps.
fn trajectory(name: &str, unit: &ConceptUnit, folder: &OutputFolder) -> Result<()> {
    let with_steps: Vec<&ClassifierResult> = unit.classifiers.iter().filter(|of| !of.steps.is_empty()).collect();
    let any = |of: &&ClassifierResult| of.steps.iter().any(|(_, judged)| judged.scores.accuracy.is_some());
    if !with_steps.iter().any(any) {
        return Ok(());
    }
    let series = |of: &ClassifierResult, name: &str, value: &dyn Fn(&Judged) -> Number| Series {
        name: name.to_owned(),
        points: of.steps.iter().map(|(step, judged)| point(*step, value(judged))).collect(),
    };
    let panel = |of: &&ClassifierResult| Panel {
        title: of.classifier.title().to_owned(),
        series: vec![
            series(of, "accuracy", &|judged| (judged.scores.accuracy, judged.intervals.accuracy)),
            series(of, "true positive rate", &|judged| (judged.scores.tpr, judged.intervals.tpr)),
            series(of, "true negative rate", &|judged| (judged.scores.tnr, judged.intervals.tnr)),
        ],
    };
    let line =
        |name: &str, value: Option<f64>| ReferenceLine { name: name.to_owned(), value: value.unwrap_or(f64::NAN) };
    let lines = |of: &&ClassifierResult| {
        let baseline = of.steps.last().and_then(|(_, judged)| judged.baseline);
        vec![
            line("notes, training", of.train.scores.accuracy),
            line("notes, test", of.test.scores.accuracy),
            line("majority baseline", baseline),
        ]
    };
    let (positives, negatives) = with_steps[0].steps.last().map_or((0, 0), |(_, of)| (of.positives, of.negatives));
    let plot = LinePlot {
        name: format!("trajectory_{name}"),
        caption: format!(
            "How well classifiers of notes tell `{name}` in what was generated, over the steps of the diffusion: accuracy, \
             true positive and true negative rate on {positives} positive and {negatives} negative sounds, with 95 % \
             bootstrap intervals that draw whole prompts. Level lines: accuracy on the notes that were learnt from and on \
             those that were not, and what always answering the more frequent class achieves."
        ),
        x_label: STEP.to_owned(),
        y_label: "share of sounds".to_owned(),
        panels: with_steps.iter().map(panel).collect(),
        y_from_zero: true,
        reference_lines: vec![],
    };
    plot.draw_with(&with_steps.iter().map(lines).collect::<Vec<_>>())?.write(folder.path())
}

fn point(step: usize, (value, interval): Number) -> (f64, f64, Option<(f64, f64)>) {
    (step as f64, value.unwrap_or(f64::NAN), interval.and_then(|of| of.ends()))
}

/// The plane at every step, as pictures and as an animation; without steps the notes alone.
fn planes(name: &str, plane: &Plane, frames: Frames, folder: &OutputFolder) -> Result<()> {
    if frames == Frames::None {
        return Ok(());
    }
    let plots: Vec<RegionPlot> = match plane.generated.len() {
        0 => vec![region(name, plane, None)],
        count => (0..count).map(|index| region(name, plane, Some(index))).collect(),
    };
    let first = if frames == Frames::All { 0 } else { plots.len() - 1 };
    for plot in &plots[first..] {
        plot.draw()?.write(folder.path())?;
    }
    if plots.len() > 1 {
        write_animation(&format!("pca_{name}"), &RegionPlot::animate(&plots, MILLISECONDS)?, folder.path())?;
    }
    Ok(())
}

fn region(name: &str, plane: &Plane, index: Option<usize>) -> RegionPlot {
    let generated = index.map(|index| &plane.generated[index]);
    let group = |name: &str, kind, places: &[[f32; 2]]| RegionGroup {
        name: name.to_owned(),
        kind,
        points: places.iter().map(|[x, y]| (f64::from(*x), f64::from(*y))).collect(),
    };
    let mut groups = vec![
        group("other notes", PointKind::Negative, &plane.notes[1]),
        group("notes of the concept", PointKind::Positive, &plane.notes[0]),
    ];
    groups.extend(generated.map(|(_, places)| group("generated with the concept", PointKind::Followed, places)));
    let at = generated.map_or(String::new(), |(step, _)| format!(", step {step}"));
    let panel = |(classifier, rows): &(Classifier, Vec<Vec<usize>>)| RegionPanel {
        title: format!("{}{at}", classifier.title()),
        positive: rows.iter().map(|runs| cells(runs)).collect(),
    };
    let label = |axis: usize| format!("component {} ({:.0} % of variance)", axis + 1, plane.share[axis] * 100.0);
    RegionPlot {
        name: generated.map_or(format!("pca_{name}"), |(step, _)| format!("pca_{name}_step_{step:02}")),
        caption: format!(
            "The plane of the two principal components of the notes of `{name}`{at}: where classifiers decide for the \
             concept, with the mean of the notes in all other directions; notes of both classes, and what was generated from \
             prompts with the concept; at most 300 of each, the same at every step."
        ),
        x_label: label(0),
        y_label: label(1),
        x: plane.ends[0],
        y: plane.ends[1],
        panels: plane.regions.iter().map(panel).collect(),
        groups,
    }
}

/// Mean balanced accuracy over the concepts.
fn draw_summary(finished: &Finished<'_>, summary: &[SummaryRow], folder: &OutputFolder) -> Result<()> {
    let series = |classifier: &Classifier| Series {
        name: "mean of the concepts".to_owned(),
        points: summary
            .iter()
            .filter(|row| row.class_model_type == classifier.name())
            .map(|row| (row.diff_step as f64, row.balanced_acc, row.balanced_acc_low.zip(row.balanced_acc_high)))
            .collect(),
    };
    let classifiers = &finished.plan.settings.classifiers;
    let panel =
        |classifier: &Classifier| Panel { title: classifier.title().to_owned(), series: vec![series(classifier)] };
    let notes = |classifier: &Classifier| {
        vec![ReferenceLine { name: "notes, test".to_owned(), value: finished.mean_test_accuracy(*classifier) }]
    };
    let chance = ReferenceLine { name: "chance".to_owned(), value: 0.5 };
    let concepts = summary.iter().map(|row| row.concepts).max().unwrap_or(0);
    let plot = LinePlot {
        name: "summary".to_owned(),
        caption: format!(
            "Balanced accuracy of classifiers of notes on what was generated, over the steps of the diffusion: mean of \
             {concepts} concepts, with 95 % bootstrap intervals over the concepts. Level lines: mean accuracy on notes that \
             were not learnt from, whose classes are of one size."
        ),
        x_label: STEP.to_owned(),
        y_label: "balanced accuracy".to_owned(),
        panels: classifiers.iter().map(panel).collect(),
        y_from_zero: false,
        reference_lines: vec![chance],
    };
    plot.draw_with(&classifiers.iter().map(notes).collect::<Vec<_>>())?.write(folder.path())
}

/// All three distances on one axis, each over its largest.
fn draw_distances(finished: &Finished<'_>, folder: &OutputFolder) -> Result<()> {
    let series = |name: &str, of: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = (0..finished.distances.len()).map(of).collect();
        let largest = values.iter().copied().fold(0.0, f64::max);
        let by = if largest > 0.0 { largest } else { 1.0 };
        let places = finished.distances.iter().zip(&values);
        Series {
            name: format!("{name} (largest {})", significant(largest)),
            points: places.map(|(pair, value)| (pair.to_step as f64, value / by, None)).collect(),
        }
    };
    let distances = &finished.distances;
    let plot = LinePlot {
        name: "distances".to_owned(),
        caption: "How far the embeddings of all sounds are from those of the snapshot before, as whole tensors: sum of \
                  absolute differences (L1), Euclidean distance (L2), and 1 less the cosine; each over its largest value."
            .to_owned(),
        x_label: STEP.to_owned(),
        y_label: "distance from the step before, over the largest".to_owned(),
        panels: vec![Panel {
            title: String::new(),
            series: vec![
                series("L1", &|index| distances[index].l1),
                series("L2", &|index| distances[index].l2),
                series("cosine", &|index| distances[index].cosine),
            ],
        }],
        y_from_zero: true,
        reference_lines: vec![],
    };
    plot.draw()?.write(folder.path())
}

/// Three digits.
fn significant(value: f64) -> String {
    let digits = if value > 0.0 { 2 - value.log10().floor() as i32 } else { 0 };
    format!("{value:.*}", digits.clamp(0, 8) as usize)
}

/// Every way to tell a concept, mean over the concepts.
fn routes(finished: &Finished<'_>, folder: &OutputFolder) -> Result<()> {
    let all = || finished.concepts.iter().flat_map(|(_, unit)| &unit.routes);
    let names = distinct(finished.plan.routes.iter().map(String::as_str));
    if !all().any(|route| !route.steps.is_empty()) {
        return Ok(());
    }
    if names.len() > ROUTES {
        progress::note(&format!("the figure shows the first {ROUTES} of {} routes; `routes.csv` has all", names.len()));
    }
    let concepts = |name: &str| all().filter(|route| route.name == name && !route.steps.is_empty()).count();
    let series = |name: &&str| {
        let mut by_step: std::collections::BTreeMap<usize, Vec<f64>> = std::collections::BTreeMap::new();
        for step in all().filter(|route| route.name == *name).flat_map(|route| &route.steps) {
            by_step.entry(step.step).or_default().push(step.balanced_accuracy.mean);
        }
        let points = by_step.into_iter().map(|(step, values)| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let interval = tonoscope_core::metrics::mean_interval(&values, 0.95, 2000, 0);
            (step as f64, mean, interval.and_then(|of| of.ends()))
        });
        Series { name: (*name).to_owned(), points: points.collect() }
    };
    let most = names.iter().map(|name| concepts(name)).max().unwrap_or(0);
    let ProbePlan { settings, .. } = finished.plan;
    let plot = LinePlot {
        name: "routes".to_owned(),
        caption: format!(
            "How well a concept of the prompt can be told by a linear probe, over the steps of the diffusion: from \
             embeddings of the sound, and from the trajectory itself, without decoding. Balanced accuracy of a logistic \
             regression on standardised features, cross-validated in {} parts that keep prompts together; mean of {most} \
             concepts, with 95 % bootstrap intervals over the concepts.",
            settings.folds
        ),
        x_label: STEP.to_owned(),
        y_label: "balanced accuracy".to_owned(),
        panels: vec![Panel { title: String::new(), series: names.iter().take(ROUTES).map(series).collect() }],
        y_from_zero: false,
        reference_lines: vec![ReferenceLine { name: "chance".to_owned(), value: 0.5 }],
    };
    plot.draw()?.write(folder.path())
}
