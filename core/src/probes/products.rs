//! Products of matrices over all cores, with the same bits for any number of them.

use std::{
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use linfa_linalg::{
    LinalgError,
    cholesky::CholeskyInplace,
    triangular::{SolveTriangularInplace, UPLO},
};
use ndarray::{Array2, ArrayView2, LinalgScalar, linalg::general_mat_mul, s};

use super::Features;

/// Rows that are worked on together: enough for a matrix product, few enough for the cache.
const ROWS: usize = 1024;
/// Columns of a panel of a Gram matrix.
const PANEL: usize = 128;

/// Results of the tasks `0..tasks`, in order. They run beside each other, so none may depend on another.
pub(super) fn parallel<T: Send>(tasks: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(tasks);
    if threads < 2 {
        return (0..tasks).map(run).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return done;
            }
            done.push((task, run(task)));
        }
    };
    let mut all: Vec<(usize, T)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(task, _)| *task);
    all.into_iter().map(|(_, result)| result).collect()
}

/// `XᵀX` of the rows of `x`, both triangles; products in the type of `x`, sums over blocks of rows in 64 bit.
pub(super) fn gram<A: LinalgScalar + Into<f64> + Send + Sync>(x: ArrayView2<'_, A>) -> Array2<f64> {
    let (rows, width) = x.dim();
    let panels = width.div_ceil(PANEL);
    let pairs: Vec<(usize, usize)> =
        (0..panels).flat_map(|first| (first..panels).map(move |second| (first, second))).collect();
    let range = |panel: usize| panel * PANEL..((panel + 1) * PANEL).min(width);
    let blocks = parallel(pairs.len(), |pair| {
        let (first, second) = pairs[pair];
        let (left, right) = (range(first), range(second));
        let mut sum = Array2::<f64>::zeros((left.len(), right.len()));
        let mut product = Array2::<A>::zeros((left.len(), right.len()));
        for start in (0..rows).step_by(ROWS) {
            let of = start..(start + ROWS).min(rows);
            let (a, b) = (x.slice(s![of.clone(), left.clone()]), x.slice(s![of, right.clone()]));
            general_mat_mul(A::one(), &a.t(), &b, A::zero(), &mut product);
            sum.zip_mut_with(&product, |sum, product| *sum += (*product).into());
        }
        sum
    });
    let mut all = Array2::zeros((width, width));
    for ((first, second), block) in pairs.into_iter().zip(blocks) {
        all.slice_mut(s![range(first), range(second)]).assign(&block);
        all.slice_mut(s![range(second), range(first)]).assign(&block.t());
    }
    all
}

/// The lower triangle `L` of `L Lᵀ = system`, zeros above, by blocks of columns: linfa's own takes one number at a time.
///
/// # Source
/// Golub and Van Loan, "Matrix Computations", 2013, section 4.2.9.
pub(super) fn cholesky(system: &Array2<f64>) -> Result<Array2<f64>, LinalgError> {
    const BLOCK: usize = 64;
    let size = system.nrows();
    let mut factor = system.clone();
    for start in (0..size).step_by(BLOCK) {
        let end = (start + BLOCK).min(size);
        let mut corner = factor.slice(s![start..end, start..end]).to_owned();
        corner.cholesky_inplace()?;
        factor.slice_mut(s![start..end, start..end]).assign(&corner);
        factor.slice_mut(s![start..end, end..]).fill(0.0);
        // `corner · Xᵀ` is what stands above the block below.
        let mut below = factor.slice(s![end.., start..end]).t().to_owned();
        if end < size {
            corner.solve_triangular_inplace(&mut below, UPLO::Lower)?;
        }
        let below = below.t();
        factor.slice_mut(s![end.., start..end]).assign(&below);
        for first in (end..size).step_by(PANEL) {
            let last = (first + PANEL).min(size);
            let (rows, columns) = (below.slice(s![first - end.., ..]), below.slice(s![first - end..last - end, ..]));
            general_mat_mul(-1.0, &rows, &columns.t(), 1.0, &mut factor.slice_mut(s![first.., first..last]));
        }
    }
    Ok(factor)
}

/// Mean of every column.
pub(super) fn mean(features: Features<'_>) -> Vec<f64> {
    let rows = features.rows() as f64;
    let mut sums = weighted_sum(features, &vec![1.0; features.rows()]);
    for sum in &mut sums {
        *sum /= rows;
    }
    sums
}

/// `features` less `mean`, in 32 bit.
pub(super) fn centred(features: Features<'_>, mean: &[f64]) -> Array2<f32> {
    let width = features.width;
    let value =
        |(row, column): (usize, usize)| (f64::from(features.values[row * width + column]) - mean[column]) as f32;
    Array2::from_shape_fn((features.rows(), width), value)
}

/// `X w + shift`, a number per row.
pub(super) fn scores(features: Features<'_>, weights: &[f64], shift: f64) -> Vec<f64> {
    let blocks = features.rows().div_ceil(ROWS);
    let of_block = |block: usize| -> Vec<f64> { features.block(block).map(|row| dot(row, weights) + shift).collect() };
    parallel(blocks, of_block).concat()
}

/// `Xᵀ r`, a number per column.
pub(super) fn weighted_sum(features: Features<'_>, by: &[f64]) -> Vec<f64> {
    let blocks = parallel(features.rows().div_ceil(ROWS), |block| {
        let mut sum = vec![0.0; features.width];
        for (row, &weight) in features.block(block).zip(&by[block * ROWS..]) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        sum
    });
    let mut all = vec![0.0; features.width];
    for block in blocks {
        all.iter_mut().zip(block).for_each(|(all, sum)| *all += sum);
    }
    all
}

impl<'a> Features<'a> {
    fn block(self, block: usize) -> impl Iterator<Item = &'a [f32]> {
        let end = ((block + 1) * ROWS).min(self.rows());
        self.values[block * ROWS * self.width..end * self.width].chunks_exact(self.width)
    }
}

/// In eight sums, which the processor adds to side by side.
fn dot(row: &[f32], weights: &[f64]) -> f64 {
    let ((row, row_rest), (weights, weights_rest)) = (row.as_chunks::<8>(), weights.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (row, weights) in row.iter().zip(weights) {
        for lane in 0..8 {
            sums[lane] += f64::from(row[lane]) * weights[lane];
        }
    }
    let rest: f64 = row_rest.iter().zip(weights_rest).map(|(value, weight)| f64::from(*value) * weight).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_what_the_whole_gives() {
        let (rows, width) = (2500, 300);
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect();
        let features = Features::new(&values, width);
        let x = Array2::from_shape_vec((rows, width), values.clone()).unwrap().mapv(f64::from);
        let want = x.t().dot(&x);
        // Whole numbers of 1/256: all sums are exact.
        assert_eq!(gram(x.view()), want);
        let single = Array2::from_shape_vec((rows, width), values.clone()).unwrap();
        assert!((&gram(single.view()) - &want).iter().all(|difference| difference.abs() < 1.0));
        let by: Vec<f64> = (0..rows).map(|row| row as f64).collect();
        let weights: Vec<f64> = (0..width).map(|column| column as f64).collect();
        assert_eq!(weighted_sum(features, &by), x.t().dot(&ndarray::Array1::from(by.clone())).to_vec());
        let want = x.dot(&ndarray::Array1::from(weights.clone())) + 0.5;
        assert_eq!(scores(features, &weights, 0.5), want.to_vec());
    }

    #[test]
    fn the_triangle_times_itself_is_the_system() {
        for size in [1, 5, 64, 65, 200, 333] {
            let x =
                Array2::from_shape_fn((size + 9, size), |(row, column)| ((row * 31 + column * 17) % 23) as f64 - 11.0);
            let mut system = x.t().dot(&x);
            system.diag_mut().mapv_inplace(|value| value + 1.0);
            let factor = cholesky(&system).unwrap();
            let largest = system.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            assert!((&factor.dot(&factor.t()) - &system).iter().all(|error| error.abs() < 1e-10 * largest), "{size}");
            assert!(factor.indexed_iter().all(|((row, column), value)| column <= row || *value == 0.0));
        }
        assert!(cholesky(&ndarray::array![[1.0, 2.0], [2.0, 1.0]]).is_err());
    }

    #[test]
    fn tasks_come_back_in_order() {
        assert_eq!(parallel(100, |task| task * task), (0..100).map(|task| task * task).collect::<Vec<_>>());
        assert!(parallel(0, |task| task).is_empty());
    }
}
