//! What is read off the layers of a run while it is made: how far it goes along directions, what probes say of it.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tonoscope_core::{
    hooks::{Branch, Capture, HookPoint, Hooks, Reduce, Selector, read_floats},
    readout::LinearProbe,
};
use wasm_bindgen::JsError;

use crate::failure::{failed, misuse};

/// What is read at one point in every step.
pub(crate) enum Reading {
    /// The cosine of the angle between the stream and this.
    Along(Vec<f32>),
    /// The probability of every class.
    Probe(LinearProbe),
}

/// Readings of the steps of one run, all of them of as many numbers.
pub(crate) struct Heat {
    readings: BTreeMap<HookPoint, Reading>,
    branch: Branch,
}

impl Reading {
    fn width(&self) -> usize {
        match self {
            Self::Along(direction) => direction.len(),
            Self::Probe(probe) => probe.width(),
        }
    }

    fn of(&self, stream: &[f32]) -> Vec<f32> {
        match self {
            Self::Along(direction) => vec![cosine(stream, direction)],
            Self::Probe(probe) => probe.probabilities(stream).into_iter().map(|value| value as f32).collect(),
        }
    }
}

impl Heat {
    /// Of this half of the guidance batch.
    pub(crate) fn new(readings: BTreeMap<HookPoint, Reading>, branch: Branch) -> Self {
        Self { readings, branch }
    }

    /// What has to be recorded.
    pub(crate) fn captures(&self) -> impl Iterator<Item = Capture> + '_ {
        let capture = |&point: &HookPoint| Capture { points: Selector::point(point), reduce: Reduce::LastStep };
        self.readings.keys().map(capture)
    }

    /// What is read off the last step.
    ///
    /// # Shapes
    /// - result: `[number, point]`, row-major
    pub(crate) async fn hear(&self, hooks: &Hooks<'_>) -> Result<Vec<f32>, JsError> {
        let row = match self.branch {
            Branch::Cond => 0,
            Branch::Uncond => 1,
        };
        let mut streams = vec![];
        for (point, reading) in &self.readings {
            let Some(stream) = hooks.latest(*point) else { return Err(misuse(format!("`{point}` is not recorded"))) };
            // Of a batch of one, the conditional branch first.
            let [branches, _, _, width] = stream.dims();
            if row >= branches {
                return Err(misuse(
                    "these probes were fitted on the unconditional half, which this run does not have\n\
                     choose a guidance other than 1",
                ));
            }
            check_width(*point, reading.width(), width)?;
            streams.push(stream.narrow(0, row, 1).reshape([width]));
        }
        // Read back together: on a GPU each reading waits.
        let all = read_floats(Tensor::cat(streams, 0)).await.map_err(failed)?;
        let mut rest = &all[..];
        let mut columns = vec![];
        for reading in self.readings.values() {
            let (stream, others) = rest.split_at(reading.width());
            columns.push(reading.of(stream));
            rest = others;
        }
        let numbers = columns.first().map_or(0, Vec::len);
        Ok((0..numbers).flat_map(|number| columns.iter().map(move |column| column[number])).collect())
    }
}

/// Whether what was made for `found` features fits a point that has `width`.
pub(crate) fn check_width(point: HookPoint, found: usize, width: usize) -> Result<(), JsError> {
    if found == width {
        return Ok(());
    }
    Err(misuse(format!(
        "what is read at `{point}` takes {found} features, the model has {width}\nthe file is of another model"
    )))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}
