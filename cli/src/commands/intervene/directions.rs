//! Differences of means as edits that `generate --edit` applies.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::tensor::DType;
use tonoscope_core::{
    hooks::{Axis, Change, Edit, EditFile, Scope, Selector, Value, read_floats},
    interventions::{Means, difference},
};

use super::plan::InterventionPlan;
use crate::files::OutputFolder;

/// Writes `edits/FROM_to_TO.safetensors` for every pair: at each site and layer, the difference averaged over steps is
/// added, so that it fits music of any length.
pub(super) fn write(plan: &InterventionPlan, means: &BTreeMap<usize, Means>, folder: &OutputFolder) -> Result<()> {
    let folder = folder.within("edits")?;
    for &(from, to) in &plan.pairs {
        let difference = difference(&means[&to], &means[&from]);
        let (mut edits, mut tensors) = (vec![], BTreeMap::new());
        for (&point, tensor) in &difference.points {
            // `[branch, 1, step, head, feature]`
            let mean = tensor.clone().cast(DType::F32).mean_dim(2);
            let [branches, _, _, heads, features] = mean.dims();
            let values = pollster::block_on(read_floats(mean))?;
            let name = point.to_string();
            tensors.insert(name.clone(), (values, [1, 1, branches, heads, features]));
            let axes = [Axis::Branch, Axis::Head, Axis::Feature];
            let axes = if branches == 1 { axes[1..].to_vec() } else { axes.to_vec() };
            edits.push(Edit {
                points: Selector::point(point),
                scope: Scope { steps: plan.steps.clone(), branch: plan.branch, ..Scope::default() },
                change: Change::Add { value: Value { tensor: name, axes }, scale: plan.scale },
            });
        }
        let name = plan.pair_name((from, to));
        folder.write(&format!("{name}.safetensors"), &EditFile { edits, tensors }.to_bytes()?)?;
    }
    Ok(())
}
