//! What `generate --capture` has written, as features.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use tonoscope_core::{
    checkpoint::{SafetensorsFile, Source, read_numbers},
    hooks::{CaptureName, Component, HookPoint, Reduce, Time},
};

use super::labels::Row;
use crate::failure::Failed;

/// Axes that a captured tensor may have. Those of one line may come in any order, after those of the lines before.
const AXES: [&[&str]; 5] = [&["branch"], &["prompt"], &["step"], &["head", "position", "query"], &["feature", "key"]];

/// The file, its tensors not read yet.
pub(super) struct CaptureFile {
    file: SafetensorsFile,
    /// Prompts of the run.
    pub(super) prompts: Vec<String>,
    /// In the order of the computation.
    pub(super) points: Vec<CapturedPoint>,
}

/// One captured tensor.
#[derive(Debug, Clone)]
pub(super) struct CapturedPoint {
    /// Name in the file.
    pub(super) name: String,
    /// Where it was recorded.
    pub(super) point: HookPoint,
    /// What was kept.
    pub(super) reduce: Reduce,
    axes: Vec<String>,
    shape: Vec<usize>,
    /// Branches, prompts, steps, heads, features; 1 where there is no such axis.
    extents: [usize; 5],
}

impl CaptureFile {
    /// Reads the header of the file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let metadata = file.metadata();
        let of_capture = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                let what = format!("`{}` is no capture: there is no `{key}` in its metadata", path.display());
                Failed::new(what, "pass the `capture.safetensors` that `tonoscope generate --capture` writes")
            })
        };
        let damaged = |key: &str| format!("`{}` is damaged: `{key}` in its metadata", path.display());
        let mut axes: BTreeMap<String, Vec<String>> =
            serde_json::from_str(of_capture("axes")?).with_context(|| damaged("axes"))?;
        let prompts: Vec<String> = serde_json::from_str(of_capture("prompts")?).with_context(|| damaged("prompts"))?;
        let mut points = vec![];
        for name in file.names() {
            let Some(axes) = axes.remove(&name) else { bail!("{}: no axes of `{name}`", damaged("axes")) };
            let shape = file.shape(&name).unwrap_or_default();
            let point = CapturedPoint::new(name, axes, &shape).with_context(|| format!("`{}`", path.display()))?;
            if point.has("prompt") && point.extents[1] != prompts.len() {
                bail!("{}: {} prompts of {}", damaged("prompts"), prompts.len(), point.name);
            }
            points.push(point);
        }
        points.sort_by_key(CapturedPoint::order);
        Ok(Self { file, prompts, points })
    }

    /// One row of features per row of labels: the mean over positions, and of a whole prompt also over its steps.
    ///
    /// # Shapes
    /// - result: `[row, point.width()]`, row-major
    pub(super) fn features(&self, point: &CapturedPoint, branch: usize, rows: &[Row]) -> Result<Vec<f32>> {
        let (_, values) = read_numbers(&self.file, &point.name)?;
        let [_, prompts, steps, ..] = point.extents;
        let width = point.width();
        // Offsets of the features of one frame, and of what is averaged.
        let features_at = point.offsets(|axis| matches!(axis, "head" | "feature" | "key"));
        let averaged = point.offsets(|axis| matches!(axis, "position" | "query"));
        let frame = |prompt: usize, step: usize| {
            let start = ((branch * prompts + prompt) * steps + step) * width * averaged.len();
            let (values, averaged) = (&values, &averaged);
            features_at.iter().map(move |feature| match averaged.as_slice() {
                [one] => values[start + feature + one],
                all => {
                    let sum: f64 = all.iter().map(|at| f64::from(values[start + feature + at])).sum();
                    (sum / all.len() as f64) as f32
                }
            })
        };
        let mut features = Vec::with_capacity(rows.len() * width);
        for row in rows {
            match row.step {
                Some(step) if step >= steps => {
                    bail!("prompt {} has a label at step {step}, `{}` has {steps} steps", row.prompt, point.name)
                }
                Some(step) => features.extend(frame(row.prompt, step)),
                None => {
                    let mut sum = vec![0.0; width];
                    for step in 0..steps {
                        sum.iter_mut().zip(frame(row.prompt, step)).for_each(|(sum, value)| *sum += f64::from(value));
                    }
                    features.extend(sum.into_iter().map(|sum| (sum / steps as f64) as f32));
                }
            }
        }
        Ok(features)
    }
}

impl CapturedPoint {
    fn new(name: String, axes: Vec<String>, shape: &[usize]) -> Result<Self> {
        let captured: CaptureName = name.parse().map_err(anyhow::Error::msg)?;
        let CaptureName { point, reduce } = captured;
        // Where a network goes step by step, a query is a step.
        let as_step = |axis: String| match axis.as_str() {
            "query" if point.time() == Time::Steps => "step".to_owned(),
            _ => axis,
        };
        let axes: Vec<String> = captured.current_axes(axes).into_iter().map(as_step).collect();
        let mut extents = [1; 5];
        let mut last = 0;
        for (index, (axis, &len)) in axes.iter().zip(shape).enumerate() {
            let place = AXES.iter().position(|line| line.contains(&axis.as_str()));
            let Some(place) = place.filter(|place| *place >= last && !axes[..index].contains(axis)) else {
                bail!("`{name}` has an axis `{axis}` that is unknown or not in its place")
            };
            last = place;
            if !matches!(axis.as_str(), "position" | "query") {
                extents[place] = len;
            }
        }
        if axes.len() != shape.len() || shape.contains(&0) {
            bail!("`{name}` has shape {shape:?} and axes {axes:?}");
        }
        Ok(Self { name, point, reduce, axes, shape: shape.to_vec(), extents })
    }

    /// Features of one prompt and step; those of all heads together.
    pub(super) fn width(&self) -> usize {
        self.extents[3] * self.extents[4]
    }

    /// Guidance branches.
    pub(super) fn branches(&self) -> usize {
        self.extents[0]
    }

    /// Why it cannot be probed, if it cannot.
    pub(super) fn obstacle(&self, per_frame: bool, branch: usize) -> Option<&'static str> {
        if !self.has("prompt") {
            Some("it holds the mean over prompts")
        } else if per_frame && !self.has("step") {
            Some("it has no generation steps")
        } else if branch >= self.branches() {
            Some("it has no unconditional branch")
        } else {
            None
        }
    }

    fn has(&self, axis: &str) -> bool {
        self.axes.iter().any(|of| of == axis)
    }

    /// Offsets of the elements along the axes that `of` names, in the order of the file.
    fn offsets(&self, of: impl Fn(&str) -> bool) -> Vec<usize> {
        let mut offsets = vec![0];
        for index in (0..self.axes.len()).filter(|&index| of(&self.axes[index])) {
            let stride: usize = self.shape[index + 1..].iter().product();
            let along = 0..self.shape[index];
            offsets = offsets.iter().flat_map(|start| along.clone().map(move |at| start + at * stride)).collect();
        }
        offsets
    }

    /// Text encoder, decoder; in each the embedding, the layers, and what comes after them.
    fn order(&self) -> (usize, usize, usize, String) {
        let HookPoint { component, layer, site } = self.point;
        let place = |found: Option<usize>| found.unwrap_or(usize::MAX);
        let of_site = place(component.sites().iter().position(|&of| of == site));
        // What is outside the layers comes before them or after.
        let of_layer = match layer {
            Some(layer) => layer + 1,
            None if of_site == 0 => 0,
            None => usize::MAX,
        };
        let of_component = place(Component::ALL.iter().position(|&of| of == component));
        (of_component, of_layer, of_site, self.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, axes: &[&str], shape: &[usize]) -> Result<CapturedPoint> {
        CapturedPoint::new(name.to_owned(), axes.iter().map(|axis| (*axis).to_owned()).collect(), shape)
    }

    #[test]
    fn axes_are_put_in_their_places() {
        let heads = point("decoder.1.self_attn.z", &["branch", "prompt", "step", "head", "feature"], &[2, 3, 5, 4, 8]);
        assert_eq!(heads.unwrap().extents, [2, 3, 5, 4, 8]);
        let means = point("decoder.1.resid_post:mean_time", &["branch", "prompt", "feature"], &[2, 3, 8]).unwrap();
        assert_eq!((means.extents, means.reduce), ([2, 3, 1, 1, 8], Reduce::MeanTime));
        assert_eq!(means.obstacle(false, 1), None);
        assert_eq!(means.obstacle(true, 1), Some("it has no generation steps"));
        assert_eq!(means.obstacle(false, 2), Some("it has no unconditional branch"));
        let prompts = point("decoder.1.resid_post:mean_prompts", &["branch", "step", "feature"], &[2, 5, 8]).unwrap();
        assert_eq!(prompts.extents, [2, 1, 5, 1, 8]);
        assert_eq!(prompts.obstacle(false, 0), Some("it holds the mean over prompts"));
        for (axes, shape) in [
            (&["feature", "prompt"][..], &[8, 3][..]),
            (&["time"][..], &[8][..]),
            (&["prompt"][..], &[3, 8][..]),
            (&["prompt"][..], &[0][..]),
        ] {
            assert!(point("decoder.1.resid_post", axes, shape).is_err(), "{axes:?} {shape:?}");
        }
    }

    #[test]
    fn points_are_in_the_order_of_the_computation() {
        let names = [
            "decoder.logits",
            "decoder.10.resid_pre",
            "decoder.2.mlp_out",
            "decoder.2.resid_pre",
            "decoder.embed",
            "encoder.final_norm",
        ];
        let mut points: Vec<_> = names.map(|name| point(name, &["feature"], &[8]).unwrap()).into();
        points.sort_by_key(CapturedPoint::order);
        let sorted: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        let expected = [
            "encoder.final_norm",
            "decoder.embed",
            "decoder.2.resid_pre",
            "decoder.2.mlp_out",
            "decoder.10.resid_pre",
            "decoder.logits",
        ];
        assert_eq!(sorted, expected);
    }
}
