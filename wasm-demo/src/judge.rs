//! A classifier that says what it hears in each layer's music.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::Placement,
    concepts::ConceptSet,
    metrics::ndcg,
    models::passt::{Labels, Passt, PasstConfig},
};
use wasm_bindgen::JsError;

use crate::{
    bridge,
    failure::{failed, misuse, not_loaded},
    model::Shard,
};

/// Classes that are named for each piece of music.
const NAMED: usize = 3;

/// A PaSST and the concepts of the ISMIR paper that it has classes for.
pub(crate) struct Judge {
    passt: Passt,
    labels: Labels,
    /// By name, which classes count as a hit.
    concepts: BTreeMap<String, Vec<bool>>,
}

/// What it says about one piece of music.
#[derive(Debug, Serialize)]
pub(crate) struct Judgement {
    /// The likeliest classes and their probabilities, of all classes together.
    top: Vec<(String, f64)>,
    /// By concept, how far its classes are in front: normalised discounted cumulative gain.
    ndcg: BTreeMap<String, f64>,
}

impl Judge {
    /// Loads the weights `shard`; `beside` is the `config.json` of their folder.
    pub(crate) fn load(shard: Shard, beside: Option<&str>, placement: Placement) -> Result<Self, JsError> {
        let load = || {
            let source = Box::new(shard.open()?);
            let (config, labels) = PasstConfig::described(source.as_ref(), beside)?;
            Ok((Passt::from_source(source, &config, placement)?, labels))
        };
        let (passt, labels) = load().map_err(|error| not_loaded(&error))?;
        let set = &ConceptSet::ismir().concepts;
        let known = set.iter().filter_map(|concept| Some((concept.name.clone(), concept.relevant(&labels).ok()?)));
        let concepts = known.collect();
        Ok(Self { passt, labels, concepts })
    }

    /// JSON: the number of classes, and the concepts that it knows.
    pub(crate) fn about(&self) -> String {
        json!({"classes": self.labels.len(), "concepts": self.concepts.keys().collect::<Vec<_>>()}).to_string()
    }

    /// What it hears in each of `waves`, which are of one length.
    pub(crate) async fn hear(&self, waves: &[Waveform]) -> Result<Vec<Judgement>, JsError> {
        let config = self.passt.config();
        let rate = u32::try_from(config.mel.sr).map_err(failed)?;
        bridge::stage("judging");
        let mut all = vec![];
        for wave in waves {
            let wave = wave.clone().to_mono().resample(rate).map_err(failed)?;
            let (samples, least) = (wave.samples(), config.least_samples());
            if samples < least {
                let [found, needed] = [samples, least].map(|samples| samples as f64 / f64::from(rate));
                return Err(misuse(format!(
                    "{found:.2} s of music are too little for the judge, who needs {needed:.2} s"
                )));
            }
            let said = self.passt.classify(&[&wave.channels()[0]]).await.map_err(failed)?.swap_remove(0);
            let (probabilities, ranking) = (said.softmax(), said.ranking());
            let name = |class: usize| self.labels.get(class).map_or_else(String::new, |label| label.name.clone());
            all.push(Judgement {
                top: ranking.iter().take(NAMED).map(|&class| (name(class), probabilities[class])).collect(),
                ndcg: self
                    .concepts
                    .iter()
                    .map(|(concept, relevant)| (concept.clone(), ndcg(relevant, &probabilities)))
                    .collect(),
            });
            if bridge::step(all.len(), waves.len()).is_break() {
                return Err(misuse("cancelled"));
            }
        }
        Ok(all)
    }
}
