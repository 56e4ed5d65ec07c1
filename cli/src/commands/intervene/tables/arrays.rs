//! All probabilities of a pair as arrays: `pairs/FROM_to_TO.safetensors`.

use std::collections::BTreeMap;

use anyhow::Result;
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::metrics::kl_elementwise;

use crate::{
    commands::intervene::{
        plan::{InterventionPlan, Unit, technique_name},
        unit::{CleanUnit, PairUnit, log_probabilities},
    },
    files::OutputFolder,
    tensors::to_file,
};

/// Gathers the prompts of one pair after another and writes each pair when it is complete.
pub(super) struct PairArrays {
    places: usize,
    pair: Option<(usize, usize)>,
    /// Name → values and shape without the first axis, that of prompts.
    arrays: BTreeMap<String, (Vec<f32>, Vec<usize>)>,
    codes: BTreeMap<String, (Vec<i64>, Vec<usize>)>,
}

impl PairArrays {
    pub(super) fn new(places: usize) -> Self {
        Self { places, pair: None, arrays: BTreeMap::new(), codes: BTreeMap::new() }
    }

    /// Takes in a unit; those of one pair come one after another.
    pub(super) fn push(
        &mut self,
        plan: &InterventionPlan,
        unit: Unit,
        clean: &CleanUnit,
        made: &PairUnit,
        folder: &OutputFolder,
    ) -> Result<()> {
        if self.pair.is_some_and(|pair| pair != unit.pair) {
            self.finish(plan, folder)?;
        }
        self.pair = Some(unit.pair);
        let before = log_probabilities(&clean.logits);
        let classes = before.len();
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
        let exp = |log: &[f64]| narrow(&log.iter().map(|log| log.exp()).collect::<Vec<f64>>());
        self.add("probabilities_before".to_owned(), exp(&before), &[classes]);
        for (technique, outcome) in made {
            let name = technique_name(*technique);
            let (mut after, mut kl) = (vec![], vec![]);
            for logits in &outcome.logits {
                let log = log_probabilities(logits);
                kl.extend(narrow(&kl_elementwise(&before, &log)));
                after.extend(exp(&log));
            }
            self.add(format!("{name}.probabilities_after"), after, &[self.places, classes]);
            self.add(format!("{name}.kl_elementwise"), kl, &[self.places, classes]);
            if let Some(first) = outcome.codes.first() {
                let codes = outcome.codes.iter().flatten().flatten().map(|&code| i64::from(code));
                let entry = self.codes.entry(format!("{name}.codes")).or_default();
                entry.0.extend(codes);
                entry.1 = vec![self.places, first.len(), first[0].len()];
            }
        }
        if plan.tokens {
            let entry = self.codes.entry("clean.codes".to_owned()).or_default();
            entry.0.extend(clean.codes.iter().flatten().map(|&code| i64::from(code)));
            entry.1 = vec![clean.codes.len(), clean.codes[0].len()];
        }
        Ok(())
    }

    fn add(&mut self, name: String, values: Vec<f32>, shape: &[usize]) {
        let entry = self.arrays.entry(name).or_default();
        entry.0.extend(values);
        entry.1 = shape.to_vec();
    }

    /// Writes the pair that is at hand: `[prompt, place, class]`, elementwise KL and probabilities, `[prompt, place,
    /// codebook, frame]` codes; the metadata names places and prompts.
    pub(super) fn finish(&mut self, plan: &InterventionPlan, folder: &OutputFolder) -> Result<()> {
        let Some((from, to)) = self.pair.take() else { return Ok(()) };
        let mut stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![];
        for (name, (values, shape)) in std::mem::take(&mut self.arrays) {
            let prompts = values.len() / shape.iter().product::<usize>().max(1);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            stored.push((name, Dtype::F32, [&[prompts], shape.as_slice()].concat(), bytes));
        }
        for (name, (values, shape)) in std::mem::take(&mut self.codes) {
            let prompts = values.len() / shape.iter().product::<usize>().max(1);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            stored.push((name, Dtype::I64, [&[prompts], shape.as_slice()].concat(), bytes));
        }
        let views = stored
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        let places: Vec<String> = plan.places()?.iter().map(ToString::to_string).collect();
        let metadata = BTreeMap::from([
            ("places".to_owned(), serde_json::to_string(&places)?),
            ("prompts".to_owned(), serde_json::to_string(plan.intervened(from))?),
        ]);
        let name = plan.pair_name((from, to));
        let bytes = to_file(views, metadata)?;
        folder.within("pairs")?.write(&format!("{name}.safetensors"), &bytes)?;
        Ok(())
    }
}
