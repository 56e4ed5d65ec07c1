//! Matrices divided among instances of a program that share no memory, such as the workers of a browser's page.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tonoscope_core::checkpoint::MatrixValues;

use super::{CpuMatrix, kernel::WIDTH, product};
use crate::WeightFormat;

/// Others that hold a share of every large matrix, each in a [`Member`], and do what they are told in the order in which they
/// are told it.
pub trait Crew: fmt::Debug + Send + Sync {
    /// How many there are, beside the one that calls.
    fn members(&self) -> usize;

    /// How many numbers a member takes or gives at once.
    fn capacity(&self) -> usize;

    /// Weights below which telling them costs more than it saves.
    fn least(&self) -> usize;

    /// Tells `member` to keep `weights`, some outputs of a matrix: [`Member::keep`].
    fn keep(&self, member: usize, id: u32, format: WeightFormat, shape: [usize; 2], weights: &[f32]);

    /// Tells all of them to multiply, and does not wait: [`Member::multiply`].
    fn multiply(&self, ids: &[u32], x: &[f32], rows: usize);

    /// What `member` made of it, as soon as it is there.
    fn products(&self, member: usize, y: &mut [f32]);

    /// Tells all of them to forget a matrix: [`Member::forget`].
    fn forget(&self, id: u32);
}

/// What one of a [`Crew`] holds.
#[derive(Debug, Default)]
pub struct Member(HashMap<u32, CpuMatrix>);

impl Member {
    /// Keeps `values`, row-major of shape `[out, in]`, under a number.
    pub fn keep(&mut self, id: u32, format: WeightFormat, shape: [usize; 2], values: &MatrixValues<'_>) {
        self.0.insert(id, CpuMatrix::new(format, shape, values));
    }

    /// `x Wᵀ` for `x` `[rows, in]` and each of the matrices, one after another: `[rows, out]` each.
    ///
    /// # Panics
    /// If it does not hold one of them.
    pub fn multiply(&self, ids: &[u32], x: &[f32], rows: usize) -> Vec<f32> {
        let matrices: Vec<_> = ids.iter().map(|id| &self.0[id]).collect();
        own(&matrices, x, rows).concat()
    }

    /// Forgets a matrix.
    pub fn forget(&mut self, id: u32) {
        self.0.remove(&id);
    }
}

/// What others hold of a matrix.
#[derive(Debug)]
pub(super) struct Rest {
    crew: Arc<dyn Crew>,
    id: u32,
    /// Outputs of the one that calls and of each member.
    shares: Vec<Range<usize>>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.crew.forget(self.id);
    }
}

impl Rest {
    /// Hands out all but a first share of the matrix; the outputs that are left, and `None` for a matrix that is too small.
    pub(super) fn new(
        crew: &Arc<dyn Crew>,
        format: WeightFormat,
        [out, width]: [usize; 2],
        values: &MatrixValues<'_>,
    ) -> Option<(usize, Self)> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (panels, sharers) = (out.div_ceil(WIDTH), crew.members() + 1);
        if sharers == 1 || panels < sharers || out * width < crew.least() || width > crew.capacity() {
            return None;
        }
        let bound = |sharer: usize| (panels * sharer / sharers * WIDTH).min(out);
        let shares: Vec<_> = (0..sharers).map(|sharer| bound(sharer)..bound(sharer + 1)).collect();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let weights = values.to_f32();
        for (member, share) in shares[1..].iter().enumerate() {
            let weights = &weights[share.start * width..share.end * width];
            crew.keep(member, id, format, [share.len(), width], weights);
        }
        Some((shares[0].len(), Self { crew: Arc::clone(crew), id, shares }))
    }
}

/// The products with what is held here of each matrix.
fn own(matrices: &[&CpuMatrix], x: &[f32], rows: usize) -> Vec<Vec<f32>> {
    let width = matrices.first().map_or(0, |matrix| matrix.shape[1]);
    let factors: Vec<_> = matrices.iter().map(|matrix| (&matrix.panels, matrix.own)).collect();
    product::multiply(&factors, width, x, rows, |number| number)
}

/// The crew of the first matrix that has one.
pub(super) fn of(matrices: &[&CpuMatrix]) -> Option<Arc<dyn Crew>> {
    matrices.iter().find_map(|matrix| matrix.rest.as_ref()).map(|rest| Arc::clone(&rest.crew))
}

/// The products of `x` `[rows, in]` with each of `matrices`, while `crew` does its part: `[rows, out]` each.
pub(super) fn multiply(crew: &dyn Crew, matrices: &[&CpuMatrix], x: &[f32], rows: usize) -> Vec<Vec<f32>> {
    let divided: Vec<_> = matrices.iter().filter_map(|matrix| matrix.rest.as_ref()).collect();
    let ids: Vec<_> = divided.iter().map(|rest| rest.id).collect();
    let given = |member: usize| divided.iter().map(|rest| rest.shares[member + 1].len()).sum::<usize>();
    let width = x.len() / rows.max(1);
    let largest = (0..crew.members()).map(given).fold(width, usize::max).max(1);
    let at_once = (crew.capacity() / largest).max(1);
    let mut results: Vec<_> = matrices.iter().map(|matrix| vec![0.0; rows * matrix.shape[0]]).collect();
    let mut answer = vec![];
    for (part, x) in x.chunks(at_once * width).enumerate() {
        let (from, rows) = (part * at_once, x.len() / width);
        crew.multiply(&ids, x, rows);
        for ((matrix, y), result) in matrices.iter().zip(own(matrices, x, rows)).zip(&mut results) {
            place(result, matrix.shape[0], from, &(0..matrix.own), &y);
        }
        for member in 0..crew.members() {
            answer.resize(rows * given(member), 0.0);
            crew.products(member, &mut answer);
            let mut answer = &*answer;
            for (matrix, result) in matrices.iter().zip(&mut results) {
                let Some(rest) = &matrix.rest else { continue };
                let share = &rest.shares[member + 1];
                let (y, others) = answer.split_at(rows * share.len());
                place(result, matrix.shape[0], from, share, y);
                answer = others;
            }
        }
    }
    results
}

/// Puts `y`, some outputs of the rows from `from` on, into a result whose rows have `out`.
fn place(result: &mut [f32], out: usize, from: usize, outputs: &Range<usize>, y: &[f32]) {
    for (row, y) in result[from * out..].chunks_exact_mut(out).zip(y.chunks_exact(outputs.len().max(1))) {
        row[outputs.clone()].copy_from_slice(y);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use burn::tensor::{Device, Tensor, TensorData};
    use half::f16;
    use tonoscope_core::checkpoint::{MatrixPacker, PackedMatrix};

    use super::{super::CpuPacker, *};

    /// Members that work when they are told to, and what they made.
    #[derive(Debug)]
    struct Here(Vec<Mutex<(Member, Vec<f32>)>>);

    impl Crew for Here {
        fn members(&self) -> usize {
            self.0.len()
        }

        fn capacity(&self) -> usize {
            4096
        }

        fn least(&self) -> usize {
            20_000
        }

        fn keep(&self, member: usize, id: u32, format: WeightFormat, shape: [usize; 2], weights: &[f32]) {
            self.0[member].lock().unwrap().0.keep(id, format, shape, &MatrixValues::F32(weights.into()));
        }

        fn multiply(&self, ids: &[u32], x: &[f32], rows: usize) {
            for member in &self.0 {
                let (member, made) = &mut *member.lock().unwrap();
                assert!(x.len() <= self.capacity());
                *made = member.multiply(ids, x, rows);
                assert!(made.len() <= self.capacity());
            }
        }

        fn products(&self, member: usize, y: &mut [f32]) {
            y.copy_from_slice(&self.0[member].lock().unwrap().1);
        }

        fn forget(&self, id: u32) {
            for member in &self.0 {
                member.lock().unwrap().0.forget(id);
            }
        }
    }

    #[test]
    fn a_crew_makes_the_same_products_and_keeps_nothing_that_is_dropped() {
        let width = 300;
        // The second is too small to be divided.
        let outputs = [1000, 33, 470];
        let device = Device::flex();
        for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8, WeightFormat::Int4] {
            let crew = Arc::new(Here((0..3).map(|_| Mutex::default()).collect()));
            let pack = |packer: &CpuPacker| -> Vec<Arc<dyn PackedMatrix>> {
                let number = |at: usize| ((at * 7919) % 2003) as f32 / 1001.0 - 1.0;
                let full = |out: usize| MatrixValues::F32((0..out * width).map(number).collect());
                let half =
                    |out: usize| MatrixValues::F16((0..out * width).map(|at| f16::from_f32(number(at))).collect());
                let values = [full(outputs[0]), full(outputs[1]), half(outputs[2])];
                values.into_iter().zip(outputs).map(|(values, out)| packer.pack([out, width], values)).collect()
            };
            let alone = pack(&CpuPacker::new(format));
            let together = pack(&CpuPacker::new(format).with_crew(Arc::<Here>::clone(&crew)));
            for member in &crew.0 {
                assert_eq!(member.lock().unwrap().0.0.len(), 2, "of the three matrices two are worth it");
            }
            for rows in [1, 2, 5, 150] {
                let x = (0..rows * width).map(|at| ((at * 31) % 977) as f32 / 488.0 - 1.0).collect::<Vec<_>>();
                let x = Tensor::<2>::from_data(TensorData::new(x, [rows, width]), &device);
                let products = |matrices: &[Arc<dyn PackedMatrix>]| -> Vec<TensorData> {
                    let made = matrices[0].products(&[&*matrices[1], &*matrices[2]], x.clone());
                    made.into_iter().chain([matrices[2].product(x.clone())]).map(Tensor::into_data).collect()
                };
                assert_eq!(products(&together), products(&alone), "{format}, {rows} rows");
            }
            drop(together);
            for member in &crew.0 {
                assert!(member.lock().unwrap().0.0.is_empty());
            }
        }
    }
}
