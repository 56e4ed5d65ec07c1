//! Directions in the residual stream: edits that add one, and what there is to follow.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;
use tonoscope_core::{
    hooks::{
        Axis, Change, Component, Edit, EditFile, EditTensors, HookPoint, PointError, Scope, Selector, Site, Value,
        read_floats,
    },
    interventions::{MeanActivations, difference},
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
pub(crate) fn applied(file: &EditFile, how: EditRequest, known: &[HookPoint]) -> Result<Vec<Edit>, PointError> {
    let EditRequest { strength, layers: [first, last] } = how;
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
pub(crate) fn tensors(file: &EditFile, device: &Device) -> EditTensors {
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
            if point.component == Component::DECODER && point.layer.is_some() && point.site.head_axis().is_none() {
                found.entry(point).or_insert_with(|| values[..width].to_vec());
            }
        }
    }
    Ok(found)
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
        let points: Vec<HookPoint> = (0..layers).map(|layer| Site::RESID_POST.of(layer)).collect();
        let from = self.means(loaded, &self.from, &points, 0).await?;
        let to = self.means(loaded, &self.to, &points, self.from.len()).await?;
        let (mut edits, mut tensors) = (vec![], BTreeMap::new());
        for (point, tensor) in difference(&to, &from).points {
            // `[branch, 1, step, head, feature]`
            let mean = tensor.cast(DType::F32).mean_dim(2);
            let [branches, _, _, heads, features] = mean.dims();
            let values = read_floats(mean).await.map_err(failed)?;
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
    ) -> Result<MeanActivations, JsError> {
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
        MeanActivations::collect(model, &sequences, points, &how, 1, &mut watch).await.map_err(failed)
    }
}
