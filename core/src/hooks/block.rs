//! One shape for all sites, `[row, time, unit, feature]`, and the edits on it.
//!
//! A unit is a head, where the time axis counts steps. A network that sees a whole sequence at once has one step per
//! tensor, and its units are positions, one head after the other: unit `head · positions + position`.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use burn::tensor::{Int, Tensor};

use super::{
    point::HookPoint,
    run::HookError,
    site::Time,
    spec::{Axis, Change, Edit, Scope, Value},
};

/// Tensors that edits take their values from, by name, in any rank up to five.
pub type EditTensors = BTreeMap<String, Tensor<5>>;

/// [`EditTensors`] by its former name.
pub type HookTensors = EditTensors;

/// Rows and steps that a tensor at a hook point covers.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// What its rows are.
    pub(crate) rows: Rows,
    /// Which prompts its sequences are.
    pub(crate) prompts: Prompts,
    /// First step.
    pub(crate) start: usize,
}

/// Which prompts of a run the sequences of a batch are.
#[derive(Debug, Clone)]
pub(crate) struct Prompts {
    /// Number within the run of each prompt of the batch. `None`: the batch is the run.
    pub(crate) numbers: Option<Arc<[usize]>>,
    /// Sequences of each prompt, next to each other.
    pub(crate) copies: usize,
}

impl Prompts {
    /// Number within the run of the prompt of a sequence.
    pub(crate) fn of(&self, sequence: usize) -> usize {
        let index = sequence / self.copies;
        self.numbers.as_ref().map_or(index, |numbers| numbers[index])
    }
}

/// What the rows of a batch are.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Every sequence in every branch: the conditional rows, then the unconditional ones.
    Even {
        /// Sequences per guidance branch.
        sequences: usize,
    },
    /// Some sequences in some branches, in the order of the branches and, within one, of the sequences.
    Listed {
        /// Branch (0 conditional, 1 unconditional) and sequence of each row.
        rows: Arc<[(usize, usize)]>,
        /// Sequences of the whole batch.
        sequences: usize,
    },
}

/// Neighbouring rows of one branch whose sequences are neighbours too.
struct Run {
    branch: usize,
    rows: Range<usize>,
    sequences: Range<usize>,
}

impl Rows {
    pub(crate) fn sequences(&self) -> usize {
        match self {
            Self::Even { sequences } | Self::Listed { sequences, .. } => *sequences,
        }
    }

    /// The rows that `scope` covers, of the `len` rows of a tensor.
    fn within(&self, scope: &Scope, prompts: &Prompts, len: usize) -> Vec<Run> {
        let sequences = self.sequences();
        let is_wanted = |sequence: usize| match &scope.prompts {
            Some(wanted) => wanted.contains(&prompts.of(sequence)),
            None => true,
        };
        let in_scope = |branch: usize| scope.branch.is_none_or(|only| only as usize == branch);
        let mut runs: Vec<Run> = vec![];
        let mut add = |branch: usize, row: usize, sequence: usize| match runs.last_mut() {
            Some(run) if (run.branch, run.rows.end, run.sequences.end) == (branch, row, sequence) => {
                run.rows.end += 1;
                run.sequences.end += 1;
            }
            _ => runs.push(Run { branch, rows: row..row + 1, sequences: sequence..sequence + 1 }),
        };
        match self {
            Self::Even { .. } => {
                for row in 0..len {
                    let (branch, sequence) = (row / sequences, row % sequences);
                    if in_scope(branch) && is_wanted(sequence) {
                        add(branch, row, sequence);
                    }
                }
            }
            Self::Listed { rows, .. } => {
                for (row, &(branch, sequence)) in rows.iter().enumerate() {
                    if in_scope(branch) && is_wanted(sequence) {
                        add(branch, row, sequence);
                    }
                }
            }
        }
        runs
    }
}

/// Positions in a tensor of this shape at `point`, beside its steps.
pub(crate) fn positions<const D: usize>(point: HookPoint, shape: [usize; D]) -> usize {
    if is_whole(point) { shape[point.site.time_axis()] } else { 1 }
}

/// Whether a tensor at `point` holds a whole sequence, whose positions are units, rather than steps of one.
pub(crate) fn is_whole(point: HookPoint) -> bool {
    point.time() != Time::Steps
}

/// Whether the axes of time and heads change places on the way into a block.
fn swapped<const D: usize>(point: HookPoint, whole: bool) -> bool {
    D == 4 && (point.site.time_axis() == 2) != whole
}

/// `x` as `[row, time, unit, feature]`; sites without heads have one. Positions of a `whole` sequence are units.
///
/// # Panics
/// If `x` has other axes than the site: a bug of the model.
pub(crate) fn to_block<const D: usize>(point: HookPoint, x: Tensor<D>, whole: bool) -> Tensor<4> {
    let axes = point.site.dims();
    assert_eq!(D, axes.len() + 1, "`{point}` has rows and {axes:?}, its tensor has shape {:?}", x.dims());
    match D {
        3 => {
            let [row, time, feature] = [x.dims()[0], x.dims()[1], x.dims()[2]];
            x.reshape(if whole { [row, 1, time, feature] } else { [row, time, 1, feature] })
        }
        4 => {
            let dims = x.dims();
            let x = x.reshape([dims[0], dims[1], dims[2], dims[3]]);
            let x = if swapped::<D>(point, whole) { x.swap_dims(1, 2) } else { x };
            let [row, outer, inner, feature] = x.dims();
            if whole { x.reshape([row, 1, outer * inner, feature]) } else { x }
        }
        _ => panic!("a hook point takes tensors of rank 3 or 4, not {D}"),
    }
}

/// The inverse of [`to_block`] for an edit.
pub(crate) fn from_block<const D: usize>(point: HookPoint, x: Tensor<4>, shape: [usize; D]) -> Tensor<D> {
    if !swapped::<D>(point, is_whole(point)) {
        return x.reshape(shape);
    }
    x.reshape([shape[0], shape[2], shape[1], shape[3]]).swap_dims(1, 2).reshape(shape)
}

/// An edit whose values are on the device.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) edit: Edit,
    values: Option<Values>,
}

/// Values as [`Layout::shape`] says.
#[derive(Debug, Clone)]
struct Values {
    tensor: Tensor<5>,
    layout: Layout,
}

/// What the axes of an edit's tensor are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The axes of the tensor, in the order of `shape`.
    order: [isize; 5],
    /// `[branch · prompt, step, head, position, feature]`, absent axes being of length 1.
    shape: [usize; 5],
    branches: bool,
    /// Number of prompts with values of their own. `None`: one value for all prompts.
    prompts: Option<usize>,
    steps: bool,
    positions: bool,
}

/// What an edit changes at once: some heads, and some or all positions of each.
struct Units {
    heads: Range<usize>,
    positions: Range<usize>,
}

impl Units {
    /// Those that `heads` and `positions` cover, of as many positions per head as `all` says, each a stretch of a block's
    /// units.
    fn stretches(heads: Vec<Range<usize>>, positions: &Range<usize>, all: usize) -> Vec<Self> {
        let part = |heads| Self { heads, positions: positions.clone() };
        if positions.len() == all {
            return heads.into_iter().map(part).collect();
        }
        heads.into_iter().flatten().map(|head| part(head..head + 1)).collect()
    }

    /// In a block of as many positions per head as `all` says.
    fn range(&self, all: usize) -> Range<usize> {
        self.heads.start * all + self.positions.start..(self.heads.end - 1) * all + self.positions.end
    }
}

impl Resolved {
    pub(crate) fn new(edit: &Edit, point: HookPoint, tensors: &EditTensors) -> Result<Self, HookError> {
        let values = edit.change.value().map(|value| Values::new(value, point, tensors)).transpose()?;
        Ok(Self { edit: edit.clone(), values })
    }

    /// Whether the edit fits a run of so many prompts.
    pub(crate) fn check_prompts(&self, prompts: usize) -> Result<(), HookError> {
        check_prompts(&self.edit, self.values.as_ref().map(|values| &values.layout), prompts)
    }

    /// Applies the edit to the part of `x` that its scope covers; `positions` is how many its units have per head.
    pub(crate) fn apply(
        &self,
        point: HookPoint,
        mut x: Tensor<4>,
        positions: usize,
        extent: &Extent,
    ) -> Result<Tensor<4>, HookError> {
        let scope = &self.edit.scope;
        if matches!(self.edit.change, Change::Add { scale, .. } if scale == 0.0) {
            return Ok(x);
        }
        let [rows, time, units, features] = x.dims();
        let heads = units / positions;
        let steps = extent.start..extent.start + time;
        if scope.steps.is_some() && point.time() == Time::Once {
            return Err(HookError::NoSteps { point });
        }
        let wanted = scope.steps.clone().unwrap_or_else(|| steps.clone());
        let steps = steps.start.max(wanted.start)..steps.end.min(wanted.end);
        if steps.is_empty() {
            return Ok(x);
        }
        let head_ranges = match &scope.heads {
            Some(_) if point.site.head_axis().is_none() => return Err(HookError::NoHeads { point }),
            Some(list) => ranges(list, heads).ok_or(HookError::Beyond { point, what: "head", len: heads })?,
            None => std::iter::once(0..heads).collect(),
        };
        let seen = match &scope.positions {
            Some(_) if !is_whole(point) => return Err(HookError::NoPositions { point }),
            Some(range) => range.start..range.end.min(positions),
            None => 0..positions,
        };
        if seen.is_empty() {
            return Ok(x);
        }
        let stretches = Units::stretches(head_ranges, &seen, positions);
        if let Some(values) = &self.values {
            values.fits(point, heads, features)?;
        }
        for run in extent.rows.within(scope, &extent.prompts, rows) {
            let prompts: Vec<usize> = run.sequences.clone().map(|sequence| extent.prompts.of(sequence)).collect();
            for units in &stretches {
                let part = [
                    run.rows.clone(),
                    steps.start - extent.start..steps.end - extent.start,
                    units.range(positions),
                    0..features,
                ];
                let old = x.clone().slice(part.clone());
                let values = match &self.values {
                    Some(values) => Some(values.of(point, run.branch, &prompts, &steps, units, features)?),
                    None => None,
                };
                x = x.slice_assign(part, self.changed(old, values));
            }
        }
        Ok(x)
    }

    fn changed(&self, x: Tensor<4>, values: Option<Tensor<4>>) -> Tensor<4> {
        let shape = x.shape();
        // Parts of a model may have a type of their own.
        let values = values.map(|values| if values.dtype() == x.dtype() { values } else { values.cast(x.dtype()) });
        match (&self.edit.change, values) {
            (Change::Scale { factor }, _) => x * *factor,
            (Change::Add { scale, .. }, Some(value)) if *scale == 1.0 => x + value,
            (Change::Add { scale, .. }, Some(value)) => x + value * *scale,
            (Change::Replace { .. }, Some(value)) => value.expand(shape),
            (Change::ProjectOut { .. }, Some(direction)) => {
                let along = (x.clone() * direction.clone()).sum_dim(3);
                let length = (direction.clone() * direction.clone()).sum_dim(3);
                x - along / length * direction
            }
            _ => x.zeros_like(),
        }
    }
}

impl Layout {
    /// Of a tensor of these dimensions, whose axes `value` names, for a network that meets sequences like this.
    pub(crate) fn new(value: &Value, dims: [usize; 5], time: Time) -> Result<Self, HookError> {
        let bad = |reason: &str| HookError::Value { name: value.tensor.clone(), reason: reason.to_owned() };
        let axes: Vec<Axis> = value
            .axes
            .iter()
            .map(|axis| match axis {
                Axis::Query if time == Time::Steps => Axis::Step,
                Axis::Query => Axis::Position,
                Axis::Key => Axis::Feature,
                &other => other,
            })
            .collect();
        if (1..axes.len()).any(|index| axes[..index].contains(&axes[index])) {
            return Err(bad("an axis is named twice"));
        }
        let Some(absent) = dims.len().checked_sub(axes.len()) else {
            return Err(bad("more than five axes are named, and no tensor has more"));
        };
        let (padding, lengths) = dims.split_at(absent);
        if padding.iter().any(|&len| len != 1) {
            return Err(bad(&format!("it has more axes than the {} that are named", axes.len())));
        }
        let len = |axis| axes.iter().position(|&of| of == axis).map(|index| lengths[index]);
        let mut order = [0, 1, 2, 3, 4];
        order[absent..].sort_by_key(|&index| axes[index as usize - absent]);
        let or_one = |axis| len(axis).unwrap_or(1);
        if len(Axis::Branch).is_some_and(|branches| branches != 2) {
            return Err(bad("a branch axis has two entries, conditional and unconditional"));
        }
        let shape = [
            or_one(Axis::Branch) * or_one(Axis::Prompt),
            or_one(Axis::Step),
            or_one(Axis::Head),
            or_one(Axis::Position),
            or_one(Axis::Feature),
        ];
        Ok(Self {
            order,
            shape,
            branches: len(Axis::Branch).is_some(),
            prompts: len(Axis::Prompt),
            steps: len(Axis::Step).is_some(),
            positions: len(Axis::Position).is_some(),
        })
    }
}

/// Whether `edit`, whose values have this layout, fits a run of so many prompts.
pub(crate) fn check_prompts(edit: &Edit, values: Option<&Layout>, prompts: usize) -> Result<(), HookError> {
    let points = || edit.points.to_string();
    let wanted = edit.scope.prompts.as_deref();
    if let Some(&prompt) = wanted.and_then(|wanted| wanted.iter().find(|&&prompt| prompt >= prompts)) {
        return Err(HookError::NoPrompt { points: points(), prompt, prompts });
    }
    let Some(len) = values.and_then(|values| values.prompts) else { return Ok(()) };
    let last = wanted.map_or(prompts.checked_sub(1), |wanted| wanted.iter().copied().max());
    match last {
        Some(prompt) if prompt >= len => Err(HookError::NoValue { points: points(), prompt, len }),
        _ => Ok(()),
    }
}

impl Values {
    fn new(value: &Value, point: HookPoint, tensors: &EditTensors) -> Result<Self, HookError> {
        let tensor = tensors.get(&value.tensor).ok_or_else(|| HookError::no_tensor(value))?;
        let layout = Layout::new(value, tensor.dims(), point.time())?;
        Ok(Self { tensor: tensor.clone().permute(layout.order).reshape(layout.shape), layout })
    }

    /// Whether there is a value for each head and feature of `point`, and none that would be dropped.
    fn fits(&self, point: HookPoint, heads: usize, features: usize) -> Result<(), HookError> {
        let [_, _, all_heads, _, all_features] = self.tensor.dims();
        for (what, found, expected) in [("heads", all_heads, heads), ("features", all_features, features)] {
            let to_come = what == "features" && point.site.grows() && found > expected;
            if found != 1 && found != expected && !to_come {
                return Err(HookError::Extent { point, what, found, expected });
            }
        }
        Ok(())
    }

    fn of(
        &self,
        point: HookPoint,
        branch: usize,
        prompts: &[usize],
        steps: &Range<usize>,
        units: &Units,
        features: usize,
    ) -> Result<Tensor<4>, HookError> {
        let [_, all_steps, all_heads, all_positions, all_features] = self.tensor.dims();
        if self.layout.positions && !is_whole(point) {
            return Err(HookError::NoPositions { point });
        }
        if self.layout.steps && point.time() == Time::Once {
            return Err(HookError::NoSteps { point });
        }
        let within = |range: Range<usize>, len: usize, what: &'static str| {
            if range.end <= len { Ok(range) } else { Err(HookError::Beyond { point, what, len }) }
        };
        let branch = if self.layout.branches { branch } else { 0 };
        let rows = match self.layout.prompts {
            Some(len) => {
                if let Some(&prompt) = prompts.iter().find(|&&prompt| prompt >= len) {
                    return Err(HookError::NoValue { points: point.to_string(), prompt, len });
                }
                prompts.iter().map(|prompt| branch * len + prompt).collect()
            }
            None => vec![branch],
        };
        let steps = if self.layout.steps { within(steps.clone(), all_steps, "step")? } else { 0..1 };
        let heads = if all_heads == 1 { 0..1 } else { within(units.heads.clone(), all_heads, "head")? };
        let positions =
            if all_positions == 1 { 0..1 } else { within(units.positions.clone(), all_positions, "position")? };
        // A pattern's values may cover keys that are still to come.
        let some = chosen(&self.tensor, &rows);
        let all_rows = 0..some.dims()[0];
        let some = some.slice([all_rows, steps, heads, positions, 0..all_features.min(features)]);
        let [rows, steps, heads, positions, features] = some.dims();
        if heads * positions == 1 {
            return Ok(some.reshape([rows, steps, 1, features]));
        }
        let (heads, positions) = (units.heads.len(), units.positions.len());
        Ok(some.expand([rows, steps, heads, positions, features]).reshape([rows, steps, heads * positions, features]))
    }
}

/// Some entries of the first axis.
fn chosen(tensor: &Tensor<5>, rows: &[usize]) -> Tensor<5> {
    if rows.windows(2).all(|pair| pair[1] == pair[0] + 1) {
        return tensor.clone().narrow(0, rows[0], rows.len());
    }
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    tensor.clone().select(0, Tensor::<1, Int>::from_data(rows.as_slice(), &tensor.device()))
}

/// Sorted indices as runs of neighbours; `None` if one is not below `len`.
fn ranges(list: &[usize], len: usize) -> Option<Vec<Range<usize>>> {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in sorted {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs.last().is_none_or(|run| run.end <= len).then_some(runs)
}
