//! How high the right classes stand in a ranking.

use std::cmp::Ordering;

/// Normalised discounted cumulative gain of all classes ranked by `scores`, gain 1 where `relevant`.
///
/// As scikit-learn's `ndcg_score` (1.9.1): classes of equal score share the mean of their gains; 0 if none is relevant.
///
/// # Panics
/// If the lengths differ, or a score is NaN.
///
/// # Source
/// Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002; ties after `McSherry` and Najork,
/// "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", 2008.
pub fn ndcg(relevant: &[bool], scores: &[f64]) -> f64 {
    assert_eq!(relevant.len(), scores.len(), "one score per class");
    let mut ranked: Vec<(f64, bool)> = scores.iter().copied().zip(relevant.iter().copied()).collect();
    ranked.sort_by(|(a, _), (b, _)| b.partial_cmp(a).expect("a score is NaN"));
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let mut gain = 0.0;
    let mut rank = 0;
    for tied in ranked.chunk_by(|(a, _), (b, _)| a.partial_cmp(b) == Some(Ordering::Equal)) {
        let discounts: f64 = (rank..rank + tied.len()).map(discount).sum();
        let hits = tied.iter().filter(|(_, relevant)| *relevant).count();
        gain += discounts * hits as f64 / tied.len() as f64;
        rank += tied.len();
    }
    let ideal: f64 = (0..relevant.iter().filter(|relevant| **relevant).count()).map(discount).sum();
    if ideal == 0.0 { 0.0 } else { gain / ideal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_ranking_is_one() {
        assert!((ndcg(&[false, true, true], &[0.1, 0.9, 0.5]) - 1.0).abs() < 1e-15);
        assert!(ndcg(&[false, false], &[0.1, 0.9]).abs() < 1e-15);
    }
}
