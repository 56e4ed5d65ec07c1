//! Results as they are published.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::InputError;

/// How one classifier of one concept did at one diffusion step; fields are named as in `concept_results.json`. A share of
/// nothing, such as the rate of positives where there are none, is `null` there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedResult {
    /// Name of the concept, such as `is_brass`.
    pub concept: String,
    /// Diffusion step of the generated audio.
    pub diff_step: usize,
    /// Generated samples that have the concept.
    pub pos_gen_audio_samples: usize,
    /// Generated samples that do not come near it.
    pub neg_gen_audio_samples: usize,
    /// Embeddings, such as `laion-clap`.
    pub embed_model: String,
    /// Classifier: `logistic` or `svm`.
    pub class_model_type: String,
    /// Accuracy on the notes that it was fitted on.
    pub class_model_train_acc: Option<f64>,
    /// Accuracy on notes that it was not fitted on.
    pub class_model_test_acc: Option<f64>,
    /// Accuracy on generated audio.
    pub acc: Option<f64>,
    /// Share of the positives that are found.
    pub tpr: Option<f64>,
    /// Share of the negatives that are left alone.
    pub tnr: Option<f64>,
}

/// Both forms in which results are found.
#[derive(Deserialize)]
#[serde(untagged)]
enum Results {
    List(Vec<PublishedResult>),
    ByConcept(BTreeMap<String, Vec<PublishedResult>>),
}

/// Results by concept: those of a list, or of lists by concept.
///
/// # Errors
/// [`InputError::Format`], or [`InputError::Empty`] if there is none.
pub fn read_results(bytes: &[u8]) -> Result<BTreeMap<String, Vec<PublishedResult>>, InputError> {
    const WHAT: &str = "results of concepts";
    let read =
        serde_json::from_slice(bytes).map_err(|cause| InputError::Format { what: WHAT, reason: cause.to_string() })?;
    let results = match read {
        Results::ByConcept(results) => results,
        Results::List(list) => {
            let mut results: BTreeMap<String, Vec<PublishedResult>> = BTreeMap::new();
            for result in list {
                results.entry(result.concept.clone()).or_default().push(result);
            }
            results
        }
    };
    if results.values().all(Vec::is_empty) { Err(InputError::Empty { what: WHAT }) } else { Ok(results) }
}
