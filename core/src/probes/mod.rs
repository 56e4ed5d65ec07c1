//! Probes: how well a class can be read off activations by a linear model, and the classifiers of two classes that are
//! followed over a trajectory.
//!
//! [`cross_validate`] standardises features on the training part of every fold, and always says what the most frequent
//! class would achieve; [`LinearProbe::fit`] learns from all rows, for others to be read. [`LogisticRegression`],
//! [`SupportVectorMachine`] and [`Pca`] take features as they are, and their results are scikit-learn's. Not in the
//! browser: linfa's random numbers do not build there, and [`crate::readout`] is what a fitted probe needs.

mod fit;
mod folds;
mod logistic;
mod pca;
mod products;
mod split;
mod svm;

use serde::{Deserialize, Serialize};

pub use folds::Folds;
pub use logistic::LogisticRegression;
pub use pca::Pca;
pub use split::Split;
pub use svm::{Gamma, SupportVectorMachine, SvmSettings};

use crate::metrics::{Baseline, auroc, auroc_one_vs_rest, balanced_accuracy, majority_baseline};
pub use crate::readout::{LinearProbe, Probe};

/// A probe that cannot be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// As many labels or groups as rows are needed.
    #[error("{rows} rows of features, {found} {what}")]
    Lengths {
        /// Rows of features.
        rows: usize,
        /// Labels, groups or folds.
        what: &'static str,
        /// How many of them.
        found: usize,
    },
    /// Nothing to tell apart.
    #[error("all rows are of one class, a probe needs two")]
    OneClass,
    /// A fold would lack a class.
    #[error("class {class} has {found} independent rows or groups, {folds} folds need as many")]
    TooFew {
        /// The class.
        class: usize,
        /// Its groups.
        found: usize,
        /// Folds that were asked for.
        folds: usize,
    },
    /// A fold that is empty, or without which a class cannot be learnt.
    #[error("fold {fold} leaves nothing to test, or a class that cannot be learnt from the others")]
    Fold {
        /// Index of the fold.
        fold: usize,
    },
    /// A feature that is NaN or infinite.
    #[error("feature {feature} of row {row} is not a number")]
    NotFinite {
        /// The row.
        row: usize,
        /// The column.
        feature: usize,
    },
    /// A regularisation that is not positive.
    #[error("the strength of a probe must be positive, not {found}")]
    Strength {
        /// What was asked for.
        found: f64,
    },
    /// More principal components than there can be.
    #[error("{wanted} components of {rows} rows with {width} features")]
    Components {
        /// Rows.
        rows: usize,
        /// Features of each.
        width: usize,
        /// Components that were asked for.
        wanted: usize,
    },
    /// The solver gave up.
    #[error("the probe could not be fitted: {reason}")]
    Solver {
        /// What it said.
        reason: String,
    },
}

/// Activations, one row per prompt or frame.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    values: &'a [f32],
    width: usize,
}

/// A number over the folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over the folds.
    pub mean: f64,
    /// Standard deviation over the folds, with one degree of freedom taken off; 0 of one fold.
    pub deviation: f64,
}

/// What a probe achieves on data that it has not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Classes that occur, in ascending order.
    pub classes: Vec<usize>,
    /// Mean recall over the classes.
    pub balanced_accuracy: Spread,
    /// Area under the ROC curve, of more than two classes one against the rest; over the folds that hold all classes,
    /// `None` if there is none.
    pub auroc: Option<Spread>,
    /// What always answering the most frequent class achieves.
    pub baseline: Baseline,
    /// Predicted class of every row, by the probe that did not see it.
    pub predicted: Vec<usize>,
}

impl<'a> Features<'a> {
    /// `values`: row-major, `width` per row.
    ///
    /// # Panics
    /// If `width` is 0 or does not divide the values.
    pub fn new(values: &'a [f32], width: usize) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
        Self { values, width }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Number of features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values of some rows.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| self.row(*row)).copied().collect()
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    fn check_finite(&self) -> Result<(), ProbeError> {
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(ProbeError::NotFinite { row: at / self.width, feature: at % self.width }),
            None => Ok(()),
        }
    }
}

/// A label per row, of both kinds, and numbers alone.
fn check_two_classes(features: Features<'_>, positive: &[bool]) -> Result<(), ProbeError> {
    let rows = features.rows();
    if positive.len() != rows {
        return Err(ProbeError::Lengths { rows, what: "labels", found: positive.len() });
    }
    features.check_finite()?;
    if positive.iter().all(|label| *label == positive[0]) { Err(ProbeError::OneClass) } else { Ok(()) }
}

/// Fits a probe on all folds but one and tests it on that one, for every fold.
///
/// # Errors
/// [`ProbeError`] if the labels do not fit the rows, a value is not a number, or the solver gives up.
pub fn cross_validate(
    features: Features<'_>,
    labels: &[usize],
    folds: &Folds,
    probe: Probe,
) -> Result<ProbeReport, ProbeError> {
    let rows = features.rows();
    for (what, found) in [("labels", labels.len()), ("fold numbers", folds.rows())] {
        if found != rows {
            return Err(ProbeError::Lengths { rows, what, found });
        }
    }
    features.check_finite()?;
    let classes = classes_of(labels);
    let baseline = majority_baseline(labels).filter(|_| classes.len() > 1).ok_or(ProbeError::OneClass)?;
    let dense: Vec<usize> = labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
    let mut predicted = vec![0; rows];
    let (mut accuracies, mut areas) = (Vec::new(), Vec::new());
    for fold in 0..folds.count() {
        let (train, test) = folds.split(fold);
        let of = |rows: &[usize]| rows.iter().map(|row| dense[*row]).collect::<Vec<usize>>();
        let (train_labels, test_labels) = (of(&train), of(&test));
        if test.is_empty() || classes_of(&train_labels).len() < classes.len() {
            return Err(ProbeError::Fold { fold });
        }
        let scores = fit::scores(features, &train, &train_labels, &test, classes.len(), probe)?;
        let guesses: Vec<usize> = scores.iter().map(|row| largest(row)).collect();
        accuracies.extend(balanced_accuracy(&test_labels, &guesses));
        areas.extend(area(&test_labels, &scores));
        for (row, guess) in test.iter().zip(&guesses) {
            predicted[*row] = classes[*guess];
        }
    }
    let balanced_accuracy = Spread::of(&accuracies).ok_or(ProbeError::Fold { fold: 0 })?;
    Ok(ProbeReport { classes, balanced_accuracy, auroc: Spread::of(&areas), baseline, predicted })
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        if values.is_empty() { None } else { Some(Self { mean, deviation }) }
    }
}

fn classes_of(labels: &[usize]) -> Vec<usize> {
    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Index of the largest score; of equals the first.
fn largest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, index| if scores[index] > scores[best] { index } else { best })
}

/// Of two classes that of the second, as scikit-learn; of more the mean.
fn area(labels: &[usize], scores: &[Vec<f64>]) -> Option<f64> {
    if scores.first()?.len() > 2 {
        return auroc_one_vs_rest(labels, scores);
    }
    let second: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
    auroc(&second, &scores.iter().map(|row| row[1]).collect::<Vec<f64>>())
}
