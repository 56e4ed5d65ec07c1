//! A support vector machine of two classes with a Gaussian kernel.
//!
//! Minimises `½ αᵀQα − Σα` under `0 ≤ α ≤ C`, `yᵀα = 0`, with `Qᵢⱼ = yᵢ yⱼ exp(−γ‖xᵢ − xⱼ‖²)`, as libsvm and so
//! scikit-learn's `SVC(C=c, gamma="scale")` does: pairs chosen by the second order of the objective, until none violates
//! the conditions of the optimum by more than the tolerance.
//!
//! # Source
//! Fan, Chen and Lin, "Working set selection using second order information for training support vector machines",
//! JMLR 6, 2005; Chang and Lin, "LIBSVM", ACM TIST 2(3), 2011 (BSD-3). Differs: rows of the kernel are products of blocks of
//! rows in 32 bit, nothing is shrunk.

mod kernel;
mod solve;

use self::{
    kernel::{Kernel, KernelRows},
    solve::solve,
};
use super::{Features, ProbeError, check_two_classes, products};

/// How a machine is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvmSettings {
    /// Most that one row may weigh.
    pub c: f64,
    /// Width of the kernel.
    pub gamma: Gamma,
    /// Largest violation of the optimum's conditions that is accepted.
    pub tolerance: f64,
    /// Bytes that rows of the kernel may fill.
    pub cache: usize,
}

/// What the squared distance of two rows is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gamma {
    /// One over the number of features and the variance of all their values.
    Scale,
    /// This.
    Value(f64),
}

/// Rows that hold up the boundary between two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportVectorMachine {
    kernel: Kernel,
    /// `yᵢ αᵢ` of the rows that count, in the order of the rows.
    coefficients: Vec<f64>,
    /// Indices of these rows.
    support: Vec<usize>,
    intercept: f64,
}

/// Scikit-learn's defaults, with a cache for 11 000 rows at once.
impl Default for SvmSettings {
    fn default() -> Self {
        Self { c: 1.0, gamma: Gamma::Scale, tolerance: 1e-3, cache: 512 << 20 }
    }
}

impl SupportVectorMachine {
    /// The machine that tells the rows with `positive` from the others.
    ///
    /// # Errors
    /// [`ProbeError`] if the labels do not fit the rows, are all equal, a value is not a number, or a setting not positive.
    pub fn fit(features: Features<'_>, positive: &[bool], settings: &SvmSettings) -> Result<Self, ProbeError> {
        check_two_classes(features, positive)?;
        let mean = products::mean(features);
        let centred = products::centred(features, &mean);
        let gamma = match settings.gamma {
            Gamma::Value(gamma) => gamma,
            Gamma::Scale => scale(features),
        };
        for found in [settings.c, gamma, settings.tolerance] {
            if !(found.is_finite() && found > 0.0) {
                return Err(ProbeError::Strength { found });
            }
        }
        let kernel = Kernel::new(mean, centred, gamma);
        let solution = solve(&mut KernelRows::new(&kernel, settings.cache), positive, settings)?;
        let support: Vec<usize> = (0..positive.len()).filter(|row| solution.alpha[*row] > 0.0).collect();
        let signed = |row: &usize| if positive[*row] { solution.alpha[*row] } else { -solution.alpha[*row] };
        let coefficients = support.iter().map(signed).collect();
        Ok(Self { kernel: kernel.of(&support), coefficients, support, intercept: -solution.rho })
    }

    /// How far on the positive side every row is: `Σ yᵢ αᵢ k(xᵢ, x) + b`.
    ///
    /// # Panics
    /// If the rows have another number of features.
    pub fn decision(&self, features: Features<'_>) -> Vec<f64> {
        let mut sums = self.kernel.weighted(features, &self.coefficients);
        for sum in &mut sums {
            *sum += self.intercept;
        }
        sums
    }

    /// Indices of the rows that it was fitted on and that count, in ascending order.
    pub fn support(&self) -> &[usize] {
        &self.support
    }

    /// What is added to the sum over the support.
    pub fn intercept(&self) -> f64 {
        self.intercept
    }
}

/// `1 / (features · variance of all values)`, as scikit-learn: 1 if nothing varies.
fn scale(features: Features<'_>) -> f64 {
    let count = features.values.len() as f64;
    let mean = features.values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = features.values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    if variance > 0.0 { 1.0 / (features.width as f64 * variance) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring around a disc: no line tells them apart.
    fn rings(rows: usize) -> (Vec<f32>, Vec<bool>) {
        let positive: Vec<bool> = (0..rows).map(|row| row % 2 == 0).collect();
        let point = |row: usize| {
            let angle = row as f32 * 2.399_963;
            let radius = if positive[row] { 1.0 } else { 2.2 } + ((row * 31 % 17) as f32 - 8.0) * 0.09;
            [radius * angle.cos() + 3.0, radius * angle.sin() - 7.0]
        };
        ((0..rows).flat_map(point).collect(), positive)
    }

    #[test]
    fn the_optimum_does_not_depend_on_the_cache() {
        let (values, positive) = rings(400);
        let features = Features::new(&values, 2);
        let settings = SvmSettings { tolerance: 1e-6, ..SvmSettings::default() };
        let whole = SupportVectorMachine::fit(features, &positive, &settings).unwrap();
        let small = SvmSettings { cache: 0, ..settings };
        let rows = SupportVectorMachine::fit(features, &positive, &small).unwrap();
        let (whole, rows) = (whole.decision(features), rows.decision(features));
        let apart = whole.iter().zip(&rows).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-4, "{apart:e}");
        let right = whole.iter().zip(&positive).filter(|(score, positive)| (**score > 0.0) == **positive).count();
        assert!(right > 320, "{right} of 400");
    }

    #[test]
    fn the_conditions_of_the_optimum_hold() {
        let (values, positive) = rings(200);
        let features = Features::new(&values, 2);
        let settings = SvmSettings { tolerance: 1e-5, ..SvmSettings::default() };
        let machine = SupportVectorMachine::fit(features, &positive, &settings).unwrap();
        let decision = machine.decision(features);
        let mut alpha = vec![0.0; 200];
        for (row, coefficient) in machine.support().iter().zip(&machine.coefficients) {
            alpha[*row] = coefficient.abs();
        }
        assert!(machine.coefficients.iter().sum::<f64>().abs() < 1e-9);
        for row in 0..200 {
            let margin = decision[row] * if positive[row] { 1.0 } else { -1.0 };
            if alpha[row] == 0.0 {
                assert!(margin > 1.0 - 1e-4, "row {row} is inside, at {margin}");
            } else if alpha[row] < 1.0 {
                assert!((margin - 1.0).abs() < 1e-4, "row {row} is beside its margin, at {margin}");
            } else {
                assert!(margin < 1.0 + 1e-4, "row {row} is outside, at {margin}");
            }
        }
    }

    #[test]
    fn settings_must_be_positive() {
        let (values, positive) = rings(10);
        let fit = |settings| SupportVectorMachine::fit(Features::new(&values, 2), &positive, &settings);
        let of = SvmSettings { gamma: Gamma::Value(-1.0), ..SvmSettings::default() };
        assert_eq!(fit(of), Err(ProbeError::Strength { found: -1.0 }));
        assert!(fit(SvmSettings { c: f64::NAN, ..SvmSettings::default() }).is_err());
    }
}
