//! What hooks have captured.

use std::{collections::BTreeMap, fmt, str::FromStr};

use burn::tensor::{ExecutionError, Tensor};

use super::{
    point::{HookPoint, Inner, Part, PointError, Site},
    read::read_floats,
    run::HookError,
    spec::Reduce,
};

/// What a captured tensor is called in a file: the point, and the reducer if it is not `everything`, as in
/// `decoder.3.resid_post:mean_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaptureName {
    /// Where.
    pub point: HookPoint,
    /// What was kept.
    pub reduce: Reduce,
}

impl fmt::Display for CaptureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reduce = match self.reduce {
            Reduce::Everything => "",
            Reduce::MeanPrompts => ":mean_prompts",
            Reduce::MeanTime => ":mean_time",
            Reduce::LastStep => ":last_step",
            Reduce::MeanPositions => ":mean_positions",
        };
        write!(f, "{}{reduce}", self.point)
    }
}

impl FromStr for CaptureName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (point, reduce) = match text.split_once(':') {
            Some((point, reduce)) => (point, reduce.parse()?),
            None => (text, Reduce::Everything),
        };
        Ok(Self { point: point.parse().map_err(|error: PointError| error.to_string())?, reduce })
    }
}

/// A captured tensor.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Where.
    pub point: HookPoint,
    /// What was kept.
    pub reduce: Reduce,
    /// Names of the axes that have a meaning at this site, outermost first: those of [`Self::shape`].
    pub axes: Vec<&'static str>,
    /// `[branch, prompt, step, head · positions, feature]`; 1 long where the reducer or the site has no such axis.
    pub tensor: Tensor<5>,
    /// Positions that the network sees at each step: the inner part of the fourth axis. 1 for networks that see one.
    pub positions: usize,
}

impl Captured {
    /// Shape without the axes that the site or the reducer does not have.
    pub fn shape(&self) -> Vec<usize> {
        let [branch, prompt, step, units, feature] = self.tensor.dims();
        let all = [branch, prompt, step, units / self.positions, self.positions, feature];
        self.axes.iter().map(|name| all[AXES.iter().position(|of| of == name).unwrap_or(0)]).collect()
    }

    /// Name in a file.
    pub fn name(&self) -> String {
        CaptureName { point: self.point, reduce: self.reduce }.to_string()
    }

    /// The values as `f32`, row-major in [`Self::shape`].
    ///
    /// # Errors
    /// If the device fails.
    pub async fn values(&self) -> Result<Vec<f32>, ExecutionError> {
        read_floats(self.tensor.clone()).await
    }
}

const AXES: [&str; 6] = ["branch", "prompt", "step", "head", "position", "feature"];

/// All captured tensors of a run.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// In the order of the points.
    pub entries: Vec<Captured>,
}

impl Cache {
    pub(crate) fn new(entries: Vec<Captured>) -> Self {
        Self { entries }
    }

    /// The tensor at `point`, of the first reducer that was asked for.
    pub fn get(&self, point: HookPoint) -> Option<&Captured> {
        self.entries.iter().find(|entry| entry.point == point)
    }
}

/// Collects one point over steps and batches.
#[derive(Debug)]
pub(crate) struct Recorder {
    point: HookPoint,
    reduce: Reduce,
    /// Positions per head of the tensors so far.
    positions: usize,
    /// Of the batch that is running, `[row, step, unit, feature]` each.
    chunks: Vec<Tensor<4>>,
    /// Sequences per guidance branch of the batch that is running.
    sequences: usize,
    /// Steps summed into `chunks[0]` by [`Reduce::MeanTime`].
    steps: usize,
    /// Finished batches, `[branch, prompt, step, unit, feature]`.
    batches: Vec<Tensor<5>>,
    /// [`Reduce::MeanPrompts`]: first step → sum over prompts `[branch, step, unit, feature]` and their number.
    sums: BTreeMap<usize, (Tensor<4>, usize)>,
}

impl Recorder {
    pub(crate) fn new(point: HookPoint, reduce: Reduce) -> Result<Self, HookError> {
        let grows = point.part == Part::Decoder && matches!(point.site, Site::SelfAttn(Inner::Pattern));
        if grows && matches!(reduce, Reduce::MeanPrompts | Reduce::MeanTime) {
            return Err(HookError::Ragged { point });
        }
        if reduce == Reduce::MeanPositions && point.part != Part::Dit {
            return Err(HookError::NoPositions { point });
        }
        let (chunks, batches, sums) = (vec![], vec![], BTreeMap::new());
        Ok(Self { point, reduce, positions: 1, chunks, sequences: 1, steps: 0, batches, sums })
    }

    pub(crate) fn record(&mut self, x: Tensor<4>, positions: usize, sequences: usize, start: usize) {
        self.sequences = sequences;
        self.positions = positions;
        let [rows, time, heads, features] = x.dims();
        match self.reduce {
            Reduce::Everything => self.chunks.push(x),
            Reduce::MeanPositions => {
                self.positions = 1;
                let mean = x.reshape([rows * time, heads / positions, positions, features]).mean_dim(2);
                self.chunks.push(mean.reshape([rows, time, heads / positions, features]));
            }
            Reduce::LastStep => self.chunks = vec![x.slice([0..rows, time - 1..time])],
            Reduce::MeanTime => {
                let sum = x.sum_dim(1);
                self.steps += time;
                self.chunks = vec![match self.chunks.pop() {
                    Some(so_far) => so_far + sum,
                    None => sum,
                }];
            }
            Reduce::MeanPrompts => {
                let branches = rows / sequences;
                let sum = x
                    .reshape([branches, sequences, time, heads, features])
                    .sum_dim(1)
                    .reshape([branches, time, heads, features]);
                let (sum, count) = match self.sums.remove(&start) {
                    Some((so_far, count)) => (so_far + sum, count + sequences),
                    None => (sum, sequences),
                };
                self.sums.insert(start, (sum, count));
            }
        }
    }

    /// The last step that was recorded in the batch that is running, `[row, 1, unit, feature]`; sums have none.
    pub(crate) fn latest(&self) -> Option<Tensor<4>> {
        if matches!(self.reduce, Reduce::MeanTime | Reduce::MeanPrompts) {
            return None;
        }
        let last = self.chunks.last()?;
        let steps = last.dims()[1];
        Some(last.clone().narrow(1, steps - 1, 1))
    }

    pub(crate) fn end_batch(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return;
        }
        let mut batch = join(chunks, 1);
        if self.reduce == Reduce::MeanTime {
            batch = batch / std::mem::take(&mut self.steps) as f64;
        }
        let [rows, steps, heads, features] = batch.dims();
        let branches = rows / self.sequences;
        self.batches.push(batch.reshape([branches, self.sequences, steps, heads, features]));
    }

    pub(crate) fn finish(self) -> Option<Captured> {
        let tensor = if self.reduce == Reduce::MeanPrompts {
            let means = self.sums.into_values().map(|(sum, count)| (sum / count as f64).unsqueeze_dim(1)).collect();
            Tensor::cat(means, 2)
        } else if self.batches.is_empty() {
            return None;
        } else {
            join(self.batches, 1)
        };
        let site = self.point.site;
        let has = |axis: &&'static str| match *axis {
            "prompt" => self.reduce != Reduce::MeanPrompts,
            "step" => matches!(self.reduce, Reduce::Everything | Reduce::MeanPrompts | Reduce::MeanPositions),
            "position" => self.point.part == Part::Dit && self.reduce != Reduce::MeanPositions,
            "head" => site.head_axis().is_some() || site == Site::Logits,
            _ => true,
        };
        let axes = AXES.into_iter().filter(has).collect();
        Some(Captured { point: self.point, reduce: self.reduce, axes, tensor, positions: self.positions })
    }
}

/// Joins tensors along `axis`; where they differ in another axis, the shorter are filled with zeros at the end.
fn join<const D: usize>(parts: Vec<Tensor<D>>, axis: usize) -> Tensor<D> {
    let mut largest = [0; D];
    for part in &parts {
        for (most, len) in largest.iter_mut().zip(part.dims()) {
            *most = len.max(*most);
        }
    }
    let filled = parts.into_iter().map(|part| {
        let mut shape = largest;
        shape[axis] = part.dims()[axis];
        if part.dims() == shape {
            return part;
        }
        let here = part.dims().map(|len| 0..len);
        Tensor::zeros(shape, (&part.device(), part.dtype())).slice_assign(here, part)
    });
    Tensor::cat(filled.collect(), axis)
}
