//! Fitted linear probes: what they make of a tensor, and the file that holds them.
//!
//! [`crate::probes`] fits them, natively; what is here works wherever a model runs, so that a probe can be followed while
//! music is made.

mod file;

use serde::{Deserialize, Serialize};

pub use file::Readout;

use crate::metrics::softmax;

/// Kind of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Multinomial logistic regression, `½‖W‖² + c · Σ loss`, as scikit-learn's `LogisticRegression(C=c)`.
    Logistic {
        /// Inverse of the regularisation.
        c: f64,
    },
    /// Least squares towards ±1 for each class, `‖X W − Y‖² + alpha ‖W‖²`, as scikit-learn's `RidgeClassifier(alpha)`.
    Ridge {
        /// Regularisation.
        alpha: f64,
    },
}

/// A score per class, `W ((x − mean) ∘ scale) + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearProbe {
    /// How it was fitted, which decides what its scores mean.
    pub kind: Probe,
    /// Mean of every feature where it was fitted.
    pub mean: Vec<f64>,
    /// Inverse standard deviation of every feature there; 0 of one that was constant.
    pub scale: Vec<f64>,
    /// `[class, feature]`, row-major. Of two classes a logistic probe has one plane: that of the first is 0.
    pub weights: Vec<f64>,
    /// By class.
    pub intercept: Vec<f64>,
}

impl LinearProbe {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.intercept.len()
    }

    /// A score for every class: the largest is that of the likeliest.
    ///
    /// # Panics
    /// If there are more or fewer `features` than it was fitted on.
    pub fn scores(&self, features: &[f32]) -> Vec<f64> {
        assert_eq!(features.len(), self.width(), "features of the row and of the probe");
        let standardise = |((&value, mean), scale): ((&f32, &f64), &f64)| (f64::from(value) - mean) * scale;
        let row: Vec<f64> = features.iter().zip(&self.mean).zip(&self.scale).map(standardise).collect();
        let product = |weights: &[f64]| weights.iter().zip(&row).map(|(weight, value)| weight * value).sum::<f64>();
        self.weights
            .chunks_exact(row.len())
            .zip(&self.intercept)
            .map(|(weights, shift)| product(weights) + shift)
            .collect()
    }

    /// A probability for every class; together they are 1.
    ///
    /// Of a logistic probe `softmax(scores)`, what it was fitted to. Least squares towards ±1 estimate `2p − 1`, beyond
    /// which they may go: of a ridge probe `(1 + score) / 2`, clipped to 0 and 1, over the sum.
    ///
    /// # Panics
    /// As [`Self::scores`].
    pub fn probabilities(&self, features: &[f32]) -> Vec<f64> {
        let scores = self.scores(features);
        match self.kind {
            Probe::Logistic { .. } => softmax(&scores),
            Probe::Ridge { .. } => {
                let shares: Vec<f64> = scores.iter().map(|score| f64::midpoint(1.0, *score).clamp(0.0, 1.0)).collect();
                let sum: f64 = shares.iter().sum();
                // Fitted ones sum to 1 before they are clipped; a file may hold others.
                let of_sum = |share: f64| if sum == 0.0 { 1.0 / shares.len() as f64 } else { share / sum };
                shares.iter().map(|share| of_sum(*share)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: Probe) -> LinearProbe {
        let (mean, scale) = (vec![1.0, -2.0, 5.0], vec![0.5, 2.0, 0.0]);
        let weights = vec![1.0, 0.0, 9.0, 0.0, 1.0, 9.0, -1.0, -1.0, 9.0];
        LinearProbe { kind, mean, scale, weights, intercept: vec![0.0, 0.5, -0.5] }
    }

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn features_are_standardised_and_constant_ones_left_out() {
        // Standardised: 1, −1, and nothing of the third.
        let features = [3.0, -2.5, 1e9];
        near(&probe(Probe::Logistic { c: 1.0 }).scores(&features), &[1.0, -0.5, -0.5]);
    }

    #[test]
    fn probabilities_are_those_of_the_kind() {
        let features = [3.0, -2.5, 0.0];
        let [one, half] = [1f64.exp(), (-0.5f64).exp()];
        let sum = one + 2.0 * half;
        near(&probe(Probe::Logistic { c: 1.0 }).probabilities(&features), &[one / sum, half / sum, half / sum]);
        // 1, 1/4 and 1/4 before they are divided by their sum.
        near(&probe(Probe::Ridge { alpha: 1.0 }).probabilities(&features), &[2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]);
    }

    #[test]
    fn a_plane_between_two_classes_gives_the_logistic_function() {
        let probe = LinearProbe {
            kind: Probe::Logistic { c: 1.0 },
            mean: vec![0.0],
            scale: vec![1.0],
            weights: vec![0.0, 2.0],
            intercept: vec![0.0, 1.0],
        };
        let positive = 1.0 / (1.0 + (-4f64).exp());
        near(&probe.probabilities(&[1.5]), &[1.0 - positive, positive]);
        near(&probe.probabilities(&[1e30]), &[0.0, 1.0]);
    }

    #[test]
    fn scores_that_rule_every_class_out_favour_none() {
        let mut probe = probe(Probe::Ridge { alpha: 1.0 });
        probe.intercept = vec![-9.0; 3];
        near(&probe.probabilities(&[1.0, -2.0, 5.0]), &[1.0 / 3.0; 3]);
    }
}
