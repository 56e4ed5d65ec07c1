//! `exp(−γ‖x − x′‖²)`, by blocks, and the rows of it that are kept.

use ndarray::{Array2, ArrayView2, Axis, linalg::general_mat_mul, s};

use crate::probes::{
    Features,
    products::{centred, parallel},
};

/// Rows that are made together.
const BLOCK: usize = 256;
/// Fewest rows that are kept.
const FEWEST: usize = 64;

/// Rows with a Gaussian around each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kernel {
    mean: Vec<f64>,
    /// Less the mean, which no distance notices and 32 bits do.
    rows: Array2<f32>,
    /// Squared lengths.
    squares: Vec<f64>,
    gamma: f64,
}

impl Kernel {
    pub(super) fn new(mean: Vec<f64>, rows: Array2<f32>, gamma: f64) -> Self {
        let squares = squares(rows.view());
        Self { mean, rows, squares, gamma }
    }

    pub(super) fn len(&self) -> usize {
        self.squares.len()
    }

    /// The same with some of the rows.
    pub(super) fn of(&self, rows: &[usize]) -> Self {
        Self {
            mean: self.mean.clone(),
            rows: self.rows.select(Axis(0), rows),
            squares: rows.iter().map(|row| self.squares[*row]).collect(),
            gamma: self.gamma,
        }
    }

    /// Values between `left` and the rows in `range`.
    fn between(&self, left: ArrayView2<'_, f32>, left_squares: &[f64], range: std::ops::Range<usize>) -> Array2<f32> {
        let right = self.rows.slice(s![range.clone(), ..]);
        let mut values = Array2::zeros((left.nrows(), range.len()));
        general_mat_mul(1.0, &left, &right.t(), 0.0, &mut values);
        for (mut row, square) in values.axis_iter_mut(Axis(0)).zip(left_squares) {
            for (value, other) in row.iter_mut().zip(&self.squares[range.clone()]) {
                let distance = (square + other - 2.0 * f64::from(*value)).max(0.0);
                *value = (-self.gamma * distance).exp() as f32;
            }
        }
        values
    }

    /// The rows `wanted`, over all rows.
    fn some(&self, wanted: &[usize]) -> Array2<f32> {
        let left = self.rows.select(Axis(0), wanted);
        let squares: Vec<f64> = wanted.iter().map(|row| self.squares[*row]).collect();
        let size = BLOCK * 4;
        let range = |block: usize| block * size..((block + 1) * size).min(self.len());
        let blocks = parallel(self.len().div_ceil(size), |block| self.between(left.view(), &squares, range(block)));
        let mut all = Array2::zeros((wanted.len(), self.len()));
        for (index, block) in blocks.into_iter().enumerate() {
            all.slice_mut(s![.., range(index)]).assign(&block);
        }
        all
    }

    /// All rows over all rows; each pair is computed once.
    fn whole(&self) -> Array2<f32> {
        let count = self.len();
        let range = |block: usize| block * BLOCK..((block + 1) * BLOCK).min(count);
        let blocks = parallel(count.div_ceil(BLOCK), |block| {
            let left = range(block);
            self.between(self.rows.slice(s![left.clone(), ..]), &self.squares[left.clone()], left.start..count)
        });
        let mut all = Array2::zeros((count, count));
        for (index, block) in blocks.into_iter().enumerate() {
            let left = range(index);
            all.slice_mut(s![left.start.., left.clone()]).assign(&block.t());
            all.slice_mut(s![left.clone(), left.start..]).assign(&block);
        }
        all
    }

    /// `Σⱼ weightⱼ k(rowⱼ, x)` for every row of `features`.
    ///
    /// # Panics
    /// If they have another number of features.
    pub(super) fn weighted(&self, features: Features<'_>, weights: &[f64]) -> Vec<f64> {
        assert_eq!(features.width, self.mean.len(), "features of the rows and of the support");
        let blocks = parallel(features.rows().div_ceil(BLOCK), |block| {
            let end = ((block + 1) * BLOCK).min(features.rows());
            let values = &features.values[block * BLOCK * features.width..end * features.width];
            let left = centred(Features::new(values, features.width), &self.mean);
            let squares = squares(left.view());
            let mut sums = vec![0.0; left.nrows()];
            for start in (0..self.len()).step_by(BLOCK * 4) {
                let range = start..(start + BLOCK * 4).min(self.len());
                let values = self.between(left.view(), &squares, range.clone());
                for (sum, row) in sums.iter_mut().zip(values.rows()) {
                    let weighted = row.iter().zip(&weights[range.clone()]);
                    *sum += weighted.map(|(value, weight)| f64::from(*value) * weight).sum::<f64>();
                }
            }
            sums
        });
        blocks.concat()
    }
}

fn squares(rows: ArrayView2<'_, f32>) -> Vec<f64> {
    rows.rows().into_iter().map(|row| row.iter().map(|value| f64::from(*value).powi(2)).sum()).collect()
}

/// Rows of the kernel over all rows: all at once where they fit, else those that were asked for last.
pub(super) struct KernelRows<'a> {
    kernel: &'a Kernel,
    /// One row per slot.
    values: Array2<f32>,
    /// Which slot has a row.
    slot_of: Vec<Option<u32>>,
    /// Which row a slot has, and when it was asked for.
    slots: Vec<(usize, u64)>,
    clock: u64,
}

impl<'a> KernelRows<'a> {
    /// Keeps at most `bytes` of rows, but 64 rows in any case.
    pub(super) fn new(kernel: &'a Kernel, bytes: usize) -> Self {
        let count = kernel.len();
        let fitting = (bytes / (count * size_of::<f32>())).max(FEWEST);
        if fitting >= count {
            let slots = (0..count).map(|row| (row, 0)).collect();
            let slot_of = (0..count).map(|row| Some(row as u32)).collect();
            return Self { kernel, values: kernel.whole(), slot_of, slots, clock: 0 };
        }
        let values = Array2::zeros((fitting, count));
        Self { kernel, values, slot_of: vec![None; count], slots: Vec::with_capacity(fitting), clock: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.kernel.len()
    }

    pub(super) fn has(&self, row: usize) -> bool {
        self.slot_of[row].is_some()
    }

    /// Makes sure that `row` is there; the row of the last call stays. If it must be made, those of `likely` that are not
    /// there are made with it, at little more cost.
    pub(super) fn bring(&mut self, row: usize, likely: impl FnOnce(&Self) -> Vec<usize>) {
        self.clock += 1;
        if let Some(slot) = self.slot_of[row] {
            self.slots[slot as usize].1 = self.clock;
            return;
        }
        let mut wanted = vec![row];
        for other in likely(self) {
            if !wanted.contains(&other) && !self.has(other) {
                wanted.push(other);
            }
        }
        wanted.truncate(FEWEST / 4);
        let made = self.kernel.some(&wanted);
        for (row, values) in wanted.into_iter().zip(made.rows()) {
            let slot = if self.slots.len() < self.values.nrows() {
                self.slots.push((row, 0));
                self.slots.len() - 1
            } else {
                let oldest = (0..self.slots.len()).min_by_key(|slot| self.slots[*slot].1).unwrap_or(0);
                self.slot_of[self.slots[oldest].0] = None;
                oldest
            };
            self.values.row_mut(slot).assign(&values);
            self.slots[slot] = (row, self.clock);
            self.slot_of[row] = Some(slot as u32);
        }
    }

    /// A row that is there.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        let slot = self.slot_of[row].expect("the row was brought") as usize;
        let width = self.len();
        &self.values.as_slice().expect("rows of slots are in order")[slot * width..(slot + 1) * width]
    }
}
