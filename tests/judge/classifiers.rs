//! Classifiers and principal components against scikit-learn: `tests/reference/classifiers.py`.

use serde_json::Value;
use tonoscope_core::probes::{Features, LogisticRegression, Pca, SupportVectorMachine, SvmSettings};

use super::fixture;

/// What the script computes, from whole numbers alone.
struct Case {
    values: Vec<f32>,
    positive: Vec<bool>,
    width: usize,
    train: usize,
    expected: Value,
}

/// 24 bits of splitmix64 as a number from −0.5 to 0.5, exactly.
fn noise(index: usize) -> f64 {
    let z = (index as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f64 / f64::from(1 << 24) - 0.5
}

impl Case {
    fn all() -> Vec<Self> {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(fixture("classifiers.json")).unwrap()).unwrap();
        file["cases"].as_array().unwrap().iter().map(Self::new).collect()
    }

    fn new(expected: &Value) -> Self {
        let whole = |name: &str| expected[name].as_u64().unwrap() as usize;
        let number = |name: &str| expected[name].as_f64().unwrap();
        let (count, width) = (whole("count"), whole("width"));
        let value = |index: usize| {
            let (row, column) = (index / width, index % width);
            let class = if row.is_multiple_of(2) { number("apart") } else { -number("apart") };
            let value = noise(index) + 0.5 * noise(10_000_000 + row % 7 * width + column);
            ((value + class * noise(20_000_000 + column)) * number("scale") + number("offset")) as f32
        };
        Self {
            values: (0..count * width).map(value).collect(),
            positive: (0..count).map(|row| row % 2 == 0).collect(),
            width,
            train: whole("train"),
            expected: expected.clone(),
        }
    }

    fn learnt(&self) -> (Features<'_>, &[bool]) {
        (Features::new(&self.values[..self.train * self.width], self.width), &self.positive[..self.train])
    }

    fn all_rows(&self) -> Features<'_> {
        Features::new(&self.values, self.width)
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.expected[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    /// Share of the rows on which the signs of `decision` are what scikit-learn predicts.
    fn agreement(&self, name: &str, decision: &[f64]) -> f64 {
        let wanted = self.expected[name].as_str().unwrap();
        assert_eq!(wanted.len(), decision.len());
        let same = wanted.bytes().zip(decision).filter(|(bit, score)| (*bit == b'1') == (**score > 0.0)).count();
        same as f64 / decision.len() as f64
    }
}

/// Largest difference over the largest wanted value.
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max) / largest
}

#[test]
fn logistic_regression_matches_scikit_learn() {
    for case in Case::all() {
        let (features, positive) = case.learnt();
        let fitted = LogisticRegression::fit(features, positive, 1.0).unwrap();
        let weights = error(&fitted.weights, &case.numbers("weights"));
        let wanted = case.expected["intercept"].as_f64().unwrap();
        let intercept = (fitted.intercept - wanted).abs() / wanted.abs().max(1.0);
        let decision = fitted.decision(case.all_rows());
        println!("{} features: weights {weights:.1e}, intercept {intercept:.1e}", case.width);
        // Printed with nine digits.
        assert!(weights < 1e-7 && intercept < 1e-7, "{weights:e} {intercept:e}");
        assert_eq!(case.agreement("logistic", &decision), 1.0);
        // Their defaults stop at a gradient of 1e-4, and then differ from their own optimum on as many rows.
        let usual = case.agreement("usual_logistic", &decision);
        println!("{} features: {usual} of what the defaults predict", case.width);
        assert!(usual >= 0.995, "{usual}");
    }
}

#[test]
fn the_support_vector_machine_matches_scikit_learn() {
    for case in Case::all() {
        let (features, positive) = case.learnt();
        // Everything at once, and a few rows of the kernel at a time.
        for cache in [SvmSettings::default().cache, 0] {
            let settings = SvmSettings { cache, ..SvmSettings::default() };
            let machine = SupportVectorMachine::fit(features, positive, &settings).unwrap();
            let decision = machine.decision(case.all_rows());
            let agreement = case.agreement("svm", &decision);
            let off = error(&decision[case.train..], &case.numbers("decision"));
            let support = case.expected["support"].as_array().unwrap().len();
            let found = machine.support().len();
            println!("{} features: {found} support vectors ({support}), decision {off:.1e}, {agreement}", case.width);
            assert!(agreement >= 0.995, "{agreement}");
            // Both stop when no pair violates the optimum by more than 1e-3, along different paths.
            assert!(off < 2e-3, "{off:e}");
            assert!(found.abs_diff(support) <= 2 + support / 100, "{found} support vectors, {support} in scikit-learn");
            let intercept = case.expected["svm_intercept"].as_f64().unwrap();
            assert!((machine.intercept() - intercept).abs() < 2e-3, "{} {intercept}", machine.intercept());
        }
    }
}

#[test]
fn principal_components_match_scikit_learn() {
    for case in Case::all() {
        let pca = Pca::fit(case.all_rows(), 2).unwrap();
        // The sign too: its convention is scikit-learn's.
        let components = error(&pca.components.concat(), &case.numbers("components"));
        let variance = error(&pca.variance, &case.numbers("variance"));
        let first: Vec<f64> = pca.transform(case.all_rows()).concat().into_iter().take(40).collect();
        let places = error(&first, &case.numbers("places"));
        println!("{} features: components {components:.1e}, variance {variance:.1e}, places {places:.1e}", case.width);
        assert!(components < 1e-6 && variance < 1e-8 && places < 1e-6, "{components:e} {variance:e} {places:e}");
    }
}
