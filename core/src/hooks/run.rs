//! Hooks on their way through a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burn::tensor::Tensor;

use super::{
    block::{
        EditTensors, Extent, Layout, Prompts, Resolved, Rows, check_prompts, from_block, is_whole, positions, to_block,
    },
    cache::{Cache, Captured, Recorder},
    closure::{At, Closure, HookOutput},
    point::{HookPoint, PointError},
    site::Time,
    spec::{Edit, Reduce, Selector, Spec, Value},
};

/// A spec that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// A name that the model does not have.
    #[error(transparent)]
    Unknown(#[from] PointError),
    /// A point was asked for but the run never passed it.
    #[error("hook point `{point}` was asked for, but the run never reached it")]
    NeverFired {
        /// The point.
        point: HookPoint,
    },
    /// An edit whose steps or positions the run did not have.
    #[error("an edit at `{point}` was never applied: the run has none of its {what} {start}..{end}")]
    NeverApplied {
        /// The point.
        point: HookPoint,
        /// Steps or positions.
        what: &'static str,
        /// The first of them.
        start: usize,
        /// The first after them.
        end: usize,
    },
    /// Heads were named at a site that has none.
    #[error("hook point `{point}` has no heads to choose from")]
    NoHeads {
        /// The point.
        point: HookPoint,
    },
    /// An index that does not exist at the point.
    #[error("an edit at `{point}` asks for a {what} beyond the {len} that there are")]
    Beyond {
        /// The point.
        point: HookPoint,
        /// Which axis.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// A prompt was named that the run does not have.
    #[error("an edit at `{points}` names prompt {prompt}, but the run has {prompts} (counted from 0)")]
    NoPrompt {
        /// The points of the edit.
        points: String,
        /// The prompt.
        prompt: usize,
        /// Prompts of the run.
        prompts: usize,
    },
    /// A tensor with a value for each prompt has none for this one.
    #[error("an edit at `{points}` has values for {len} prompts, but needs one for prompt {prompt} (counted from 0)")]
    NoValue {
        /// The points of the edit.
        points: String,
        /// The prompt.
        prompt: usize,
        /// Prompts that there are values for.
        len: usize,
    },
    /// A batch of another size than was announced.
    #[error("`Hooks::begin_batch` was told of {announced} prompts, but the batch has {found}")]
    Batch {
        /// Prompts that were announced.
        announced: usize,
        /// Prompts of the batch.
        found: usize,
    },
    /// A value of an edit that is not as wide as the point.
    #[error("an edit at `{point}` has values for {found} {what}, expected {expected}")]
    Extent {
        /// The point.
        point: HookPoint,
        /// Heads or features.
        what: &'static str,
        /// How many the value has.
        found: usize,
        /// How many the point has.
        expected: usize,
    },
    /// Positions were named at a point of a network that sees one at a time.
    #[error("hook point `{point}` has no positions beside its steps")]
    NoPositions {
        /// The point.
        point: HookPoint,
    },
    /// Steps were named at a point that is computed once, or the last of them is to be recorded.
    #[error("hook point `{point}` has no steps, since it is computed once: name positions")]
    NoSteps {
        /// The point.
        point: HookPoint,
    },
    /// A point that was not captured.
    #[error("`{name}` was not captured; captured were {captured}")]
    NotCaptured {
        /// What was asked for.
        name: String,
        /// Names of some tensors that were captured.
        captured: String,
    },
    /// A tensor of an edit that is missing or of the wrong shape.
    #[error("edit tensor `{name}`: {reason}")]
    Value {
        /// Name of the tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A closure said that the run cannot go on, or returned elements of another type.
    #[error("the closure at `{point}` failed at step {step}: {reason}")]
    Closure {
        /// The point.
        point: HookPoint,
        /// Generation or denoising step.
        step: usize,
        /// What it said.
        reason: String,
    },
    /// A closure returned a tensor of another shape.
    #[error("the closure at `{point}` returned a tensor of shape {found:?} at step {step}, expected {expected:?}")]
    Shape {
        /// The point.
        point: HookPoint,
        /// Generation or denoising step.
        step: usize,
        /// Shape that it returned.
        found: Vec<usize>,
        /// Shape that it was given: `[row, head, position, feature]`.
        expected: Vec<usize>,
    },
    /// Rows that stand for several sequences cannot be recorded.
    #[error("hook point `{point}` cannot be recorded in a batch whose sequences share rows")]
    Shared {
        /// The point.
        point: HookPoint,
    },
    /// A reducer that has no meaning at a point.
    #[error("hook point `{point}` changes its width from step to step: capture `everything` or `last_step` of it")]
    Ragged {
        /// The point.
        point: HookPoint,
    },
}

impl HookError {
    pub(crate) fn no_tensor(value: &Value) -> Self {
        Self::Value { name: value.tensor.clone(), reason: "there is no tensor of this name".to_owned() }
    }
}

/// A spec made ready for one model, the closures beside it, and what was captured so far.
#[derive(Debug, Default)]
pub struct Hooks<'a> {
    /// Every point of the model.
    known: Vec<HookPoint>,
    edits: BTreeMap<HookPoint, Vec<Resolved>>,
    closures: Vec<Closure<'a>>,
    /// The closures at a point, in the order in which they were added.
    closures_at: BTreeMap<HookPoint, Vec<usize>>,
    recorders: BTreeMap<HookPoint, Vec<Recorder>>,
    pending: BTreeSet<HookPoint>,
    /// Edits, by point and place there, whose steps and positions did not come up yet.
    unreached: BTreeSet<(HookPoint, usize)>,
    /// Prompts of the batch, by their numbers within the run. `None`: the batch is the run.
    batch: Option<Arc<[usize]>>,
    /// Prompts that the edits were last checked against.
    checked: Option<usize>,
    extent: Option<Extent>,
    failure: Option<HookError>,
}

impl<'a> Hooks<'a> {
    /// Nothing asked: every point returns its tensor as it is.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes `spec` ready for a model that has the points `known`; `tensors` are those that its edits name.
    ///
    /// # Errors
    /// [`HookError`] if a point, a tensor or a combination does not exist.
    pub fn new(spec: &Spec, known: &[HookPoint], tensors: &EditTensors) -> Result<Self, HookError> {
        let mut hooks = Self { known: known.to_vec(), ..Self::default() };
        for edit in &spec.edits {
            for point in edit.points.expand(known)? {
                let edits = hooks.edits.entry(point).or_default();
                if edit.scope.steps.is_some() || edit.scope.positions.is_some() {
                    hooks.unreached.insert((point, edits.len()));
                }
                edits.push(Resolved::new(edit, point, tensors)?);
                hooks.pending.insert(point);
            }
        }
        for capture in &spec.captures {
            for point in capture.points.expand(known)? {
                hooks.recorders.entry(point).or_default().push(Recorder::new(point, capture.reduce)?);
                hooks.pending.insert(point);
            }
        }
        Ok(hooks)
    }

    /// Calls `hook` whenever a tensor passes one of `points`, after the edits there and before it is recorded. It returns the
    /// tensor to go on with, or an error that ends the run at that step; it may keep state.
    ///
    /// The tensor is that of one step, `[row, head, position, feature]`; axes that the point does not have are of length 1.
    /// Where a model computes several steps at once, `hook` is called for each of them, in their order.
    ///
    /// ```
    /// use tonoscope_core::hooks::{HookPoint, Hooks, Component, Spec};
    ///
    /// let points = HookPoint::all(Component::DECODER, 24);
    /// let mut calls = 0;
    /// let mut hooks = Hooks::new(&Spec::default(), &points, &Default::default())?;
    /// hooks.hook("decoder.5.mlp_out", |x, at| {
    ///     calls += 1;
    ///     if at.step > 50 { x * 1.5 } else { x }
    /// })?;
    /// # Ok::<(), tonoscope_core::hooks::HookError>(())
    /// ```
    ///
    /// # Errors
    /// [`HookError::Unknown`] if the model has no such points. In the run: [`HookError::Closure`] if `hook` fails,
    /// [`HookError::Shape`] if it returns another shape.
    pub fn hook<R: HookOutput>(
        &mut self,
        points: impl Into<Selector>,
        hook: impl FnMut(Tensor<4>, &At<'_>) -> R + 'a,
    ) -> Result<(), HookError> {
        let points = points.into().expand(&self.known)?;
        let index = self.closures.len();
        self.closures.push(Closure::new(hook));
        for point in points {
            self.closures_at.entry(point).or_default().push(index);
            self.pending.insert(point);
        }
        Ok(())
    }

    /// Checks the names in `spec` against the points `known`, before anything is loaded.
    ///
    /// # Errors
    /// [`HookError`] if a point does not exist or its capture has no meaning.
    pub fn check_spec(spec: &Spec, known: &[HookPoint]) -> Result<(), HookError> {
        for edit in &spec.edits {
            edit.points.expand(known)?;
        }
        for capture in &spec.captures {
            for point in capture.points.expand(known)? {
                Recorder::new(point, capture.reduce)?;
            }
        }
        Ok(())
    }

    /// Checks, before anything is loaded, that `edits` have their tensors, of the `shapes` of an [`EditFile`](super::EditFile),
    /// and fit a run of so many prompts: every prompt that one names exists, and so does a value for it.
    ///
    /// # Errors
    /// [`HookError::NoPrompt`], [`HookError::NoValue`], or [`HookError::Value`] for a tensor that is missing or of the wrong
    /// shape.
    pub fn check_edits<'t>(
        edits: &[Edit],
        mut shapes: impl FnMut(&str) -> Option<&'t [usize; 5]>,
        prompts: usize,
    ) -> Result<(), HookError> {
        for edit in edits {
            let layout = |value: &Value| {
                let shape = shapes(&value.tensor).ok_or_else(|| HookError::no_tensor(value))?;
                Layout::new(value, *shape, Time::Steps)
            };
            let layout = edit.change.value().map(layout).transpose()?;
            check_prompts(edit, layout.as_ref(), prompts)?;
        }
        Ok(())
    }

    fn check_prompts(&self, prompts: usize) -> Result<(), HookError> {
        self.edits.values().flatten().try_for_each(|edit| edit.check_prompts(prompts))
    }

    /// Says which prompts of a run of `total` the next batch holds, by their numbers from 0. Edits name prompts of the run,
    /// so that a batch changes the same ones whatever its size. Without this, the batch is the run.
    ///
    /// # Errors
    /// [`HookError::NoPrompt`], [`HookError::NoValue`].
    pub fn begin_batch(&mut self, prompts: impl IntoIterator<Item = usize>, total: usize) -> Result<(), HookError> {
        self.batch = Some(prompts.into_iter().collect());
        if self.checked != Some(total) {
            self.check_prompts(total)?;
            self.checked = Some(total);
        }
        Ok(())
    }

    /// Says what the next tensors cover: `sequences` rows per guidance branch, time axes that begin at step `start`.
    pub fn begin(&mut self, start: usize, sequences: usize) {
        self.begin_copies(start, sequences, 1);
    }

    /// As [`Self::begin`], of a batch that has `copies` sequences of each prompt, next to each other.
    pub fn begin_copies(&mut self, start: usize, sequences: usize, copies: usize) {
        self.begin_extent(start, Rows::Even { sequences }, copies);
    }

    /// As [`Self::begin`], of a batch whose `rows` (branch and sequence of each) are not all sequences in all branches.
    pub(crate) fn begin_rows(&mut self, start: usize, rows: &Arc<[(usize, usize)]>, sequences: usize) {
        self.begin_extent(start, Rows::Listed { rows: Arc::clone(rows), sequences }, 1);
    }

    fn begin_extent(&mut self, start: usize, rows: Rows, copies: usize) {
        let copies = copies.max(1);
        let found = rows.sequences() / copies;
        if let Err(error) = self.fits(found) {
            self.fail(error);
        }
        self.extent = Some(Extent { rows, prompts: Prompts { numbers: self.batch.clone(), copies }, start });
    }

    /// Whether the edits fit a batch of so many prompts.
    pub(crate) fn fits(&mut self, prompts: usize) -> Result<(), HookError> {
        match &self.batch {
            Some(batch) if batch.len() != prompts => Err(HookError::Batch { announced: batch.len(), found: prompts }),
            None if self.checked != Some(prompts) => {
                self.check_prompts(prompts)?;
                self.checked = Some(prompts);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether anything is asked at `point`.
    pub fn wants(&self, point: HookPoint) -> bool {
        self.edits.contains_key(&point) || self.closures_at.contains_key(&point) || self.recorders.contains_key(&point)
    }

    /// Whether nothing is asked anywhere.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.closures.is_empty() && self.recorders.is_empty()
    }

    /// The tensor `x` at `point`, edited and recorded as the spec says; `x` itself where it says nothing.
    ///
    /// A failure is kept until [`Self::check`]. Nothing is read back from the device.
    ///
    /// # Panics
    /// If something is asked and [`Self::begin`] was never called: a bug of the model.
    pub fn at<const D: usize>(&mut self, point: HookPoint, x: Tensor<D>) -> Tensor<D> {
        if self.is_empty() || !self.wants(point) || self.failure.is_some() {
            return x;
        }
        let extent = self.extent.as_ref().expect("a model calls `Hooks::begin` before its first point");
        self.pending.remove(&point);
        let shape = x.dims();
        let positions = positions(point, shape);
        if !self.unreached.is_empty() {
            let steps = extent.start..extent.start + if is_whole(point) { 1 } else { shape[point.site.time_axis()] };
            let edits = self.edits.get(&point).into_iter().flatten().enumerate();
            for (index, _) in edits.filter(|(_, edit)| edit.edit.scope.reaches(&steps, positions)) {
                self.unreached.remove(&(point, index));
            }
        }
        let mut output = x;
        let (edits, closures) = (self.edits.get(&point), self.closures_at.get(&point));
        if edits.is_some() || closures.is_some() {
            let mut block = to_block(point, output, is_whole(point));
            let mut change = || -> Result<(), HookError> {
                for edit in edits.into_iter().flatten() {
                    block = edit.apply(point, block.clone(), positions, extent)?;
                }
                for &index in closures.into_iter().flatten() {
                    block = self.closures[index].apply(point, &block, positions, extent)?;
                }
                Ok(())
            };
            if let Err(error) = change() {
                self.failure = Some(error);
            }
            output = from_block(point, block, shape);
        }
        for recorder in self.recorders.get_mut(&point).into_iter().flatten() {
            match extent.rows {
                Rows::Even { sequences } => {
                    recorder.record(output.clone(), sequences, extent.start);
                }
                Rows::Listed { .. } => self.failure = Some(HookError::Shared { point }),
            }
        }
        output
    }

    /// What was recorded last at `point` in the batch that is running, for those who watch a run; [`super::Reduce::MeanTime`]
    /// and [`super::Reduce::MeanPrompts`] keep sums instead.
    ///
    /// # Shapes
    /// - result: `[row, 1, head, feature]`, the rows of the conditional branch first
    pub fn latest(&self, point: HookPoint) -> Option<Tensor<4>> {
        self.recorders.get(&point)?.iter().find_map(Recorder::latest)
    }

    /// Whether an edit changes the tensor at `point`.
    pub(crate) fn edits_at(&self, point: HookPoint) -> bool {
        self.edits.contains_key(&point)
    }

    /// Whether closures change anything.
    pub(crate) fn has_closures(&self) -> bool {
        !self.closures.is_empty()
    }

    /// Hooks with the edits of these that record the last step at `points`, and nothing else: to find out where a run went
    /// wrong.
    pub(crate) fn replayed(&self, points: &[HookPoint]) -> Result<Hooks<'static>, HookError> {
        let recorder = |&point: &HookPoint| Ok((point, vec![Recorder::new(point, Reduce::LastStep)?]));
        Ok(Hooks {
            edits: self.edits.clone(),
            recorders: points.iter().map(recorder).collect::<Result<_, HookError>>()?,
            batch: self.batch.clone(),
            checked: self.checked,
            ..Hooks::default()
        })
    }

    /// Keeps `error` for [`Self::check`], unless something went wrong before.
    pub(crate) fn fail(&mut self, error: HookError) {
        self.failure.get_or_insert(error);
    }

    /// Reports what went wrong inside the model.
    ///
    /// # Errors
    /// The first failure of an edit.
    pub fn check(&self) -> Result<(), HookError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Marks the end of a batch: the steps of the next one start anew.
    pub fn end_batch(&mut self) {
        for recorder in self.recorders.values_mut().flatten() {
            recorder.end_batch();
        }
    }

    /// What was captured.
    ///
    /// # Errors
    /// The first failure of an edit or a closure, [`HookError::NeverFired`], or [`HookError::NeverApplied`].
    pub fn finish(mut self) -> Result<Cache, HookError> {
        self.check()?;
        if let Some(&point) = self.pending.first() {
            return Err(HookError::NeverFired { point });
        }
        if let Some(&(point, index)) = self.unreached.first() {
            let scope = &self.edits[&point][index].edit.scope;
            let named = scope.steps.as_ref().map(|range| ("steps", range));
            let named = named.or(scope.positions.as_ref().map(|range| ("positions", range)));
            if let Some((what, range)) = named {
                return Err(HookError::NeverApplied { point, what, start: range.start, end: range.end });
            }
        }
        self.end_batch();
        let known = &self.known;
        let place = |entry: &Captured| known.iter().position(|point| *point == entry.point);
        let mut entries: Vec<Captured> = self.recorders.into_values().flatten().filter_map(Recorder::finish).collect();
        entries.sort_by_key(place);
        Ok(Cache { entries })
    }
}
