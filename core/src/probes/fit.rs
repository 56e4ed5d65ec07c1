//! Fitting of what is cross-validated: two classes by [`LogisticRegression`], more through linfa.

use linfa::{DatasetBase, traits::Fit};
use linfa_linalg::cholesky::SolveC;
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2, Axis};

use super::{Features, LogisticRegression, Probe, ProbeError};

/// Gradient at which the logistic solver stops, summed over the rows.
const TOLERANCE: f64 = 1e-5;
/// Steps after which it stops all the same.
const MAX_STEPS: u64 = 1000;

/// Scores of the classes for the rows `test`, by a probe that has learnt from the rows `train`.
///
/// # Shapes
/// - `labels`: of the rows `train`, each below `classes`; result: one row per test row, one score per class
pub(super) fn scores(
    features: Features<'_>,
    train: &[usize],
    labels: &[usize],
    test: &[usize],
    classes: usize,
    probe: Probe,
) -> Result<Vec<Vec<f64>>, ProbeError> {
    let (Probe::Logistic { c: strength } | Probe::Ridge { alpha: strength }) = probe;
    if !(strength.is_finite() && strength > 0.0) {
        return Err(ProbeError::Strength { found: strength });
    }
    let mut learnt = select(features, train);
    let mut tested = select(features, test);
    standardise(&mut learnt, &mut tested);
    let scores = match probe {
        Probe::Logistic { c } => logistic(learnt, labels, &tested, classes, c)?,
        Probe::Ridge { alpha } => ridge(&learnt, labels, &tested, classes, alpha)?,
    };
    Ok(scores.rows().into_iter().map(|row| row.to_vec()).collect())
}

fn select(features: Features<'_>, rows: &[usize]) -> Array2<f64> {
    let width = features.width;
    Array2::from_shape_fn((rows.len(), width), |(row, column)| f64::from(features.values[rows[row] * width + column]))
}

/// Mean 0 and variance 1 in what is learnt from; a constant feature becomes 0.
fn standardise(learnt: &mut Array2<f64>, tested: &mut Array2<f64>) {
    let count = learnt.nrows() as f64;
    let mean = learnt.sum_axis(Axis(0)) / count;
    *learnt -= &mean;
    *tested -= &mean;
    let deviation = learnt.mapv(|value| value * value).sum_axis(Axis(0)).mapv(|sum| (sum / count).sqrt());
    // Rounding leaves a constant feature a little beside 0.
    let scale = ndarray::Zip::from(&mean)
        .and(&deviation)
        .map_collect(|mean, deviation| if *deviation > 1e-12 * mean.abs() { 1.0 / deviation } else { 0.0 });
    *learnt *= &scale;
    *tested *= &scale;
}

fn logistic(
    learnt: Array2<f64>,
    labels: &[usize],
    tested: &Array2<f64>,
    classes: usize,
    c: f64,
) -> Result<Array2<f64>, ProbeError> {
    if classes == 2 {
        let positive: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let in_rows = |of: &Array2<f64>| -> Vec<f32> { of.iter().map(|value| *value as f32).collect() };
        let (values, tested_values) = (in_rows(&learnt), in_rows(tested));
        let width = learnt.ncols();
        let fitted = LogisticRegression::fit(Features::new(&values, width), &positive, c)?;
        let scores = fitted.decision(Features::new(&tested_values, width));
        return Ok(Array2::from_shape_fn(
            (scores.len(), 2),
            |(row, class)| if class == 1 { scores[row] } else { -scores[row] },
        ));
    }
    let targets: Array1<usize> = labels.iter().copied().collect();
    MultiLogisticRegression::default()
        .alpha(1.0 / c)
        .gradient_tolerance(TOLERANCE)
        .max_iterations(MAX_STEPS)
        .fit(&DatasetBase::new(learnt, targets))
        .map(|fitted| fitted.predict_probabilities(tested))
        .map_err(|error| ProbeError::Solver { reason: error.to_string() })
}

/// In the smaller of both dimensions: `Xᵀ (X Xᵀ + αI)⁻¹ Y = (XᵀX + αI)⁻¹ Xᵀ Y`; the targets are centred, as the features.
fn ridge(
    learnt: &Array2<f64>,
    labels: &[usize],
    tested: &Array2<f64>,
    classes: usize,
    alpha: f64,
) -> Result<Array2<f64>, ProbeError> {
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
    Ok(tested.dot(&weights) + &offset)
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
}
