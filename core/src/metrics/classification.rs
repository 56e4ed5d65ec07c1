//! How well classes are told apart.

use std::{cmp::Ordering, collections::BTreeMap};

/// Share of predictions that are right; `None` if there is none.
///
/// # Panics
/// If the lengths differ.
pub fn accuracy(truth: &[usize], predicted: &[usize]) -> Option<f64> {
    assert_eq!(truth.len(), predicted.len(), "one prediction per truth");
    let right = truth.iter().zip(predicted).filter(|(truth, predicted)| truth == predicted).count();
    if truth.is_empty() { None } else { Some(right as f64 / truth.len() as f64) }
}

/// Mean over the classes of `truth` of the share of each that is found, as scikit-learn's `balanced_accuracy_score`;
/// `None` if there is none.
///
/// # Panics
/// If the lengths differ.
pub fn balanced_accuracy(truth: &[usize], predicted: &[usize]) -> Option<f64> {
    assert_eq!(truth.len(), predicted.len(), "one prediction per truth");
    let mut found: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (truth, predicted) in truth.iter().zip(predicted) {
        let (right, all) = found.entry(*truth).or_default();
        *right += usize::from(truth == predicted);
        *all += 1;
    }
    let recalls: f64 = found.values().map(|(right, all)| *right as f64 / *all as f64).sum();
    if found.is_empty() { None } else { Some(recalls / found.len() as f64) }
}

/// Probability that a positive scores higher than a negative, equal scores counted half: the area under the ROC curve, as
/// scikit-learn's `roc_auc_score`. `None` if either kind is missing.
///
/// # Panics
/// If the lengths differ, or a score is NaN.
pub fn auroc(truth: &[bool], scores: &[f64]) -> Option<f64> {
    assert_eq!(truth.len(), scores.len(), "one score per truth");
    let positives = truth.iter().filter(|truth| **truth).count();
    let negatives = truth.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut ranked: Vec<(f64, bool)> = scores.iter().copied().zip(truth.iter().copied()).collect();
    ranked.sort_by(|(a, _), (b, _)| a.partial_cmp(b).expect("a score is NaN"));
    let mut below = 0;
    let mut wins = 0.0;
    for tied in ranked.chunk_by(|(a, _), (b, _)| a.partial_cmp(b) == Some(Ordering::Equal)) {
        let tied_positives = tied.iter().filter(|(_, truth)| *truth).count();
        let tied_negatives = tied.len() - tied_positives;
        wins += tied_positives as f64 * (below as f64 + tied_negatives as f64 / 2.0);
        below += tied_negatives;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

/// Mean over the classes of [`auroc`] of each against the rest, as scikit-learn's `roc_auc_score` with
/// `multi_class="ovr"`. `None` if a class of the scores does not occur, or no other does.
///
/// # Shapes
/// - `scores`: one row per truth, one score per class
///
/// # Panics
/// If the lengths differ, or a score is NaN.
pub fn auroc_one_vs_rest(truth: &[usize], scores: &[Vec<f64>]) -> Option<f64> {
    assert_eq!(truth.len(), scores.len(), "one row of scores per truth");
    let classes = scores.first()?.len();
    let one = |class: usize| {
        let is_class: Vec<bool> = truth.iter().map(|truth| *truth == class).collect();
        let of_class: Vec<f64> = scores.iter().map(|row| row[class]).collect();
        auroc(&is_class, &of_class)
    };
    let areas: Option<Vec<f64>> = (0..classes).map(one).collect();
    areas.map(|areas| areas.iter().sum::<f64>() / classes as f64)
}

/// What always answering the most frequent class achieves.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Baseline {
    /// The most frequent class; of equals the first.
    pub class: usize,
    /// Its share.
    pub accuracy: f64,
    /// One over the number of classes that occur. The area under the curve is always 0.5.
    pub balanced_accuracy: f64,
}

/// The majority baseline of `truth`; `None` if it is empty.
pub fn majority_baseline(truth: &[usize]) -> Option<Baseline> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for class in truth {
        *counts.entry(*class).or_default() += 1;
    }
    // `max_by_key` returns the last of equals.
    let (class, count) = counts.iter().rev().max_by_key(|(_, count)| **count)?;
    Some(Baseline {
        class: *class,
        accuracy: *count as f64 / truth.len() as f64,
        balanced_accuracy: 1.0 / counts.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_defined_is_none() {
        assert_eq!(auroc(&[true, true], &[0.1, 0.2]), None);
        assert_eq!(balanced_accuracy(&[], &[]), None);
        assert_eq!(majority_baseline(&[]), None);
        assert_eq!(auroc_one_vs_rest(&[0, 0], &[vec![0.5, 0.5], vec![0.1, 0.9]]), None);
    }

    #[test]
    fn equal_scores_are_chance() {
        assert_eq!(auroc(&[true, false, true, false], &[0.5; 4]), Some(0.5));
    }

    #[test]
    fn the_first_of_equally_frequent_classes_is_the_baseline() {
        let baseline = majority_baseline(&[2, 1, 1, 2, 0]).unwrap();
        assert_eq!((baseline.class, baseline.accuracy), (1, 0.4));
        assert!((baseline.balanced_accuracy - 1.0 / 3.0).abs() < 1e-15);
    }
}
