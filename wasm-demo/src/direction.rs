//! Directions in the residual stream: edits that add one, and how far a run goes along them.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::json;
use tonoscope_core::{
    hooks::{
        Axis, Capture, Change, Edit, EditFile, HookPoint, HookTensors, Hooks, Part, PointError, Reduce, Scope,
        Selector, Site, Value,
    },
    interventions::{Means, difference},
    models::musicgen::MusicGen,
};
use wasm_bindgen::JsError;

use crate::{
    bridge,
    failure::{failed, misuse},
    model::Loaded,
    request::{EditRequest, PieceRequest, sequence},
};

/// The edits of `file` at the layers that are asked for, what they add multiplied.
pub(crate) fn applied(file: &EditFile, how: Option<EditRequest>, known: &[HookPoint]) -> Result<Vec<Edit>, PointError> {
    let Some(EditRequest { strength, layers: [first, last] }) = how else { return Ok(vec![]) };
    if strength == 0.0 {
        return Ok(vec![]);
    }
    let mut edits = vec![];
    for edit in &file.edits {
        for point in edit.points.expand(known)? {
            if point.layer.is_some_and(|layer| layer < first || layer > last) {
                continue;
            }
            let mut change = edit.change.clone();
            if let Change::Add { scale, .. } = &mut change {
                *scale *= strength;
            }
            edits.push(Edit { points: Selector::point(point), scope: edit.scope.clone(), change });
        }
    }
    Ok(edits)
}

/// The tensors of `file` on `device`.
pub(crate) fn tensors(file: &EditFile, device: &Device) -> HookTensors {
    let float: DType = device.settings().float_dtype.into();
    let place = |(name, (values, shape)): (&String, &(Vec<f32>, [usize; 5]))| {
        let data = TensorData::new(values.clone(), *shape).convert_dtype(float);
        (name.clone(), Tensor::from_data(data, device))
    };
    file.tensors.iter().map(place).collect()
}

/// The direction that `file` adds for the conditional branch at each point of the decoder, as long as it is the same at
/// every step and the point has no heads; in the order of the layers.
pub(crate) fn directions(file: &EditFile, known: &[HookPoint]) -> Result<BTreeMap<HookPoint, Vec<f32>>, PointError> {
    let mut found = BTreeMap::new();
    for edit in &file.edits {
        let Change::Add { value, .. } = &edit.change else { continue };
        let Some((values, shape)) = file.tensors.get(&value.tensor) else { continue };
        let simple = value.axes.iter().all(|axis| matches!(axis, Axis::Branch | Axis::Head | Axis::Feature));
        let width = shape[4];
        // Without a branch axis there is one row, with one the conditional comes first.
        let one_head = !value.axes.contains(&Axis::Head) || shape[3] == 1;
        if !simple || !one_head || value.axes.last() != Some(&Axis::Feature) {
            continue;
        }
        for point in edit.points.expand(known)? {
            if point.part == Part::Decoder && point.layer.is_some() && point.site.head_axis().is_none() {
                found.entry(point).or_insert_with(|| values[..width].to_vec());
            }
        }
    }
    Ok(found)
}

/// What has to be recorded to follow `directions`.
pub(crate) fn followed(directions: &BTreeMap<HookPoint, Vec<f32>>) -> Vec<Capture> {
    let capture = |&point: &HookPoint| Capture { points: Selector::point(point), reduce: Reduce::LastStep };
    directions.keys().map(capture).collect()
}

/// How far a run goes along directions: layers × steps.
pub(crate) struct Heat {
    directions: BTreeMap<HookPoint, Vec<f32>>,
    /// By step, a row per direction.
    columns: Vec<Vec<f32>>,
}

impl Heat {
    /// Of a run that has not begun.
    pub(crate) fn new(directions: BTreeMap<HookPoint, Vec<f32>>) -> Self {
        Self { directions, columns: vec![] }
    }

    /// The cosine of the angle between the stream of the last step and the direction, at each point.
    pub(crate) async fn hear(&mut self, hooks: &Hooks) -> Result<Vec<f32>, JsError> {
        let mut streams = vec![];
        for (point, direction) in &self.directions {
            let Some(stream) = hooks.latest(*point) else { return Err(misuse(format!("`{point}` is not recorded"))) };
            let width = stream.dims()[3];
            if width != direction.len() {
                let found = direction.len();
                return Err(misuse(format!("the direction at `{point}` has {found} features, the model has {width}")));
            }
            // The conditional branch comes first.
            streams.push(stream.narrow(0, 0, 1).reshape([width]));
        }
        // Read back together: on a GPU each reading waits.
        let all = Tensor::cat(streams, 0).cast(DType::F32).into_data_async().await.map_err(failed)?;
        let all: Vec<f32> = all.try_to_vec().unwrap_or_default();
        let mut rest = &all[..];
        let mut column = vec![];
        for direction in self.directions.values() {
            let (stream, others) = rest.split_at(direction.len());
            column.push(cosine(stream, direction));
            rest = others;
        }
        self.columns.push(column.clone());
        Ok(column)
    }

    pub(crate) fn about(&self) -> String {
        about(&self.directions, self.columns.len())
    }

    /// `[row, step]`
    pub(crate) fn values(&self) -> Vec<f32> {
        let row = |row: usize| self.columns.iter().map(move |column| column[row]);
        (0..self.directions.len()).flat_map(row).collect()
    }
}

/// JSON: which rows a heat map of `directions` has, and how many steps.
fn about(directions: &BTreeMap<HookPoint, Vec<f32>>, steps: usize) -> String {
    let names: Vec<String> = directions.keys().map(ToString::to_string).collect();
    let layers: Vec<Option<usize>> = directions.keys().map(|point| point.layer).collect();
    json!({"points": names, "layers": layers, "steps": steps}).to_string()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}

/// A direction from some prompts to others, to be made by generating all of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectionRequest {
    from: Vec<String>,
    to: Vec<String>,
    /// Settings of the runs; its prompt counts for nothing.
    piece: PieceRequest,
}

impl DirectionRequest {
    /// The difference of the mean residual streams after every layer, averaged over steps: an edit that adds it. What
    /// `tonoscope intervene` writes to `edits/`.
    pub(crate) async fn make(&self, loaded: &Loaded) -> Result<EditFile, JsError> {
        let layers = loaded.model.config().decoder.num_hidden_layers;
        let points: Vec<HookPoint> = (0..layers).map(|layer| Site::ResidPost.of(layer)).collect();
        let from = self.means(loaded, &self.from, &points, 0).await?;
        let to = self.means(loaded, &self.to, &points, self.from.len()).await?;
        let (mut edits, mut tensors) = (vec![], BTreeMap::new());
        for (point, tensor) in difference(&to, &from).points {
            // `[branch, 1, step, head, feature]`
            let mean = tensor.cast(DType::F32).mean_dim(2);
            let [branches, _, _, heads, features] = mean.dims();
            let values = mean.into_data_async().await.map_err(failed)?.try_to_vec().unwrap_or_default();
            let name = point.to_string();
            tensors.insert(name.clone(), (values, [1, 1, branches, heads, features]));
            let axes = [Axis::Branch, Axis::Head, Axis::Feature];
            let axes = if branches == 1 { axes[1..].to_vec() } else { axes.to_vec() };
            edits.push(Edit {
                points: Selector::point(point),
                scope: Scope::default(),
                change: Change::Add { value: Value { tensor: name, axes }, scale: 1.0 },
            });
        }
        Ok(EditFile { edits, tensors })
    }

    async fn means(
        &self,
        loaded: &Loaded,
        prompts: &[String],
        points: &[HookPoint],
        before: usize,
    ) -> Result<Means, JsError> {
        if prompts.is_empty() {
            return Err(misuse("a direction leads from at least one prompt to at least one other"));
        }
        let sequences = prompts.iter().map(|prompt| sequence(prompt, loaded)).collect::<Result<Vec<_>, _>>()?;
        let how = self.piece.generate(loaded)?;
        let all = self.from.len() + self.to.len();
        let model: &MusicGen = &loaded.model;
        let mut watch = |progress: tonoscope_core::models::musicgen::Progress| {
            let each = progress.total / prompts.len().max(1);
            bridge::step(before * each + progress.done, all * each)
        };
        Means::collect(model, &sequences, points, &how, 1, &mut watch).await.map_err(failed)
    }
}
