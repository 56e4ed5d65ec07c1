//! One product, divided among threads.

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

/// `x Wᵀ`, cut into units of a few panels of outputs and up to [`ROWS`] rows.
///
/// The calling thread starts at once; others take units from the moment they are awake, and the caller waits for no
/// thread that has not begun. So a busy machine costs what it takes from us, and not a sleep per product.
struct Product {
    matrix: Arc<dyn Panel>,
    out: usize,
    rows: usize,
    /// For each [`ROWS`] rows, `[block, row]`.
    x: Vec<Vec<[f32; BLOCK]>>,
    panels: usize,
    panels_per_unit: usize,
    units: usize,
    /// The next unit that no thread has taken.
    next: AtomicUsize,
    /// How many units are in `y`.
    finished: AtomicUsize,
    /// `[rows, out]`
    y: Mutex<Vec<f32>>,
}

/// `x Wᵀ` for `x` `[rows, in]`, whose elements `number` makes to `f32`; row-major `[rows, out]`.
pub(super) fn multiply<T: Copy>(
    matrix: &Arc<dyn Panel>,
    [out, width]: [usize; 2],
    x: &[T],
    rows: usize,
    number: impl Fn(T) -> f32,
) -> Vec<f32> {
    if rows * out * width == 0 {
        return vec![0.0; rows * out];
    }
    let x: Vec<_> = x.chunks(ROWS * width).map(|x| blocks(x, width, &number)).collect();
    let panels = out.div_ceil(WIDTH);
    // On many threads, shorter stretches than some without work.
    let share = panels.div_ceil(UNITS_PER_THREAD * rayon::current_num_threads());
    let panels_per_unit = (STRETCH * panels).div_ceil(matrix.bytes()).min(share);
    let product = Product {
        matrix: Arc::clone(matrix),
        out,
        rows,
        units: x.len() * panels.div_ceil(panels_per_unit),
        x,
        panels,
        panels_per_unit,
        next: AtomicUsize::new(0),
        finished: AtomicUsize::new(0),
        y: Mutex::new(vec![0.0; rows * out]),
    };
    if rows * out * width < WORTH_A_THREAD || rayon::current_num_threads() == 1 {
        product.work();
        return product.result();
    }
    let product = Arc::new(product);
    for _ in 1..rayon::current_num_threads().min(product.units) {
        let product = Arc::clone(&product);
        rayon::spawn(move || product.work());
    }
    product.work();
    product.wait();
    product.result()
}

impl Product {
    /// Takes units until there are no more.
    fn work(&self) {
        let mut y = Vec::new();
        loop {
            let unit = self.next.fetch_add(1, Ordering::Relaxed);
            if unit >= self.units {
                return;
            }
            let units_per_part = self.panels.div_ceil(self.panels_per_unit);
            let (part, first) = (unit / units_per_part, unit % units_per_part * self.panels_per_unit);
            let rows = ROWS.min(self.rows - part * ROWS);
            let panels = first..self.panels.min(first + self.panels_per_unit);
            y.resize(panels.len() * rows, [0.0; WIDTH]);
            for (panel, y) in panels.zip(y.chunks_exact_mut(rows)) {
                self.matrix.product(panel, &self.x[part], y);
            }
            let mut result = self.y.lock().unwrap_or_else(PoisonError::into_inner);
            let result_rows = result[part * ROWS * self.out..].chunks_exact_mut(self.out);
            for (row, to) in result_rows.take(rows).enumerate() {
                for (to, from) in to[first * WIDTH..].chunks_mut(WIDTH).zip(y[row..].iter().step_by(rows)) {
                    to.copy_from_slice(&from[..to.len()]);
                }
            }
            drop(result);
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

    fn result(&self) -> Vec<f32> {
        std::mem::take(&mut *self.y.lock().unwrap_or_else(PoisonError::into_inner))
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
