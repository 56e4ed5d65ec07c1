//! Long signals through convolutions, a tile at a time.

use std::ops::Range;

use burn::tensor::Tensor;

/// A layer each of whose output steps is made from a few input steps.
pub(crate) trait Local {
    /// # Shapes
    /// - `x`: `[batch, time, in]`; result: `[batch, time · up / down, out]`, rounded as [`Self::steps`] says
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;

    /// Output steps per input steps, `[up, down]`; one of them is 1.
    fn ratio(&self) -> [usize; 2];

    /// Output steps for `time` input steps.
    fn steps(&self, time: usize) -> usize;

    /// Input steps that the output steps `range` are made from; beyond the ends where there is none.
    fn inputs(&self, range: Range<isize>) -> Range<isize>;

    /// Numbers that one tensor inside holds at most for every step of the input, and of the output.
    fn numbers(&self) -> [usize; 2];
}

/// All `layers`, computed for `tile` steps of their output at a time: memory is that of one tile. Tiles become shorter until
/// no tensor holds more than `buffer` numbers.
///
/// Each layer is given as many steps on both sides as its outputs are made from, so that the result is that of the whole
/// signal, up to the rounding of products of other sizes.
///
/// # Shapes
/// - `x`: `[batch, time, in]`; result: `[batch, steps, out]`
pub(crate) fn in_tiles<L: Local>(layers: &[L], x: &Tensor<3>, tile: usize, buffer: usize) -> Tensor<3> {
    let [batch, time, _] = x.dims();
    let lengths = lengths(layers, time);
    let total = lengths[layers.len()];
    let mut tile = tile.clamp(1, total);
    while tile > 1 && batch.saturating_mul(largest(layers, &lengths, tile)) > buffer {
        tile = tile.div_ceil(2);
    }
    let ranges = (0..total).step_by(tile).map(|start| start..(start + tile).min(total));
    Tensor::cat(ranges.map(|range| one_tile(layers, &lengths, x, range)).collect(), 1)
}

/// Numbers of the largest tensor on the way to `tile` steps of the output, for one sequence.
pub(crate) fn largest<L: Local>(layers: &[L], lengths: &[usize], tile: usize) -> usize {
    let start = (lengths[layers.len()] - tile) / 2;
    let ranges = needed(layers, lengths, start..start + tile);
    let of_layer = |(layer, ranges): (&L, &[Range<usize>])| {
        let [inputs, outputs] = layer.numbers();
        (ranges[0].len() * inputs).max(ranges[1].len() * outputs)
    };
    layers.iter().zip(ranges.windows(2)).map(of_layer).max().unwrap_or(0)
}

/// Steps of the input of the first layer, `time`, then of the output of every layer.
pub(crate) fn lengths<L: Local>(layers: &[L], time: usize) -> Vec<usize> {
    let mut lengths = vec![time];
    for layer in layers {
        lengths.push(layer.steps(lengths[lengths.len() - 1]));
    }
    lengths
}

/// The output steps `range` of all `layers`. Of `x` only the steps that they are made from have to be there yet, see
/// [`reach`]; `lengths` are those of the whole signal.
///
/// # Shapes
/// - `x`: `[batch, time, in]`; result: `[batch, range, out]`
pub(crate) fn one_tile<L: Local>(layers: &[L], lengths: &[usize], x: &Tensor<3>, range: Range<usize>) -> Tensor<3> {
    let ranges = needed(layers, lengths, range);
    let x = x.clone().narrow(1, ranges[0].start, ranges[0].len());
    layers.iter().zip(ranges.windows(2)).fold(x, |x, (layer, ranges)| {
        let [up, down] = layer.ratio();
        layer.forward(x).narrow(1, ranges[1].start - ranges[0].start / down * up, ranges[1].len())
    })
}

/// How many output steps the first `known` steps of a signal decide, whatever comes after them.
pub(crate) fn reach<L: Local>(layers: &[L], lengths: &[usize], known: usize) -> usize {
    // The more outputs, the more inputs.
    let (mut decided, mut too_many) = (0, lengths[layers.len()] + 1);
    while too_many - decided > 1 {
        let middle = decided.midpoint(too_many);
        if needed(layers, lengths, 0..middle)[0].end <= known {
            decided = middle;
        } else {
            too_many = middle;
        }
    }
    decided
}

/// What the output steps `range` need: steps of the input of the first layer, then of the output of every layer.
/// `lengths` says how many there are.
fn needed<L: Local>(layers: &[L], lengths: &[usize], range: Range<usize>) -> Vec<Range<usize>> {
    let signed = |steps: usize| isize::try_from(steps).expect("audio fits into memory");
    let mut outputs = range;
    let mut ranges = Vec::with_capacity(lengths.len());
    for (layer, &length) in layers.iter().zip(lengths).rev() {
        let inputs = layer.inputs(signed(outputs.start)..signed(outputs.end));
        let last = signed(length);
        // Beyond an end may lie the mirror image of what is before it.
        let start = if inputs.end > last { inputs.start.min(2 * last - 1 - inputs.end) } else { inputs.start };
        let end = if inputs.start < 0 { inputs.end.max(1 - inputs.start) } else { inputs.end };
        let [start, end] = [start, end].map(|step| step.clamp(0, last).unsigned_abs());
        let [_, down] = layer.ratio();
        ranges.push(std::mem::replace(&mut outputs, start / down * down..end));
    }
    ranges.push(outputs);
    ranges.reverse();
    ranges
}
