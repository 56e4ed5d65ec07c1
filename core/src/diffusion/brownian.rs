//! A Brownian motion over the noise level that can be read off anywhere, in any order.
//!
//! k-diffusion takes the noise between two levels from a Brownian motion `W(σ)`, so that a finer schedule follows the same
//! path. Here every value of `W` is a function of the row's key, the channel, the position and `σ` alone: the axis is cut
//! into octaves, each with an increment of its own, and an octave is halved again and again, the middle being drawn given
//! both ends. Each random number has a place of its own in a counter-based stream. So a row gets the same noise in every
//! batch, on every device, with every schedule that meets the same levels, however long it is and whatever was asked
//! before.

use burn::tensor::{Device, Tensor};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use super::noise::{Noise, upload};

/// How often an octave is halved: levels are told apart if they differ by a millionth.
const HALVINGS: u32 = 20;
/// Grid points of an octave.
const CELLS: u64 = 1 << HALVINGS;
/// The first octave goes from 0 to this power of two, each other one from a power of two to the next.
const FIRST: i32 = -20;
/// Stands for no octave: [`Noise::initial`].
const INITIAL: u64 = (1 << 11) - 1;

/// What the noise of one trajectory depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoiseKey {
    /// Of the run.
    pub seed: u64,
    /// Of the prompt: see [`NoiseKey::new`].
    pub prompt: u64,
    /// Which of the prompt's samples.
    pub sample: u64,
}

impl NoiseKey {
    /// Key of the `sample`-th trajectory of the text `prompt`.
    pub fn new(seed: u64, prompt: &str, sample: u64) -> Self {
        let digest: [u8; 32] = Sha256::digest(prompt).into();
        let [prompt, ..] = *digest.as_chunks::<8>().0 else { unreachable!("a digest has 32 bytes") };
        Self { seed, prompt: u64::from_le_bytes(prompt), sample }
    }
}

/// Noise that depends on a row's key and the noise levels alone.
#[derive(Debug, Clone)]
pub struct BrownianNoise {
    rows: Vec<Row>,
    channels: usize,
    length: usize,
}

#[derive(Debug, Clone)]
struct Row {
    generator: ChaCha8Rng,
    channels: usize,
    length: usize,
    /// What was asked for last, which the next step begins with.
    last: Option<(Level, Vec<f64>)>,
}

/// A noise level on the grid: `cell` of `CELLS` in an octave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Level {
    octave: u64,
    cell: u64,
}

impl BrownianNoise {
    /// Noise for trajectories of `channels` × `length` values.
    pub fn new(rows: &[NoiseKey], channels: usize, length: usize) -> Self {
        let row = |key: &NoiseKey| {
            let parts = [key.seed, key.prompt, key.sample].map(u64::to_le_bytes);
            let digest = Sha256::new().chain_update("diffusion").chain_update(parts.as_flattened()).finalize();
            Row { generator: ChaCha8Rng::from_seed(digest.into()), channels, length, last: None }
        };
        Self { rows: rows.iter().map(row).collect(), channels, length }
    }

    fn shape(&self) -> [usize; 3] {
        [self.rows.len(), self.channels, self.length]
    }

    fn starts(&self) -> Vec<f32> {
        self.rows.iter().flat_map(|row| row.normal(INITIAL, 0)).map(|value| value as f32).collect()
    }

    fn steps(&mut self, from: f64, to: f64) -> Vec<f32> {
        let (from, to) = apart(from, to);
        let scale = 1.0 / (to.sigma() - from.sigma()).abs().sqrt();
        let increments = self.rows.iter_mut().flat_map(|row| row.increment(from, to));
        increments.map(|value| (value * scale) as f32).collect()
    }
}

impl Noise for BrownianNoise {
    fn initial(&mut self, device: &Device) -> Tensor<3> {
        upload(self.starts(), self.shape(), device)
    }

    /// `(W(to) − W(from)) / √|to − from|`, whatever `step` is. Levels that are closer than a millionth are taken to be one
    /// cell of the grid apart.
    ///
    /// # Panics
    /// If a level is not a finite number, 0 or more.
    fn between(&mut self, _: usize, from: f64, to: f64, device: &Device) -> Tensor<3> {
        upload(self.steps(from, to), self.shape(), device)
    }
}

/// Two different levels of the grid, near `from` and `to`.
fn apart(from: f64, to: f64) -> (Level, Level) {
    let [start, end] = [from, to].map(Level::of);
    match start {
        _ if start != end => (start, end),
        Level { cell: 0, .. } => (start, Level { cell: 1, ..start }),
        Level { cell, .. } => (start, Level { cell: cell - 1, ..start }),
    }
}

impl Level {
    /// The grid point at or below `sigma`.
    fn of(sigma: f64) -> Self {
        assert!(sigma.is_finite() && sigma >= 0.0, "a noise level of {sigma}");
        let first = f64::from(FIRST).exp2();
        let mut octave = 0;
        // The exponent, off the bits: logarithms round.
        if sigma >= first {
            octave = (sigma.to_bits() >> 52) - (first.to_bits() >> 52) + 1;
        }
        let level = Self { octave, cell: 0 };
        Self { cell: ((sigma - level.start()) / level.width() * CELLS as f64) as u64, ..level }
    }

    /// Where the octave begins.
    fn start(self) -> f64 {
        if self.octave == 0 { 0.0 } else { self.width() }
    }

    /// How long the octave is.
    fn width(self) -> f64 {
        f64::from(FIRST + (self.octave as i32 - 1).max(0)).exp2()
    }

    fn sigma(self) -> f64 {
        self.start() + self.width() * (self.cell as f64 / CELLS as f64)
    }
}

impl Row {
    /// `W(to) − W(from)`, `[channels, length]`.
    fn increment(&mut self, from: Level, to: Level) -> Vec<f64> {
        if to < from {
            return self.increment(to, from).into_iter().map(|value| -value).collect();
        }
        let start = self.within(from);
        let mut sum: Vec<f64> = self.within(to).into_iter().zip(start).map(|(to, from)| to - from).collect();
        for octave in from.octave..to.octave {
            add(&mut sum, &self.whole(Level { octave, cell: 0 }), 1.0);
        }
        sum
    }

    /// `W` at `level` less `W` at the start of its octave.
    fn within(&mut self, level: Level) -> Vec<f64> {
        if let Some((last, values)) = &self.last
            && *last == level
        {
            return values.clone();
        }
        let values = self.bridge(level);
        self.last = Some((level, values.clone()));
        values
    }

    fn bridge(&self, level: Level) -> Vec<f64> {
        let mut left = vec![0.0; self.channels * self.length];
        if level.cell == 0 {
            return left;
        }
        let mut right = self.whole(level);
        let (mut start, mut cells, mut width, mut node) = (0, CELLS, level.width(), 1);
        loop {
            // Given both ends, the middle is normal around their mean with a quarter of the width as its variance.
            let deviation = 0.5 * width.sqrt();
            let mut middle = self.normal(level.octave, node);
            for ((middle, left), right) in middle.iter_mut().zip(&left).zip(&right) {
                *middle = 0.5 * (left + right) + deviation * *middle;
            }
            cells /= 2;
            width *= 0.5;
            let is_right = level.cell >= start + cells;
            if level.cell == start + cells {
                return middle;
            }
            node = 2 * node + u64::from(is_right);
            if is_right {
                start += cells;
                left = middle;
            } else {
                right = middle;
            }
        }
    }

    /// The increment of a whole octave.
    fn whole(&self, of: Level) -> Vec<f64> {
        let mut values = self.normal(of.octave, 0);
        let deviation = of.width().sqrt();
        for value in &mut values {
            *value *= deviation;
        }
        values
    }

    /// Unit normal numbers `[channels, length]` of one node of an octave's tree. Each channel has a stream of its own, so
    /// that a longer row begins like a shorter one.
    fn normal(&self, octave: u64, node: u64) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.channels * self.length);
        for channel in 0..self.channels as u64 {
            let mut generator = self.generator.clone();
            generator.set_stream(channel << 32 | octave << 21 | node);
            values.extend(Distribution::<f64>::sample_iter(StandardNormal, &mut generator).take(self.length));
        }
        values
    }
}

fn add(sum: &mut [f64], values: &[f64], sign: f64) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += sign * value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: NoiseKey, channels: usize, length: usize) -> Row {
        BrownianNoise::new(&[key], channels, length).rows.remove(0)
    }

    const KEY: NoiseKey = NoiseKey { seed: 1, prompt: 2, sample: 3 };

    #[test]
    fn the_grid_covers_all_levels() {
        for (sigma, octave, cell) in [
            (0.0, 0, 0),
            ((-21f64).exp2(), 0, CELLS / 2),
            ((-20f64).exp2(), 1, 0),
            (1.0, 21, 0),
            (1.5, 21, CELLS / 2),
            (2.0, 22, 0),
            (500.0, 29, ((500.0 - 256.0) / 256.0 * CELLS as f64) as u64),
        ] {
            assert_eq!(Level::of(sigma), Level { octave, cell }, "{sigma}");
        }
        assert!(Level::of(f64::MAX).octave < INITIAL);
    }

    #[test]
    fn increments_are_unit_normal_and_independent() {
        // 40 000 numbers: means within 4/√n = 0.02, variances within 4·√(2/n) = 0.03, correlations within 0.02.
        let mut row = row(KEY, 4, 10_000);
        let steps = [500.0, 480.0, 300.0, 200.0, 7.3, 7.2, 0.4, 0.3, 1e-7, 0.0];
        let mut all = vec![row.normal(INITIAL, 0)];
        for pair in steps.windows(2) {
            let (from, to) = apart(pair[0], pair[1]);
            let scale = 1.0 / (to.sigma() - from.sigma()).abs().sqrt();
            all.push(row.increment(from, to).into_iter().map(|value| value * scale).collect());
        }
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 40_000.0;
        for (index, values) in all.iter().enumerate() {
            assert!(mean(&mut values.iter().copied()).abs() < 0.02, "step {index}");
            let variance = mean(&mut values.iter().map(|value| value * value));
            assert!((variance - 1.0).abs() < 0.03, "step {index}: {variance}");
            let beyond = values.iter().filter(|value| value.abs() > 1.959_964).count() as f64 / 40_000.0;
            // 5 % with a deviation of 0.11 %.
            assert!((beyond - 0.05).abs() < 0.005, "step {index}: {beyond}");
            for (other, others) in all[..index].iter().enumerate() {
                let correlation = mean(&mut values.iter().zip(others).map(|(a, b)| a * b));
                assert!(correlation.abs() < 0.022, "steps {index} and {other}: {correlation}");
            }
            let neighbours = mean(&mut values.windows(2).map(|pair| pair[0] * pair[1]));
            let channels = mean(&mut values.iter().zip(&values[10_000..]).map(|(a, b)| a * b));
            assert!(neighbours.abs() < 0.022 && channels.abs() < 0.022, "step {index}: {neighbours} {channels}");
        }
    }

    #[test]
    fn a_row_depends_on_its_key_alone() {
        let other = NoiseKey::new(1, "piano", 0);
        let read = |keys: &[NoiseKey], length: usize| -> Vec<Vec<f32>> {
            let mut noise = BrownianNoise::new(keys, 2, length);
            let mut all = vec![noise.starts()];
            all.extend(
                [(500.0, 300.0), (300.0, 10.0), (300.0, 10.0), (1.0, 0.3)].map(|(from, to)| noise.steps(from, to)),
            );
            all
        };
        let (alone, second) = (read(&[KEY], 5), read(&[other], 5));
        for (step, both) in read(&[KEY, other], 5).into_iter().enumerate() {
            assert_eq!(both, [alone[step].clone(), second[step].clone()].concat());
        }
        // A longer row begins like a shorter one.
        for (short, long) in alone.iter().zip(read(&[KEY], 9)) {
            assert_eq!((&long[..5], &long[9..14]), (&short[..5], &short[5..]));
        }
        assert_eq!(alone[2], alone[3]);
        let keys = [NoiseKey { seed: 2, ..KEY }, NoiseKey { prompt: 3, ..KEY }, NoiseKey { sample: 4, ..KEY }];
        for key in keys {
            for (a, b) in alone.iter().zip(read(&[key], 5)) {
                assert!(a.iter().zip(&b).all(|(a, b)| a != b), "{key:?}");
            }
        }
        assert_ne!(NoiseKey::new(1, "piano", 0), NoiseKey::new(1, "violin", 0));
    }

    proptest! {
        #[test]
        fn increments_add_up(levels in prop::collection::vec(0f64..600.0, 2..8), order in any::<u64>()) {
            let mut grid: Vec<Level> = levels.iter().map(|&sigma| Level::of(sigma)).collect();
            let mut row = row(KEY, 2, 3);
            let whole = row.increment(grid[0], grid[grid.len() - 1]);
            let mut sum = vec![0.0; 6];
            for pair in grid.windows(2) {
                add(&mut sum, &row.increment(pair[0], pair[1]), 1.0);
            }
            // Values of up to some 100 are added in 64 bit.
            for (sum, whole) in sum.iter().zip(&whole) {
                prop_assert!((sum - whole).abs() < 1e-10, "{sum} {whole}");
            }
            // What was asked before changes no bit.
            let (start, end) = (grid[0], grid[grid.len() - 1]);
            grid.rotate_left(order as usize % levels.len());
            for pair in grid.windows(2) {
                row.increment(pair[0], pair[1]);
            }
            prop_assert_eq!(row.increment(start, end), whole);
        }

        #[test]
        fn levels_that_are_near_are_still_apart(sigma in 0f64..600.0) {
            for (from, to) in [(sigma, sigma), (sigma, sigma * (1.0 + 1e-9))] {
                let (from, to) = apart(from, to);
                prop_assert!(from != to);
                prop_assert!((from.sigma() - sigma).abs() <= 2e-6 * sigma + 1e-12);
            }
        }
    }
}
