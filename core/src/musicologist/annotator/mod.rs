//! Annotations without a language model: rules for instruments and tempo, a small trained model for qualities.
//!
//! An instrument is in a prompt if one of its words is. Qualities are judged by logistic regressions over the prompt's words
//! (TF-IDF), the instruments that the rules find, and the tempo; `data/annotator.json` holds one that has learnt from the
//! published annotations, and [`train()`] makes others. An aspect that a model does not know, being rare, is judged by rules.
//!
//! Measured on the 1 000 published prompts, a fifth held out in turn, micro-F1 over the 25 aspects: rules alone 0.805, rules
//! and model 0.851. `data/README.md` has it by aspect, `tonoscope prompts train-annotator` measures it.

mod evaluate;
mod model;
mod rules;
#[cfg(test)]
mod tests;
#[cfg(not(target_arch = "wasm32"))]
mod train;
mod words;

use std::sync::LazyLock;

pub use evaluate::{Counts, Evaluation, evaluate};
#[cfg(not(target_arch = "wasm32"))]
pub use train::{TrainError, train};

use super::{ASPECTS, Annotation};
use model::Model;

const ALL: &[&str] = &ASPECTS;

/// The aspects that are instruments, which rules tell.
pub const INSTRUMENTS: &[&str] = ALL.split_at(12).0;

/// The aspects that are qualities and sources of sound, which have to be learnt.
pub const QUALITIES: &[&str] = ALL.split_at(12).1;

/// A file of weights that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` is no annotator: {reason}")]
pub struct AnnotatorError {
    /// Name of the file.
    pub file: String,
    /// What was expected and what was found.
    pub reason: String,
}

/// Tells from a prompt's text which aspects the music would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotator {
    model: Option<Model>,
}

impl Annotator {
    /// The one that has learnt from the published annotations.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: LazyLock<Annotator> = LazyLock::new(|| {
            let bytes = include_bytes!("../../../../data/annotator.json");
            Annotator::from_json("annotator.json", bytes).expect("the built-in file is tested")
        });
        &EMBEDDED
    }

    /// Rules alone, for all aspects.
    pub fn rules() -> Self {
        Self { model: None }
    }

    /// One whose weights [`to_json`](Self::to_json) has written; `file` appears in errors.
    ///
    /// # Errors
    /// [`AnnotatorError`] if it is no such file, or contradicts itself.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, AnnotatorError> {
        match Model::from_json(bytes) {
            Ok(model) => Ok(Self { model: Some(model) }),
            Err(reason) => Err(AnnotatorError { file: file.to_owned(), reason }),
        }
    }

    /// The weights as JSON, a line per word; `None` of rules alone.
    pub fn to_json(&self) -> Option<String> {
        self.model.as_ref().map(Model::to_json)
    }

    /// The aspects that can be found, in the order in which they are listed.
    pub fn aspects(&self) -> Vec<&str> {
        let own = self.model.iter().flat_map(Model::aspects);
        let mut aspects: Vec<&str> = ASPECTS.to_vec();
        for aspect in own {
            if !aspects.contains(&aspect) {
                aspects.push(aspect);
            }
        }
        aspects
    }

    /// Aspects and tempo of `prompt`; the tempo is 0 where none is given in beats per minute.
    pub fn annotate(&self, prompt: &str) -> Annotation {
        let words = words::words(prompt);
        let bpm = words::bpm(prompt);
        let mut judged = self.model.as_ref().map_or_else(Vec::new, |model| model.judge(&words, bpm));
        let mut aspects = vec![];
        for aspect in self.aspects() {
            let by_model = judged.iter().position(|(name, _)| *name == aspect).map(|at| judged.swap_remove(at).1);
            if by_model.unwrap_or_else(|| rules::finds(aspect, &words)) {
                aspects.push(aspect.to_owned());
            }
        }
        Annotation { prompt: prompt.to_owned(), aspects, bpm }
    }
}
