//! What hooks have captured.

use std::{collections::BTreeMap, fmt, str::FromStr};

use burn::tensor::{ExecutionError, Tensor};

use super::{
    block::to_block,
    point::{HookPoint, PointError},
    read::read_floats,
    run::HookError,
    site::Time,
    spec::{Axis, Reduce, Value},
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

impl CaptureName {
    /// Axes as a file calls them, in today's words: `row` was a prompt, text positions were steps, and the axes of patterns
    /// had the names of others.
    pub fn current_axes(self, stored: Vec<String>) -> Vec<String> {
        let (time, pattern) = (self.point.time(), self.point.site.is_pattern());
        let current = |axis: String| match axis.as_str() {
            "row" => "prompt".to_owned(),
            "feature" if pattern => "key".to_owned(),
            "position" if pattern => "query".to_owned(),
            "step" if pattern && time != Time::Denoising => "query".to_owned(),
            "step" if time == Time::Once => "position".to_owned(),
            _ => axis,
        };
        stored.into_iter().map(current).collect()
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
    /// `[branch, prompt, step, head · positions, feature]`; 1 long where the reducer or the site has no such axis. Of what is
    /// computed once the third axis counts positions.
    pub tensor: Tensor<5>,
    /// Positions that the network sees at each step: the inner part of the fourth axis. 1 for networks that see one.
    pub positions: usize,
}

impl Captured {
    /// Shape without the axes that the site or the reducer does not have.
    pub fn shape(&self) -> Vec<usize> {
        let [branch, prompt, time, units, feature] = self.tensor.dims();
        let by_time = self.point.time();
        let len = |axis: &&'static str| match *axis {
            "branch" => branch,
            "prompt" => prompt,
            "head" => units / self.positions,
            "feature" | "key" => feature,
            "position" | "query" if by_time == Time::Denoising => self.positions,
            _ => time,
        };
        self.axes.iter().map(len).collect()
    }

    /// The axes with their lengths, outermost first: `[("branch", 2), ("prompt", 1), ("step", 200), ("feature", 1024)]`.
    pub fn named_dims(&self) -> Vec<(&'static str, usize)> {
        self.axes.iter().copied().zip(self.shape()).collect()
    }

    /// The tensor as the value of an edit that calls it `name`, and itself as such: what patches it into another run. A branch
    /// or a prompt that is the only one stands for all.
    ///
    /// # Errors
    /// [`HookError::Value`] if more than five axes are left.
    pub fn value(&self, name: impl Into<String>) -> Result<(Value, Tensor<5>), HookError> {
        let name = name.into();
        let (mut axes, mut shape) = (vec![], vec![]);
        for (axis, len) in self.named_dims() {
            let axis = match axis {
                "branch" | "prompt" if len == 1 => continue,
                "branch" => Axis::Branch,
                "prompt" => Axis::Prompt,
                "step" => Axis::Step,
                "head" => Axis::Head,
                "position" => Axis::Position,
                "query" => Axis::Query,
                "key" => Axis::Key,
                _ => Axis::Feature,
            };
            axes.push(axis);
            shape.push(len);
        }
        let Some(absent) = 5_usize.checked_sub(shape.len()) else {
            let reason = format!("it has {} axes, and edits take five: capture one prompt or one branch", shape.len());
            return Err(HookError::Value { name, reason });
        };
        let mut padded = [1; 5];
        padded[absent..].copy_from_slice(&shape);
        Ok((Value { tensor: name, axes }, self.tensor.clone().reshape(padded)))
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

/// All captured tensors of a run.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// In the order of the points.
    pub entries: Vec<Captured>,
}

impl Cache {
    /// The tensor of this name: of a point, such as `decoder.5.resid_post`, then that of the first reducer that was asked for;
    /// or of a point and a reducer, such as `decoder.5.resid_post:mean_time`.
    ///
    /// # Errors
    /// [`HookError::NotCaptured`].
    pub fn get(&self, name: impl fmt::Display) -> Result<&Captured, HookError> {
        let name = name.to_string();
        let is_meant = |entry: &&Captured| entry.point.to_string() == name || entry.name() == name;
        self.entries.iter().find(is_meant).ok_or_else(|| {
            let mut captured: Vec<String> = self.entries.iter().take(5).map(Captured::name).collect();
            if self.entries.len() > captured.len() {
                captured.push(format!("{} more", self.entries.len() - captured.len()));
            }
            HookError::NotCaptured { name, captured: captured.join(", ") }
        })
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
        let time = point.time();
        match reduce {
            Reduce::MeanPrompts | Reduce::MeanTime if time == Time::Steps && point.site.grows() => {
                return Err(HookError::Ragged { point });
            }
            Reduce::MeanPositions if time == Time::Steps => return Err(HookError::NoPositions { point }),
            Reduce::LastStep if time == Time::Once => return Err(HookError::NoSteps { point }),
            _ => {}
        }
        let (chunks, batches, sums) = (vec![], vec![], BTreeMap::new());
        Ok(Self { point, reduce, positions: 1, chunks, sequences: 1, steps: 0, batches, sums })
    }

    pub(crate) fn record<const D: usize>(&mut self, x: Tensor<D>, sequences: usize, start: usize) {
        self.sequences = sequences;
        // Positions of what is computed once stay on the time axis.
        let denoising = self.point.time() == Time::Denoising;
        let positions = if denoising { x.dims()[self.point.site.time_axis()] } else { 1 };
        self.positions = positions;
        let x = to_block(self.point, x, denoising);
        let [rows, time, heads, features] = x.dims();
        match self.reduce {
            Reduce::Everything => self.chunks.push(x),
            Reduce::MeanPositions if denoising => {
                self.positions = 1;
                let mean = x.reshape([rows * time, heads / positions, positions, features]).mean_dim(2);
                self.chunks.push(mean.reshape([rows, time, heads / positions, features]));
            }
            Reduce::LastStep => self.chunks = vec![x.slice([0..rows, time - 1..time])],
            Reduce::MeanTime | Reduce::MeanPositions => {
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
        if self.reduce == Reduce::MeanPrompts || self.sums_time() {
            return None;
        }
        let last = self.chunks.last()?;
        let steps = last.dims()[1];
        Some(last.clone().narrow(1, steps - 1, 1))
    }

    /// Whether `chunks` is one sum along the time axis.
    fn sums_time(&self) -> bool {
        let once = self.point.time() == Time::Once;
        self.reduce == Reduce::MeanTime || (self.reduce == Reduce::MeanPositions && once)
    }

    pub(crate) fn end_batch(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return;
        }
        let mut batch = join(chunks, 1);
        if self.sums_time() {
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
        let time = self.point.time();
        // The time axis, as steps or as positions, and the positions of a sequence that is seen at every step.
        let kept = |axis: &&'static str| match (*axis, time) {
            ("prompt", _) => self.reduce != Reduce::MeanPrompts,
            ("position" | "query", Time::Denoising) => self.reduce != Reduce::MeanPositions,
            ("position" | "query", Time::Once) | ("query", Time::Steps) | ("step", _) => {
                matches!(self.reduce, Reduce::Everything | Reduce::MeanPrompts)
                    || (self.reduce == Reduce::MeanPositions && time == Time::Denoising)
            }
            _ => true,
        };
        let axes = self.point.axes().into_iter().filter(kept).collect();
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
