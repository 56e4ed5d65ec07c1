//! Softmax over rows of scores.
//!
//! Burn's flex finds maxima and sums in vectors, but takes one exponential after another (0.22.1).

#![expect(clippy::inline_always, reason = "compiled anew for the instructions of each caller")]

use rayon::prelude::*;

use super::{activations::exp, kernel::dispatched};

/// Values that a thread takes at a time, at least.
const CHUNK: usize = 1 << 14;
/// Maxima and sums that are kept side by side; in this order they are joined, whatever the CPU.
const LANES: usize = 16;
/// Below it an exponential is no number that 32 bits hold as a normal one: it counts as 0, as does what is masked.
const LEAST: f32 = -87.0;

/// `exp(x) / Σ exp(x)` in place of every row of `width` numbers.
pub(super) fn softmax(values: &mut [f32], width: usize) {
    if values.is_empty() {
        return;
    }
    let share = CHUNK.div_ceil(width) * width;
    if values.len() <= share {
        rows(values, width);
    } else {
        values.par_chunks_mut(share).for_each(|values| rows(values, width));
    }
}

dispatched!(fn rows(values: &mut [f32], width: usize) = rows_of);

#[inline(always)]
fn rows_of<const FAST: bool>(values: &mut [f32], width: usize) {
    for row in values.chunks_exact_mut(width) {
        let largest = folded(row, f32::NEG_INFINITY, |largest, x| if x > largest { x } else { largest });
        for x in &mut *row {
            let below = *x - largest;
            // Written so that what is no number is passed on.
            *x = if below < LEAST { 0.0 } else { exp::<FAST>(below) };
        }
        let share = 1.0 / folded(row, 0.0, |sum, x| sum + x);
        for x in row {
            *x *= share;
        }
    }
}

/// All of `row` joined by `join`, which is begun with `first`.
#[inline(always)]
fn folded(row: &[f32], first: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [first; LANES];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = join(*lane, *x);
        }
    }
    let joined = lanes.iter().fold(first, |joined, lane| join(joined, *lane));
    rest.iter().fold(joined, |joined, x| join(joined, *x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_64_bit() {
        for width in [1, 7, 16, 77, 1025] {
            let rows = 40_000 / width + 1;
            let scores: Vec<f32> = (0..rows * width).map(|at| (at as f32 * 0.37).sin() * (at % 61) as f32).collect();
            let (mut fast, mut plain) = (scores.clone(), scores.clone());
            softmax(&mut fast, width);
            rows_of::<false>(&mut plain, width);
            for found in [fast, plain] {
                for (found, scores) in found.chunks_exact(width).zip(scores.chunks_exact(width)) {
                    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let powers: Vec<f64> = scores.iter().map(|&x| f64::from(x - largest).exp()).collect();
                    let sum: f64 = powers.iter().sum();
                    for (found, power) in found.iter().zip(&powers) {
                        let expected = power / sum;
                        // An exponential, a sum of up to 64 in each of 16 lanes, and a product are rounded; what is below
                        // e⁻⁸⁷ counts as 0.
                        let error = (f64::from(*found) - expected).abs();
                        assert!(error <= 6e-7 * expected + 1.7e-38, "{found}, not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_masked_gets_nothing_and_what_is_no_number_stays_none() {
        let mut rows = vec![
            1.0,
            f32::MIN,
            f32::NEG_INFINITY,
            1.0,
            1.0,
            f32::NAN,
            0.0,
            2.0,
            f32::MIN,
            f32::MIN,
            f32::MIN,
            f32::MIN,
        ];
        softmax(&mut rows, 4);
        assert_eq!(rows[..4], [0.5, 0.0, 0.0, 0.5]);
        assert!(rows[4..8].iter().all(|value| value.is_nan()), "{rows:?}");
        assert_eq!(rows[8..], [0.25; 4], "where all is masked, all is alike, as in the reference");
        softmax(&mut [], 4);
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others() {
        let width = 203;
        let scores: Vec<f32> = (0..300 * width).map(|at| (at as f32 * 0.11).cos() * 9.0).collect();
        let mut all = scores.clone();
        softmax(&mut all, width);
        let mut one = scores[7 * width..8 * width].to_vec();
        softmax(&mut one, width);
        assert_eq!(one, all[7 * width..8 * width]);
    }
}
