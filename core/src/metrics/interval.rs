//! Means and how sure they are.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A mean between the ends of its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end; `None` where a single observation says nothing of its spread.
    pub low: Option<f64>,
    /// The mean.
    pub mean: f64,
    /// Upper end, as the lower one.
    pub high: Option<f64>,
}

impl Interval {
    /// Both ends.
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }

    /// `means`, of resamples of `observations` observations, as the interval of `mean`.
    fn new(mean: f64, mut means: Vec<f64>, observations: usize, level: f64) -> Self {
        if observations < 2 {
            // Every resample is the same.
            return Self { low: None, mean, high: None };
        }
        means.sort_by(f64::total_cmp);
        let outside = (1.0 - level) / 2.0;
        Self { low: quantile(&means, outside), mean, high: quantile(&means, 1.0 - outside) }
    }
}

/// The mean of `values` with its percentile bootstrap interval at `level`, such as 0.95.
///
/// `resamples` (2000 is usual) times, as many values are drawn with replacement and averaged; the ends are quantiles of
/// these means. The same `seed` gives the same interval on every machine. `None` if there is no value; a single value has
/// no interval.
///
/// # Source
/// Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
pub fn mean_interval(values: &[f64], level: f64, resamples: usize, seed: u64) -> Option<Interval> {
    let mean = mean(values)?;
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let count = values.len() as u64;
    let mut draw = || values[((u128::from(generator.next_u64()) * u128::from(count)) >> 64) as usize];
    let means = (0..resamples).map(|_| (0..values.len()).map(|_| draw()).sum::<f64>() / count as f64).collect();
    Some(Interval::new(mean, means, values.len(), level))
}

/// Percentile bootstrap intervals at `level` of several numbers about observations that come in clusters, such as the sounds
/// of one prompt: whole clusters are drawn, since what is in one is alike.
///
/// `numbers` is told how many times each of the `clusters` clusters was drawn, and says what comes out; a number that is
/// `None` of a draw, such as the recall of a class that was not drawn, is left out there. The first call is told that each
/// was drawn once: these are the means, and what is `None` then stays so. A single cluster has no interval.
///
/// # Source
/// Field and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69(3), 2007.
pub fn cluster_intervals<const N: usize>(
    clusters: usize,
    level: f64,
    resamples: usize,
    seed: u64,
    numbers: impl Fn(&[u32]) -> [Option<f64>; N],
) -> [Option<Interval>; N] {
    let found = numbers(&vec![1; clusters]);
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    let mut times = vec![0; clusters];
    for _ in 0..resamples {
        times.fill(0);
        for _ in 0..clusters {
            times[((u128::from(generator.next_u64()) * clusters as u128) >> 64) as usize] += 1;
        }
        for (all, number) in drawn.iter_mut().zip(numbers(&times)) {
            all.extend(number);
        }
    }
    let mut drawn = drawn.into_iter();
    found.map(|mean| {
        let all = drawn.next().unwrap_or_default();
        mean.map(|mean| Interval::new(mean, all, clusters, level))
    })
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
        let (low, high) = interval.ends().unwrap();
        assert!((high - interval.mean - 1.96 * 0.2883).abs() < 0.04, "{interval:?}");
        assert!((interval.mean - low - 1.96 * 0.2883).abs() < 0.04, "{interval:?}");
    }

    #[test]
    fn what_is_alike_counts_once() {
        // 50 clusters of 8 equal values: as sure as of 50 values, not of 400.
        let values: Vec<f64> = (0..50).map(|i| f64::from(i % 10)).collect();
        let numbers = |times: &[u32]| {
            let sum: f64 = values.iter().zip(times).map(|(value, times)| value * f64::from(8 * times)).sum();
            [Some(sum / 400.0), None]
        };
        let [mean, none] = cluster_intervals(50, 0.95, 2000, 3, numbers);
        let mean = mean.unwrap();
        // Standard error: √((10² − 1) / 12 / 50) = 0.4062.
        assert!((mean.mean - 4.5).abs() < 1e-12 && none.is_none());
        let (low, high) = mean.ends().unwrap();
        assert!((high - mean.mean - 1.96 * 0.4062).abs() < 0.06, "{mean:?}");
        assert!((mean.mean - low - 1.96 * 0.4062).abs() < 0.06, "{mean:?}");
    }

    #[test]
    fn the_seed_decides() {
        let values = [0.1, 0.7, 0.3, 0.9];
        assert_eq!(mean_interval(&values, 0.95, 100, 7), mean_interval(&values, 0.95, 100, 7));
        assert_ne!(mean_interval(&values, 0.95, 100, 7), mean_interval(&values, 0.95, 100, 8));
        assert_eq!(mean_interval(&[], 0.95, 100, 7), None);
    }

    #[test]
    fn one_observation_has_a_mean_and_no_interval() {
        assert_eq!(mean_interval(&[2.0], 0.95, 100, 7), Some(Interval { low: None, mean: 2.0, high: None }));
        let [one] = cluster_intervals(1, 0.95, 100, 7, |times| [Some(f64::from(times[0]))]);
        assert_eq!(one, Some(Interval { low: None, mean: 1.0, high: None }));
        let json = serde_json::to_string(&one.unwrap()).unwrap();
        assert_eq!(json, r#"{"low":null,"mean":1.0,"high":null}"#);
        let [two] = cluster_intervals(2, 0.95, 100, 7, |times| [Some(f64::from(times[0]))]);
        assert_eq!(two.unwrap().ends(), Some((0.0, 2.0)));
    }
}
