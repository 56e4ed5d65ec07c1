//! Fitting of what is cross-validated: two classes by [`LogisticRegression`], more through linfa.

use linfa::{DatasetBase, traits::Fit};
use linfa_linalg::cholesky::SolveC;
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2, Axis};

use super::{Features, LinearProbe, LogisticRegression, Probe, ProbeError, classes_of};

/// Gradient at which the logistic solver stops, summed over the rows.
const TOLERANCE: f64 = 1e-5;
/// Steps after which it stops all the same.
const MAX_STEPS: u64 = 1000;

/// `[feature, class]`, and a shift for every class.
type Planes = (Array2<f64>, Array1<f64>);

impl LinearProbe {
    /// A probe that has learnt from all rows; `labels` are classes from 0.
    ///
    /// # Errors
    /// [`ProbeError`] if the labels do not fit the rows or are all equal, a value is not a number, or the solver gives up.
    ///
    /// # Panics
    /// If a class below the largest has no row.
    pub fn fit(features: Features<'_>, labels: &[usize], kind: Probe) -> Result<Self, ProbeError> {
        let rows: Vec<usize> = (0..features.rows()).collect();
        if labels.len() != rows.len() {
            return Err(ProbeError::Lengths { rows: rows.len(), what: "labels", found: labels.len() });
        }
        features.check_finite()?;
        let classes = classes_of(labels);
        if classes.len() < 2 {
            return Err(ProbeError::OneClass);
        }
        assert!(classes.iter().copied().eq(0..classes.len()), "classes {classes:?} leave some out");
        fit(features, &rows, labels, classes.len(), kind)
    }
}

/// Scores of the classes for the rows `test`, by a probe that has learnt from the rows `train`; they can be compared
/// between rows.
///
/// # Shapes
/// - `labels`: of the rows `train`, each below `classes`; result: one row per test row, one score per class
pub(super) fn scores(
    features: Features<'_>,
    train: &[usize],
    labels: &[usize],
    test: &[usize],
    classes: usize,
    kind: Probe,
) -> Result<Vec<Vec<f64>>, ProbeError> {
    let fitted = fit(features, train, labels, classes, kind)?;
    // What is added to all of several logistic scores changes nothing within a row.
    let within_rows = classes > 2 && matches!(kind, Probe::Logistic { .. });
    let of = |row: &[f32]| if within_rows { fitted.probabilities(row) } else { fitted.scores(row) };
    Ok(test.iter().map(|row| of(features.row(*row))).collect())
}

/// A probe that has learnt from the rows `rows`, whose labels are all below `classes`.
fn fit(
    features: Features<'_>,
    rows: &[usize],
    labels: &[usize],
    classes: usize,
    kind: Probe,
) -> Result<LinearProbe, ProbeError> {
    let (Probe::Logistic { c: strength } | Probe::Ridge { alpha: strength }) = kind;
    if !(strength.is_finite() && strength > 0.0) {
        return Err(ProbeError::Strength { found: strength });
    }
    let mut learnt = select(features, rows);
    let (mean, scale) = standardise(&mut learnt);
    let (weights, intercept) = match kind {
        Probe::Logistic { c } => logistic(learnt, labels, classes, c)?,
        Probe::Ridge { alpha } => ridge(&learnt, labels, classes, alpha)?,
    };
    let by_class = |planes: &Array2<f64>| planes.t().iter().copied().collect();
    Ok(LinearProbe {
        kind,
        mean: mean.to_vec(),
        scale: scale.to_vec(),
        weights: by_class(&weights),
        intercept: intercept.to_vec(),
    })
}

fn select(features: Features<'_>, rows: &[usize]) -> Array2<f64> {
    let width = features.width;
    Array2::from_shape_fn((rows.len(), width), |(row, column)| f64::from(features.values[rows[row] * width + column]))
}

/// Mean 0 and variance 1, a constant feature 0; what was subtracted, and what then multiplied.
fn standardise(learnt: &mut Array2<f64>) -> (Array1<f64>, Array1<f64>) {
    let count = learnt.nrows() as f64;
    let mean = learnt.sum_axis(Axis(0)) / count;
    *learnt -= &mean;
    let deviation = learnt.mapv(|value| value * value).sum_axis(Axis(0)).mapv(|sum| (sum / count).sqrt());
    // Rounding leaves a constant feature a little beside 0.
    let scale = ndarray::Zip::from(&mean)
        .and(&deviation)
        .map_collect(|mean, deviation| if *deviation > 1e-12 * mean.abs() { 1.0 / deviation } else { 0.0 });
    *learnt *= &scale;
    (mean, scale)
}

fn logistic(learnt: Array2<f64>, labels: &[usize], classes: usize, c: f64) -> Result<Planes, ProbeError> {
    if classes == 2 {
        let positive: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let values: Vec<f32> = learnt.iter().map(|value| *value as f32).collect();
        let LogisticRegression { weights, intercept } =
            LogisticRegression::fit(Features::new(&values, learnt.ncols()), &positive, c)?;
        // One plane: the score of the first class is 0.
        let weights = Array2::from_shape_fn((weights.len(), 2), |(feature, class)| class as f64 * weights[feature]);
        return Ok((weights, Array1::from(vec![0.0, intercept])));
    }
    let targets: Array1<usize> = labels.iter().copied().collect();
    let fitted = MultiLogisticRegression::default()
        .alpha(1.0 / c)
        .gradient_tolerance(TOLERANCE)
        .max_iterations(MAX_STEPS)
        .fit(&DatasetBase::new(learnt, targets))
        .map_err(|error| ProbeError::Solver { reason: error.to_string() })?;
    Ok((fitted.params().clone(), fitted.intercept().clone()))
}

/// In the smaller of both dimensions: `Xᵀ (X Xᵀ + αI)⁻¹ Y = (XᵀX + αI)⁻¹ Xᵀ Y`; the targets are centred, as the features.
fn ridge(learnt: &Array2<f64>, labels: &[usize], classes: usize, alpha: f64) -> Result<Planes, ProbeError> {
    let solver = |error: linfa_linalg::LinalgError| ProbeError::Solver { reason: error.to_string() };
    let (rows, width) = learnt.dim();
    let mut targets =
        Array2::from_shape_fn((rows, classes), |(row, class)| if labels[row] == class { 1.0 } else { -1.0 });
    let offset = targets.sum_axis(Axis(0)) / rows as f64;
    targets -= &offset;
    let weights = if width <= rows {
        let mut gram = learnt.t().dot(learnt);
        gram.diag_mut().mapv_inplace(|value| value + alpha);
        gram.solvec(&learnt.t().dot(&targets)).map_err(solver)?
    } else {
        let mut gram = learnt.dot(&learnt.t());
        gram.diag_mut().mapv_inplace(|value| value + alpha);
        learnt.t().dot(&gram.solvec(&targets).map_err(solver)?)
    };
    Ok((weights, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_features_do_no_harm() {
        let values: Vec<f32> = (0..40).flat_map(|row| [0.1, if row % 2 == 0 { 1.0 } else { -1.0 }, 7.3]).collect();
        let features = Features::new(&values, 3);
        let rows: Vec<usize> = (0..40).collect();
        let labels: Vec<usize> = rows.iter().map(|row| row % 2).collect();
        for probe in [Probe::Logistic { c: 1.0 }, Probe::Ridge { alpha: 1.0 }] {
            let scores = scores(features, &rows, &labels, &rows, 2, probe).unwrap();
            assert!(scores.iter().zip(&labels).all(|(row, label)| row[*label] > row[1 - *label]), "{probe:?}");
        }
    }

    #[test]
    fn a_strength_must_be_positive() {
        let features = Features::new(&[0.0, 1.0], 1);
        let fit = |probe| scores(features, &[0, 1], &[0, 1], &[0], 2, probe);
        assert_eq!(fit(Probe::Ridge { alpha: -1.0 }), Err(ProbeError::Strength { found: -1.0 }));
        assert!(matches!(fit(Probe::Logistic { c: f64::NAN }), Err(ProbeError::Strength { .. })));
    }

    #[test]
    fn a_probe_of_all_rows_knows_their_classes() {
        // Class and feature agree, but for a second feature that says nothing.
        let values: Vec<f32> = (0..60).flat_map(|row| [(row % 3) as f32 * 4.0, (row % 7) as f32]).collect();
        let features = Features::new(&values, 2);
        for classes in [2, 3] {
            let labels: Vec<usize> = (0..60).map(|row| (row % 3).min(classes - 1)).collect();
            for kind in [Probe::Logistic { c: 10.0 }, Probe::Ridge { alpha: 0.1 }] {
                let fitted = LinearProbe::fit(features, &labels, kind).unwrap();
                assert_eq!((fitted.width(), fitted.classes(), fitted.weights.len()), (2, classes, 2 * classes));
                for (row, label) in values.chunks(2).zip(&labels) {
                    let probabilities = fitted.probabilities(row);
                    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{kind:?}: {probabilities:?}");
                    // Least squares see the middle of three in a row as no likelier than its neighbours.
                    let hidden = classes == 3 && *label == 1 && matches!(kind, Probe::Ridge { .. });
                    let best = (0..classes).all(|other| probabilities[other] <= probabilities[*label]);
                    assert!(best || hidden, "{kind:?}, class {label}: {probabilities:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_learnt_from() {
        let kind = Probe::Ridge { alpha: 1.0 };
        let fit =
            |values: &[f32], labels: &[usize]| LinearProbe::fit(Features::new(values, 1), labels, kind).unwrap_err();
        assert_eq!(fit(&[0.0, 1.0], &[0]), ProbeError::Lengths { rows: 2, what: "labels", found: 1 });
        assert_eq!(fit(&[0.0, 1.0], &[0, 0]), ProbeError::OneClass);
        assert_eq!(fit(&[0.0, f32::NAN], &[0, 1]), ProbeError::NotFinite { row: 1, feature: 0 });
    }
}
