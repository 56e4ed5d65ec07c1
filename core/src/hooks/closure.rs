//! Closures as hooks: code of the caller that sees a tensor on its way through a model and may put another in its place.

use std::{error::Error, fmt, ops::Range};

use burn::tensor::Tensor;

use super::{
    block::{Extent, Rows},
    point::HookPoint,
    run::HookError,
    spec::Branch,
};

/// Where a closure is called.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Which tensor.
    pub point: HookPoint,
    /// Generation or denoising step, from 0. Always 0 for a network that runs once, such as a text encoder.
    pub step: usize,
    /// Of each row of the tensor, its guidance branch and its prompt.
    pub rows: &'a [Row],
}

/// What one row of a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Half of the guidance batch.
    pub branch: Branch,
    /// Prompt of the whole run, from 0.
    pub prompt: usize,
}

impl At<'_> {
    /// Indices of the rows of one half of the guidance batch; they are neighbours.
    pub fn branch(&self, branch: Branch) -> Range<usize> {
        let start = self.rows.iter().position(|row| row.branch == branch).unwrap_or(self.rows.len());
        start..start + self.rows[start..].iter().take_while(|row| row.branch == branch).count()
    }

    /// Indices of the rows of one prompt.
    pub fn prompt(&self, prompt: usize) -> Vec<usize> {
        (0..self.rows.len()).filter(|&row| self.rows[row].prompt == prompt).collect()
    }
}

/// What a closure returns: a tensor, or a tensor or an error that stops the run.
pub trait HookOutput {
    /// The tensor, or why there is none.
    ///
    /// # Errors
    /// The error of the closure.
    fn into_hooked(self) -> Result<Tensor<4>, Box<dyn Error>>;
}

impl HookOutput for Tensor<4> {
    fn into_hooked(self) -> Result<Tensor<4>, Box<dyn Error>> {
        Ok(self)
    }
}

impl<E: Into<Box<dyn Error>>> HookOutput for Result<Tensor<4>, E> {
    fn into_hooked(self) -> Result<Tensor<4>, Box<dyn Error>> {
        self.map_err(Into::into)
    }
}

/// A closure of any kind. It need not be `Send`: it may hold what lives on one thread, such as a value of JavaScript, and a
/// model calls it on the thread that runs the model.
type Function<'a> = dyn FnMut(Tensor<4>, &At<'_>) -> Result<Tensor<4>, Box<dyn Error>> + 'a;

/// A closure at some points.
pub(crate) struct Closure<'a>(Box<Function<'a>>);

impl fmt::Debug for Closure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closure")
    }
}

impl<'a> Closure<'a> {
    pub(crate) fn new<R: HookOutput>(mut function: impl FnMut(Tensor<4>, &At<'_>) -> R + 'a) -> Self {
        Self(Box::new(move |x, at| function(x, at).into_hooked()))
    }

    /// Calls the closure for every step of `x`, `[row, step, head · position, feature]`.
    pub(crate) fn apply(
        &mut self,
        point: HookPoint,
        x: &Tensor<4>,
        positions: usize,
        extent: &Extent,
    ) -> Result<Tensor<4>, HookError> {
        let [rows, steps, units, features] = x.dims();
        let named = named(extent, rows);
        let mut changed = Vec::with_capacity(steps);
        for index in 0..steps {
            let step = extent.start + index;
            let given = if steps == 1 { x.clone() } else { x.clone().narrow(1, index, 1) };
            let given = given.reshape([rows, units / positions, positions, features]);
            let (expected, dtype) = (given.dims(), given.dtype());
            let at = At { point, step, rows: &named };
            let returned = (self.0)(given, &at).map_err(|error| HookError::Closure {
                point,
                step,
                reason: chain(error.as_ref()),
            })?;
            if returned.dims() != expected {
                let (found, expected) = (returned.dims().to_vec(), expected.to_vec());
                return Err(HookError::Shape { point, step, found, expected });
            }
            if returned.dtype() != dtype {
                let reason = format!("it returned {:?} elements, expected {dtype:?}", returned.dtype());
                return Err(HookError::Closure { point, step, reason });
            }
            changed.push(returned.reshape([rows, 1, units, features]));
        }
        Ok(if changed.len() == 1 { changed.remove(0) } else { Tensor::cat(changed, 1) })
    }
}

/// Branch and prompt of each of so many rows.
fn named(extent: &Extent, rows: usize) -> Vec<Row> {
    let row = |(branch, sequence): (usize, usize)| Row {
        branch: if branch == 0 { Branch::Cond } else { Branch::Uncond },
        prompt: extent.prompts.of(sequence),
    };
    match &extent.rows {
        Rows::Even { sequences } => (0..rows).map(|index| row((index / sequences, index % sequences))).collect(),
        Rows::Listed { rows: listed, .. } => listed.iter().copied().map(row).collect(),
    }
}

/// An error with everything that caused it.
fn chain(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
