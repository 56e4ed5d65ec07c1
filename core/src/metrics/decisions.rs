//! What a classifier of two classes says, and how right it is, with intervals over clusters.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Interval, cluster_intervals};

/// How right the decisions of a classifier of two classes are. What a class is needed for that does not occur is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BinaryScores<T> {
    /// Share of all rows that are right.
    pub accuracy: Option<T>,
    /// Share of the positives that are found: the true positive rate.
    pub tpr: Option<T>,
    /// Share of the negatives that are left alone: the true negative rate.
    pub tnr: Option<T>,
    /// Mean of the two rates.
    pub balanced_accuracy: Option<T>,
    /// Area under the ROC curve.
    pub auroc: Option<T>,
}

/// Rows with their class, their decision, above 0 for positive, and their cluster; ranked by the decision.
#[derive(Debug, Clone)]
pub struct Decisions {
    ranked: Vec<Ranked>,
    clusters: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    decision: f64,
    positive: bool,
    cluster: usize,
}

impl Decisions {
    /// Decisions on rows of which `positive` says the class, and `cluster` which of them are alike.
    ///
    /// # Panics
    /// If the lengths differ, or a decision is NaN.
    pub fn new(positive: &[bool], decision: &[f64], cluster: &[usize]) -> Self {
        assert!(positive.len() == decision.len() && positive.len() == cluster.len(), "one of each per row");
        assert!(decision.iter().all(|decision| !decision.is_nan()), "a decision is NaN");
        let mut known = cluster.to_vec();
        known.sort_unstable();
        known.dedup();
        let rows = positive.iter().zip(decision).zip(cluster);
        let mut ranked: Vec<Ranked> = rows
            .map(|((&positive, &decision), cluster)| {
                let cluster = known.partition_point(|known| known < cluster);
                Ranked { decision, positive, cluster }
            })
            .collect();
        ranked.sort_by(|a, b| a.decision.total_cmp(&b.decision));
        Self { ranked, clusters: known.len() }
    }

    /// How right they are.
    pub fn scores(&self) -> BinaryScores<f64> {
        self.counted(&vec![1; self.clusters])
    }

    /// The same with their percentile bootstrap intervals at `level`, of `resamples` draws of whole clusters.
    pub fn intervals(&self, level: f64, resamples: usize, seed: u64) -> BinaryScores<Interval> {
        let numbers = |times: &[u32]| {
            let BinaryScores { accuracy, tpr, tnr, balanced_accuracy, auroc } = self.counted(times);
            [accuracy, tpr, tnr, balanced_accuracy, auroc]
        };
        let [accuracy, tpr, tnr, balanced_accuracy, auroc] =
            cluster_intervals(self.clusters, level, resamples, seed, numbers);
        BinaryScores { accuracy, tpr, tnr, balanced_accuracy, auroc }
    }

    /// With every row as often as its cluster.
    fn counted(&self, times: &[u32]) -> BinaryScores<f64> {
        let (mut positives, mut negatives, mut found, mut left) = (0u64, 0u64, 0u64, 0u64);
        // Of pairs of a positive and a negative, those in the right order, twice; and the negatives below.
        let mut wins = 0u64;
        let same = |a: &Ranked, b: &Ranked| a.decision.partial_cmp(&b.decision) == Some(Ordering::Equal);
        for tied in self.ranked.chunk_by(same) {
            let (mut tied_positives, mut tied_negatives) = (0, 0);
            for row in tied {
                let count = u64::from(times[row.cluster]);
                if row.positive { tied_positives += count } else { tied_negatives += count }
            }
            wins += tied_positives * (2 * negatives + tied_negatives);
            positives += tied_positives;
            negatives += tied_negatives;
            if tied[0].decision > 0.0 { found += tied_positives } else { left += tied_negatives }
        }
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let (tpr, tnr) = (share(found, positives), share(left, negatives));
        BinaryScores {
            accuracy: share(found + left, positives + negatives),
            tpr,
            tnr,
            balanced_accuracy: tpr.zip(tnr).map(|(tpr, tnr)| f64::midpoint(tpr, tnr)),
            auroc: share(wins, 2 * positives * negatives),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{accuracy, auroc, balanced_accuracy};

    #[test]
    fn scores_are_those_of_the_other_functions() {
        let positive: Vec<bool> = (0..60).map(|row| row * 7 % 11 < 4).collect();
        let decision: Vec<f64> = (0..60).map(|row| f64::from(row * 13 % 17) - 8.0).collect();
        let cluster: Vec<usize> = (0..60).map(|row| 100 + row / 3).collect();
        let decisions = Decisions::new(&positive, &decision, &cluster);
        let scores = decisions.scores();
        let classes: Vec<usize> = positive.iter().map(|positive| usize::from(*positive)).collect();
        let guesses: Vec<usize> = decision.iter().map(|decision| usize::from(*decision > 0.0)).collect();
        assert_eq!(scores.accuracy, accuracy(&classes, &guesses));
        assert_eq!(scores.balanced_accuracy, balanced_accuracy(&classes, &guesses));
        assert!((scores.auroc.unwrap() - auroc(&positive, &decision).unwrap()).abs() < 1e-15);
        let intervals = decisions.intervals(0.95, 500, 1);
        let accuracy = intervals.accuracy.unwrap();
        assert_eq!(accuracy.mean, scores.accuracy.unwrap());
        let (low, high) = accuracy.ends().unwrap();
        assert!(low < accuracy.mean && accuracy.mean < high);
        // A cluster that is drawn twice counts twice.
        let twice: Vec<u32> = vec![2; 20];
        assert_eq!(decisions.counted(&twice), scores);
    }

    #[test]
    fn what_needs_a_class_that_is_not_there_is_none() {
        let scores = Decisions::new(&[false, false], &[-1.0, 2.0], &[0, 1]).scores();
        assert_eq!((scores.accuracy, scores.tpr, scores.tnr), (Some(0.5), None, Some(0.5)));
        assert_eq!((scores.balanced_accuracy, scores.auroc), (None, None));
        assert_eq!(Decisions::new(&[], &[], &[]).scores().accuracy, None);
    }
}
