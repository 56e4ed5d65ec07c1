//! How far the embeddings of one step are from those of the step before, as whole tensors.

use serde::{Deserialize, Serialize};

/// Between two successive steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepDistance {
    pub(crate) from_step: usize,
    pub(crate) to_step: usize,
    /// Sum of the absolute differences.
    pub(crate) l1: f64,
    /// Root of the sum of their squares.
    pub(crate) l2: f64,
    /// 1 less the cosine of the angle.
    pub(crate) cosine: f64,
}

/// All pairs of successive steps of `tensors`, which are of one length.
pub(super) fn between(tensors: &[(usize, &[f32])]) -> Vec<StepDistance> {
    tensors.windows(2).map(|pair| distance(pair[0], pair[1])).collect()
}

fn distance((from_step, from): (usize, &[f32]), (to_step, to): (usize, &[f32])) -> StepDistance {
    let (mut l1, mut squares, mut product, mut from_square, mut to_square) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (from, to) in from.iter().zip(to) {
        let (from, to) = (f64::from(*from), f64::from(*to));
        l1 += (to - from).abs();
        squares += (to - from).powi(2);
        product += from * to;
        from_square += from * from;
        to_square += to * to;
    }
    let lengths = (from_square * to_square).sqrt();
    let cosine = if lengths > 0.0 { 1.0 - product / lengths } else { 0.0 };
    StepDistance { from_step, to_step, l1, l2: squares.sqrt(), cosine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_their_names() {
        let found = between(&[(5, &[1.0, 0.0]), (10, &[0.0, 2.0]), (15, &[0.0, 2.0])]);
        assert_eq!(found.len(), 2);
        let StepDistance { from_step, to_step, l1, l2, cosine } = found[0];
        assert_eq!((from_step, to_step, l1, cosine), (5, 10, 3.0, 1.0));
        assert!((l2 - 5f64.sqrt()).abs() < 1e-15);
        assert_eq!((found[1].l1, found[1].l2, found[1].cosine), (0.0, 0.0, 0.0));
    }
}
