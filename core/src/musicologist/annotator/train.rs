//! Learning an annotator's weights from annotations.

use linfa::{Dataset, traits::Fit};
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::{
    Annotator, INSTRUMENTS,
    model::{Model, Vocabulary},
    rules, words,
};
use crate::musicologist::Annotation;

/// Prompts in which a word must be to be learnt.
const LEAST: usize = 2;
/// Inverse of the regularisation, as scikit-learn's `C`; chosen on the published annotations by cross-validation.
const STRENGTH: f64 = 3.0;
/// Probability above which an aspect is said to be there: below one half, since one that is missed costs F1 more than one
/// that is invented.
const PROBABILITY: f64 = 0.4;
/// Prompts with an aspect below which its rule, if it has one, does better than what can be learnt: measured by
/// cross-validation on the published annotations, as the two numbers above.
const RARE: usize = 50;
/// Prompts with and without an aspect that are needed to learn it at all.
const FEWEST: usize = 2;
/// Largest weight in whole numbers.
const LARGEST: f64 = 127.0;
/// Score of an aspect that is too rare to be learnt: never, or always.
const CERTAIN: f64 = 20.0;

/// Annotations that nothing can be learnt from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// Too few prompts, or too few of each aspect.
    #[error("{found} annotated prompts are too few to learn from: rules do better")]
    TooFew {
        /// How many there are.
        found: usize,
    },
    /// No aspect that is not an instrument.
    #[error("no aspect is left to learn: instruments are told by rules")]
    NoAspects,
    /// The solver gave up.
    #[error("`{aspect}` could not be learnt: {reason}")]
    Solver {
        /// Of which aspect.
        aspect: String,
        /// What it said.
        reason: String,
    },
}

/// Learns the `aspects` that are no instruments from `annotations`; one that is rare there is left to its rule.
///
/// The weights are rounded to 8 bits: what comes back is what the file will hold.
///
/// # Errors
/// [`TrainError`] if there is too little to learn from, or the solver gave up.
pub fn train<'a>(
    annotations: impl IntoIterator<Item = &'a Annotation>,
    aspects: &[&str],
) -> Result<Annotator, TrainError> {
    let annotations: Vec<&Annotation> = annotations.into_iter().collect();
    if annotations.len() < LEAST {
        return Err(TrainError::TooFew { found: annotations.len() });
    }
    let aspects: Vec<&str> = aspects.iter().copied().filter(|aspect| !INSTRUMENTS.contains(aspect)).collect();
    if aspects.is_empty() {
        return Err(TrainError::NoAspects);
    }
    let count = |aspect: &str| annotations.iter().filter(|one| one.aspects.iter().any(|name| name == aspect)).count();
    let aspects: Vec<&str> =
        aspects.into_iter().filter(|aspect| !rules::know(aspect) || count(aspect) >= RARE).collect();
    if aspects.is_empty() {
        return Err(TrainError::TooFew { found: annotations.len() });
    }
    let texts: Vec<Vec<String>> = annotations.iter().map(|annotation| words::words(&annotation.prompt)).collect();
    let vocabulary = Vocabulary::of(&texts, LEAST);
    let mut features = Vec::with_capacity(texts.len() * vocabulary.width());
    for (annotation, text) in annotations.iter().zip(&texts) {
        features.extend(vocabulary.features(text, words::bpm(&annotation.prompt)));
    }
    let width = vocabulary.width();
    let features = Array2::from_shape_fn((texts.len(), width), |(row, column)| features[row * width + column]);
    let mut model = Model {
        aspects: aspects.iter().map(|aspect| (*aspect).to_owned()).collect(),
        threshold: rounded((PROBABILITY / (1.0 - PROBABILITY)).ln()),
        intercepts: vec![],
        scales: vec![],
        weights: vec![vec![]; vocabulary.width()],
        vocabulary,
    };
    for aspect in aspects {
        let there = annotations.iter().map(|one| usize::from(one.aspects.iter().any(|name| name == aspect)));
        let (weights, intercept) = fit(&features, there.collect(), aspect)?;
        let largest = weights.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
        let scale = if largest > 0.0 { rounded(largest / LARGEST) } else { 1.0 };
        for (row, weight) in model.weights.iter_mut().zip(&weights) {
            row.push((weight / scale).round() as i32);
        }
        model.scales.push(scale);
        model.intercepts.push(rounded(intercept));
    }
    Ok(Annotator { model: Some(model) })
}

/// Weights and intercept of one aspect.
fn fit(features: &Array2<f64>, there: Array1<usize>, aspect: &str) -> Result<(Vec<f64>, f64), TrainError> {
    let with = there.sum();
    let without = there.len() - with;
    if with < FEWEST || without < FEWEST {
        let certain = if with > without { CERTAIN } else { -CERTAIN };
        return Ok((vec![0.0; features.ncols()], certain));
    }
    let fitted = LogisticRegression::default()
        .alpha(1.0 / STRENGTH)
        .gradient_tolerance(1e-4)
        .max_iterations(1000)
        .fit(&Dataset::new(features.clone(), there))
        .map_err(|error| TrainError::Solver { aspect: aspect.to_owned(), reason: error.to_string() })?;
    // What linfa takes for the positive class is the more frequent one, whatever its documentation says.
    let sign = if fitted.labels().pos.class == 1 { 1.0 } else { -1.0 };
    Ok((fitted.params().iter().map(|weight| sign * weight).collect(), sign * fitted.intercept()))
}

/// Six digits: more say nothing, and make a file that nobody can read.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
