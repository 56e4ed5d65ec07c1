//! Products of one input, divided among threads.

use std::{
    hint,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    kernel::{BLOCK, WIDTH},
    pack::Panel,
};

/// Rows that are multiplied in one pass over the matrix: what of them one block of inputs takes fits the first cache.
const ROWS: usize = 72;
/// Multiplications below which a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 17;
/// Bytes of weights that a thread reads in one go, at least: what is asked for ahead of use is its own.
const STRETCH: usize = 1 << 17;
/// Units that each thread finds, at least, so that all end at about the same time.
const UNITS_PER_THREAD: usize = 4;

/// `x Wᵀ` of every matrix, cut into units of a few panels of outputs and up to [`ROWS`] rows.
///
/// The calling thread starts at once; others take units from the moment they are awake, and the caller waits for no
/// thread that has not begun. So a busy machine costs what it takes from us, and not a sleep per product.
struct Product {
    factors: Vec<Factor>,
    rows: usize,
    /// For each [`ROWS`] rows, `[block, row]`.
    x: Vec<Vec<[f32; BLOCK]>>,
    units: usize,
    /// The next unit that no thread has taken.
    next: AtomicUsize,
    /// How many units are in the results.
    finished: AtomicUsize,
}

/// One of the matrices that the same rows are multiplied by.
struct Factor {
    matrix: Arc<dyn Panel>,
    out: usize,
    panels: usize,
    panels_per_unit: usize,
    /// For each [`ROWS`] rows.
    units_per_part: usize,
    /// `[rows, out]`
    y: Mutex<Vec<f32>>,
}

/// `x Wᵀ` for `x` `[rows, in]`, whose elements `number` makes to `f32`; row-major `[rows, out]` for each of the
/// `matrices` `[out, in]`.
pub(super) fn multiply<T: Copy>(
    matrices: &[(&Arc<dyn Panel>, usize)],
    width: usize,
    x: &[T],
    rows: usize,
    number: impl Fn(T) -> f32,
) -> Vec<Vec<f32>> {
    let threads = rayon::current_num_threads();
    let factors: Vec<_> = matrices.iter().map(|(matrix, out)| Factor::new(matrix, *out, rows, threads)).collect();
    let multiplications = matrices.iter().map(|(_, out)| rows * out * width).sum::<usize>();
    if multiplications == 0 {
        return factors.into_iter().map(|factor| factor.result()).collect();
    }
    let x: Vec<_> = x.chunks(ROWS * width).map(|x| blocks(x, width, &number)).collect();
    let product = Product {
        units: factors.iter().map(|factor| x.len() * factor.units_per_part).sum(),
        factors,
        rows,
        x,
        next: AtomicUsize::new(0),
        finished: AtomicUsize::new(0),
    };
    if multiplications < WORTH_A_THREAD || threads == 1 {
        product.work();
        return product.results();
    }
    let product = Arc::new(product);
    for _ in 1..threads.min(product.units) {
        let product = Arc::clone(&product);
        rayon::spawn(move || product.work());
    }
    product.work();
    product.wait();
    product.results()
}

impl Factor {
    fn new(matrix: &Arc<dyn Panel>, out: usize, rows: usize, threads: usize) -> Self {
        let panels = out.div_ceil(WIDTH);
        // On many threads, shorter stretches than some without work.
        let share = panels.div_ceil(UNITS_PER_THREAD * threads);
        let panels_per_unit = (STRETCH * panels).div_ceil(matrix.bytes().max(1)).min(share).max(1);
        Self {
            matrix: Arc::clone(matrix),
            out,
            panels,
            panels_per_unit,
            units_per_part: panels.div_ceil(panels_per_unit),
            y: Mutex::new(vec![0.0; rows * out]),
        }
    }

    /// Puts the products of `x` `[block, row]`, the rows from `from` on, with a unit's panels into the result.
    fn work(&self, unit: usize, x: &[[f32; BLOCK]], from: usize, rows: usize, y: &mut Vec<[f32; WIDTH]>) {
        let first = unit * self.panels_per_unit;
        let panels = first..self.panels.min(first + self.panels_per_unit);
        y.resize(panels.len() * rows, [0.0; WIDTH]);
        for (panel, y) in panels.zip(y.chunks_exact_mut(rows)) {
            self.matrix.product(panel, x, y);
        }
        let mut result = self.y.lock().unwrap_or_else(PoisonError::into_inner);
        let result_rows = result[from * self.out..].chunks_exact_mut(self.out);
        for (row, to) in result_rows.take(rows).enumerate() {
            for (to, from) in to[first * WIDTH..].chunks_mut(WIDTH).zip(y[row..].iter().step_by(rows)) {
                to.copy_from_slice(&from[..to.len()]);
            }
        }
    }

    fn result(&self) -> Vec<f32> {
        std::mem::take(&mut *self.y.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Product {
    /// Takes units until there are no more.
    fn work(&self) {
        let mut y = Vec::new();
        loop {
            let mut unit = self.next.fetch_add(1, Ordering::Relaxed);
            if unit >= self.units {
                return;
            }
            for factor in &self.factors {
                let units = self.x.len() * factor.units_per_part;
                if unit < units {
                    let (part, unit) = (unit / factor.units_per_part, unit % factor.units_per_part);
                    let from = part * ROWS;
                    factor.work(unit, &self.x[part], from, ROWS.min(self.rows - from), &mut y);
                    break;
                }
                unit -= units;
            }
            self.finished.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits for the units that other threads have taken.
    fn wait(&self) {
        let mut turns = 0;
        while self.finished.load(Ordering::Acquire) < self.units {
            turns += 1;
            if turns < 1000 { hint::spin_loop() } else { thread::yield_now() }
        }
    }

    fn results(&self) -> Vec<Vec<f32>> {
        self.factors.iter().map(Factor::result).collect()
    }
}

/// `x` as `[block, row]`, filled up with zeros.
fn blocks<T: Copy>(x: &[T], width: usize, number: impl Fn(T) -> f32) -> Vec<[f32; BLOCK]> {
    let rows = x.len() / width;
    let mut blocks = vec![[0.0; BLOCK]; width.div_ceil(BLOCK) * rows];
    for (row, x) in x.chunks_exact(width).enumerate() {
        for (block, x) in x.chunks(BLOCK).enumerate() {
            for (to, from) in blocks[block * rows + row].iter_mut().zip(x) {
                *to = number(*from);
            }
        }
    }
    blocks
}
