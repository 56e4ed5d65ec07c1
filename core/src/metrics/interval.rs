//! Means and how sure they are.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A mean between the ends of its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean of `values` with its percentile bootstrap interval at `level`, such as 0.95.
///
/// `resamples` (2000 is usual) times, as many values are drawn with replacement and averaged; the ends are quantiles of
/// these means. The same `seed` gives the same interval on every machine. `None` if there is no value.
///
/// # Source
/// Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
pub fn mean_interval(values: &[f64], level: f64, resamples: usize, seed: u64) -> Option<Interval> {
    let mean = mean(values)?;
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let count = values.len() as u64;
    let mut draw = || values[((u128::from(generator.next_u64()) * u128::from(count)) >> 64) as usize];
    let mut means: Vec<f64> =
        (0..resamples).map(|_| (0..values.len()).map(|_| draw()).sum::<f64>() / count as f64).collect();
    means.sort_by(f64::total_cmp);
    let outside = (1.0 - level) / 2.0;
    let low = quantile(&means, outside).unwrap_or(mean);
    let high = quantile(&means, 1.0 - outside).unwrap_or(mean);
    Some(Interval { low, mean, high })
}

/// Quantile `q` of sorted values, linear between neighbours as numpy's default; `None` if there is no value.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_sign_loss, reason = "`q` was clamped")]
    let below = position as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_many_values_is_that_of_the_normal_distribution() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let interval = mean_interval(&values, 0.95, 2000, 1).unwrap();
        // Standard error of the mean: √((20² − 1) / 12 / 400) = 0.2883; the bootstrap of 2000 is good to a few per cent.
        assert!((interval.mean - 9.5).abs() < 1e-12);
        assert!((interval.high - interval.mean - 1.96 * 0.2883).abs() < 0.04, "{interval:?}");
        assert!((interval.mean - interval.low - 1.96 * 0.2883).abs() < 0.04, "{interval:?}");
    }

    #[test]
    fn the_seed_decides() {
        let values = [0.1, 0.7, 0.3, 0.9];
        assert_eq!(mean_interval(&values, 0.95, 100, 7), mean_interval(&values, 0.95, 100, 7));
        assert_ne!(mean_interval(&values, 0.95, 100, 7), mean_interval(&values, 0.95, 100, 8));
        assert_eq!(mean_interval(&[], 0.95, 100, 7), None);
        assert_eq!(mean_interval(&[2.0], 0.95, 100, 7), Some(Interval { low: 2.0, mean: 2.0, high: 2.0 }));
    }
}
