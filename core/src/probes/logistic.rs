//! Logistic regression of two classes, to the last digits.
//!
//! Minimises `½‖w‖² + C Σ log(1 + exp(−yᵢ(w·xᵢ + b)))`, the intercept free, as scikit-learn's
//! `LogisticRegression(C=c)` does. Differs: by Newton's method instead of L-BFGS, so that the optimum does not depend on when
//! one stops. Gradients are of 64 bit; curvature, which decides only the number of steps, of 32 as long as that will do.
//!
//! # Source
//! Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 2009, section 4.4.1.

use linfa_linalg::{
    LinalgError,
    triangular::{SolveTriangularInplace, UPLO},
};
use ndarray::{Array1, Array2, Axis};

use super::{
    Features, ProbeError, check_two_classes,
    products::{centred, cholesky, gram, mean, scores, weighted_sum},
};

/// The largest gradient at the end, over that at the beginning.
const TOLERANCE: f64 = 1e-9;
/// Steps after which it gives up.
const MAX_STEPS: usize = 200;
/// Where rounding stops it, this is near enough; a gradient that is larger is an error.
const ROUNDING: f64 = 1e-5;
/// A curvature serves again where a step with it has reduced the gradient to less than this share: a step costs a seventh of
/// a new curvature.
const FAST: f64 = 0.5;

/// A plane between two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegression {
    /// One per feature.
    pub weights: Vec<f64>,
    /// Added to the weighted sum.
    pub intercept: f64,
}

/// A place on the way, with what is known there. The shift is the intercept for features less their mean.
struct Place {
    weights: Vec<f64>,
    shift: f64,
    /// `Σ loss + λ/2 ‖w‖²`
    objective: f64,
    /// Of the weights, then of the shift.
    gradient: (Vec<f64>, f64),
    /// Second derivative of the loss of every row.
    curvature: Vec<f64>,
}

struct Problem<'a> {
    features: Features<'a>,
    positive: &'a [bool],
    mean: Vec<f64>,
    centred: Array2<f32>,
    /// Products of all rows, centred, where there are more features than rows.
    products: Option<Array2<f64>>,
    /// `1 / C`
    penalty: f64,
}

/// Newton's system, factorised.
enum Factor {
    /// `L Lᵀ = H`, the shift last.
    Features(Array2<f64>),
    /// With more features than rows, over the rows: `L Lᵀ = λI + S K S`, the root `S` of the curvature, and the curvature.
    Rows { factor: Array2<f64>, roots: Vec<f64>, curvature: Vec<f64> },
}

impl LogisticRegression {
    /// The plane that tells the rows with `positive` from the others.
    ///
    /// # Errors
    /// [`ProbeError`] if the labels do not fit the rows, are all equal, a value is not a number, or `c` not positive.
    pub fn fit(features: Features<'_>, positive: &[bool], c: f64) -> Result<Self, ProbeError> {
        check_two_classes(features, positive)?;
        if !(c.is_finite() && c > 0.0) {
            return Err(ProbeError::Strength { found: c });
        }
        let mean = mean(features);
        let centred = centred(features, &mean);
        // The inverse over the rows is a small difference of large numbers: 32 bits would not do.
        let products = (features.width >= features.rows()).then(|| gram(precise(features, &mean).t()));
        let problem = Problem { features, positive, mean, centred, products, penalty: 1.0 / c };
        let mut here = problem.place(vec![0.0; features.width], 0.0);
        let first = here.steepness();
        let (mut factor, mut in_64_bit) = (None, false);
        for _ in 0..MAX_STEPS {
            if here.steepness() <= TOLERANCE * first {
                break;
            }
            let fresh = factor.is_none();
            let used = match factor.take() {
                Some(factor) => factor,
                None => problem.factor(&here, in_64_bit)?,
            };
            let next = problem.step(&here, &used);
            let is_fast = next.as_ref().is_some_and(|next| next.steepness() < FAST * here.steepness());
            match next {
                Some(next) => here = next,
                // Nothing is below but rounding, or this curvature does not see it.
                None if fresh && in_64_bit => break,
                None => {}
            }
            // A fresh curvature is fast, but for the first steps and where what 32 bits leave out matters.
            in_64_bit |= fresh && !is_fast;
            factor = is_fast.then_some(used);
        }
        if here.steepness() > ROUNDING * first {
            let reason = format!(
                "the logistic regression has not converged: {:e} of the gradient is left",
                here.steepness() / first
            );
            return Err(ProbeError::Solver { reason });
        }
        let offset: f64 = here.weights.iter().zip(&problem.mean).map(|(weight, mean)| weight * mean).sum();
        Ok(Self { intercept: here.shift - offset, weights: here.weights })
    }

    /// How far on the positive side every row is: `w·x + b`, the logarithm of the odds.
    ///
    /// # Panics
    /// If the rows have another number of features.
    pub fn decision(&self, features: Features<'_>) -> Vec<f64> {
        assert_eq!(features.width, self.weights.len(), "features of the rows and of the plane");
        scores(features, &self.weights, self.intercept)
    }
}

impl Place {
    fn steepness(&self) -> f64 {
        self.gradient.0.iter().fold(self.gradient.1.abs(), |most, value| most.max(value.abs()))
    }
}

impl Problem<'_> {
    fn place(&self, weights: Vec<f64>, shift: f64) -> Place {
        let offset: f64 = weights.iter().zip(&self.mean).map(|(weight, mean)| weight * mean).sum();
        let scores = scores(self.features, &weights, shift - offset);
        let mut objective = self.penalty / 2.0 * weights.iter().map(|weight| weight * weight).sum::<f64>();
        let (mut residuals, mut curvature) = (Vec::with_capacity(scores.len()), Vec::with_capacity(scores.len()));
        for (&score, &positive) in scores.iter().zip(self.positive) {
            // Of the smaller side, so that nothing overflows or vanishes.
            let small = (-score.abs()).exp();
            let (near, far) = (1.0 / (1.0 + small), small / (1.0 + small));
            let probability = if score >= 0.0 { near } else { far };
            let against = if positive { -score } else { score };
            objective += against.max(0.0) + small.ln_1p();
            residuals.push(if positive { -(if score >= 0.0 { far } else { near }) } else { probability });
            curvature.push(near * far);
        }
        let total: f64 = residuals.iter().sum();
        let mut gradient = weighted_sum(self.features, &residuals);
        for ((gradient, weight), mean) in gradient.iter_mut().zip(&weights).zip(&self.mean) {
            *gradient += self.penalty * weight - mean * total;
        }
        Place { weights, shift, objective, gradient: (gradient, total), curvature }
    }

    fn factor(&self, here: &Place, in_64_bit: bool) -> Result<Factor, ProbeError> {
        let roots: Vec<f64> = here.curvature.iter().map(|curvature| curvature.sqrt()).collect();
        if let Some(products) = &self.products {
            let mut system = products.clone();
            for ((row, column), value) in system.indexed_iter_mut() {
                *value *= roots[row] * roots[column];
            }
            system.diag_mut().mapv_inplace(|value| value + self.penalty);
            let factor = factorise(&mut system)?;
            return Ok(Factor::Rows { factor, roots, curvature: here.curvature.clone() });
        }
        let square = if in_64_bit {
            let mut scaled = precise(self.features, &self.mean);
            scaled.axis_iter_mut(Axis(0)).zip(&roots).for_each(|(mut row, root)| row *= *root);
            gram(scaled.view())
        } else {
            let mut scaled = self.centred.clone();
            scaled.axis_iter_mut(Axis(0)).zip(&roots).for_each(|(mut row, root)| row *= *root as f32);
            gram(scaled.view())
        };
        let width = self.features.width;
        let mut system = Array2::zeros((width + 1, width + 1));
        system.slice_mut(ndarray::s![..width, ..width]).assign(&square);
        let mut beside = weighted_sum(self.features, &here.curvature);
        let total: f64 = here.curvature.iter().sum();
        beside.iter_mut().zip(&self.mean).for_each(|(beside, mean)| *beside -= mean * total);
        for (index, value) in beside.into_iter().enumerate() {
            system[[index, index]] += self.penalty;
            system[[index, width]] = value;
            system[[width, index]] = value;
        }
        // Where every row is sure, nothing curves along the shift.
        system[[width, width]] = total.max(1e-12);
        Ok(Factor::Features(factorise(&mut system)?))
    }

    /// Along Newton's direction as far as it goes down; `None` if it does not.
    fn step(&self, here: &Place, factor: &Factor) -> Option<Place> {
        let (direction, along) = match factor {
            Factor::Features(factor) => {
                let (weights, shift) = &here.gradient;
                let mut solved = solve(factor, &weights.iter().chain([shift]).copied().collect::<Vec<_>>());
                let along = solved.pop().unwrap_or(0.0);
                (solved, along)
            }
            Factor::Rows { factor, roots, curvature } => {
                let towards = self.solve_rows(factor, roots, &here.gradient.0);
                let mut beside = weighted_sum(self.features, curvature);
                let total: f64 = curvature.iter().sum();
                beside.iter_mut().zip(&self.mean).for_each(|(beside, mean)| *beside -= mean * total);
                let away = self.solve_rows(factor, roots, &beside);
                let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let left = (total - product(&beside, &away)).max(1e-12);
                let along = (here.gradient.1 - product(&beside, &towards)) / left;
                (towards.iter().zip(&away).map(|(towards, away)| towards - away * along).collect(), along)
            }
        };
        let slope: f64 = direction.iter().zip(&here.gradient.0).map(|(step, gradient)| step * gradient).sum::<f64>()
            + along * here.gradient.1;
        if !(slope > 0.0 && slope.is_finite()) {
            return None;
        }
        let mut length = 1.0;
        for _ in 0..40 {
            let weights = here.weights.iter().zip(&direction).map(|(weight, step)| weight - length * step).collect();
            let next = self.place(weights, here.shift - length * along);
            if next.objective <= here.objective - 1e-4 * length * slope {
                return Some(next);
            }
            // So near the bottom the objective is level to its last digit, and the gradient says more.
            if slope <= 1e-11 * here.objective.abs() {
                return (next.steepness() < here.steepness()).then_some(next);
            }
            length /= 2.0;
        }
        None
    }

    /// `(λI + XᵀDX)⁻¹ r = (r − XᵀS (λI + S K S)⁻¹ S X r) / λ`
    fn solve_rows(&self, factor: &Array2<f64>, roots: &[f64], right: &[f64]) -> Vec<f64> {
        let offset: f64 = right.iter().zip(&self.mean).map(|(value, mean)| value * mean).sum();
        let mut through = scores(self.features, right, -offset);
        through.iter_mut().zip(roots).for_each(|(value, root)| *value *= root);
        let mut solved = solve(factor, &through);
        solved.iter_mut().zip(roots).for_each(|(value, root)| *value *= root);
        let total: f64 = solved.iter().sum();
        let back = weighted_sum(self.features, &solved);
        let each = right.iter().zip(back).zip(&self.mean);
        each.map(|((right, back), mean)| (right - (back - mean * total)) / self.penalty).collect()
    }
}

/// `features` less `mean`.
fn precise(features: Features<'_>, mean: &[f64]) -> Array2<f64> {
    let width = features.width;
    let value = |(row, column): (usize, usize)| f64::from(features.values[row * width + column]) - mean[column];
    Array2::from_shape_fn((features.rows(), width), value)
}

/// The lower factor. What 32 bits have made indefinite gets a little more on its diagonal: a step may be shorter then, and
/// goes down all the same.
fn factorise(system: &mut Array2<f64>) -> Result<Array2<f64>, ProbeError> {
    let largest = system.diag().iter().fold(0.0f64, |most, value| most.max(*value));
    let mut added = 0.0;
    loop {
        match cholesky(system) {
            Ok(factor) => return Ok(factor),
            Err(LinalgError::NotPositiveDefinite) if added < largest => {
                let more = if added == 0.0 { largest * 1e-9 } else { added * 9.0 };
                system.diag_mut().mapv_inplace(|value| value + more);
                added += more;
            }
            Err(error) => return Err(ProbeError::Solver { reason: error.to_string() }),
        }
    }
}

fn solve(factor: &Array2<f64>, right: &[f64]) -> Vec<f64> {
    let mut right = Array1::from(right.to_vec()).insert_axis(Axis(1));
    let both = factor
        .solve_triangular_inplace(&mut right, UPLO::Lower)
        .and_then(|right| factor.t().solve_triangular_inplace(right, UPLO::Upper).map(|_| ()));
    // A factor has no zero on its diagonal and is square.
    both.expect("a triangular factor can be solved");
    right.into_raw_vec_and_offset().0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two clouds that overlap, far from the origin.
    fn clouds(rows: usize, width: usize) -> (Vec<f32>, Vec<bool>) {
        let noise = |index: usize| {
            let mixed = (index as u64 + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29)
                .wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let positive: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
        let value = |index: usize| {
            let (row, column) = (index / width, index % width);
            let apart = if positive[row] && column % 2 == 0 { 0.2 } else { 0.0 };
            noise(index) * (1.0 + column as f32) + apart + 30.0
        };
        ((0..rows * width).map(value).collect(), positive)
    }

    /// Largest gradient of the objective over the weights and the intercept.
    fn gradient(features: Features<'_>, positive: &[bool], c: f64, fitted: &LogisticRegression) -> f64 {
        let residuals: Vec<f64> = fitted
            .decision(features)
            .iter()
            .zip(positive)
            .map(|(score, positive)| 1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(*positive)))
            .collect();
        let of_weights = weighted_sum(features, &residuals);
        let of_weights = of_weights.iter().zip(&fitted.weights).map(|(sum, weight)| c * sum + weight);
        of_weights.chain([c * residuals.iter().sum::<f64>()]).fold(0.0, |most, value| most.max(value.abs()))
    }

    #[test]
    fn the_gradient_vanishes_with_few_and_with_many_features() {
        for (rows, width) in [(300, 7), (60, 200), (40, 40), (1500, 150)] {
            let (values, positive) = clouds(rows, width);
            let features = Features::new(&values, width);
            for c in [0.01, 1.0, 100.0] {
                let fitted = LogisticRegression::fit(features, &positive, c).unwrap();
                let left = gradient(features, &positive, c, &fitted);
                assert!(left < 1e-6 * c.max(1.0) * rows as f64, "{rows} × {width}, c {c}: {left:e}");
            }
        }
    }

    #[test]
    fn constant_features_and_classes_that_are_apart_do_no_harm() {
        let values: Vec<f32> = (0..40).flat_map(|row| [7.3, if row % 2 == 0 { 1.0 } else { -1.0 }]).collect();
        let positive: Vec<bool> = (0..40).map(|row| row % 2 == 0).collect();
        let features = Features::new(&values, 2);
        let fitted = LogisticRegression::fit(features, &positive, 1e6).unwrap();
        assert!(fitted.weights[0].abs() < 1e-6 && fitted.weights[1] > 5.0, "{fitted:?}");
        assert!(fitted.decision(features).iter().zip(&positive).all(|(score, positive)| (*score > 0.0) == *positive));
    }
}
