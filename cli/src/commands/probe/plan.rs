//! What a run of `probe` is about: the key of its units.

use serde::{Deserialize, Serialize};

/// A classifier of two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Classifier {
    /// Logistic regression, as scikit-learn's `LogisticRegression()`
    Logistic,
    /// A support vector machine with a Gaussian kernel, as scikit-learn's `SVC(C=1)`
    Svm,
}

impl Classifier {
    /// As published results call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Svm => "svm",
        }
    }

    /// In figures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Logistic => "logistic regression",
            Self::Svm => "SVM",
        }
    }
}

/// Which steps of the plane of principal components are drawn as pictures beside the animation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Frames {
    /// Every step
    All,
    /// The last step
    Last,
    /// None, and no animation
    None,
}

/// How classifiers are fitted and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) classifiers: Vec<Classifier>,
    /// Of the division into rows to learn from and to be tested on, and of all intervals.
    pub(crate) seed: u64,
    /// Share of the rows that is tested on.
    pub(crate) test_share: f64,
    /// Whether notes of one instrument are in one part.
    pub(crate) instruments_apart: bool,
    /// Draws behind an interval.
    pub(crate) resamples: usize,
    /// Parts of the prompts in a comparison of routes.
    pub(crate) folds: usize,
    pub(crate) frames: Frames,
}

/// A concept that is worked on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedConcept {
    pub(crate) name: String,
    pub(crate) positives: usize,
    pub(crate) negatives: usize,
    /// Why there will be no classifier.
    pub(crate) obstacle: Option<String>,
}

/// Everything that decides the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbePlan {
    pub(crate) command: String,
    pub(crate) settings: Settings,
    /// How prompts are matched; `None`: labels were given.
    pub(crate) vocabulary: Option<String>,
    pub(crate) concepts: Vec<PlannedConcept>,
    /// Diffusion steps.
    pub(crate) steps: Vec<usize>,
    /// What made the embeddings.
    pub(crate) embed_model: String,
    /// What was read → sha256.
    pub(crate) inputs: Vec<(String, String)>,
    /// Names of what is compared with the embeddings.
    pub(crate) routes: Vec<String>,
    /// Whether distances between successive steps are measured.
    pub(crate) distances: bool,
}

impl ProbePlan {
    pub(crate) const COMMAND: &'static str = "probe";
    /// Unit of the distances; no concept is called so.
    pub(crate) const DISTANCES: &'static str = "distances between steps";

    /// Names of all units.
    pub(crate) fn units(&self) -> Vec<String> {
        let concepts = self.concepts.iter().map(|concept| concept.name.clone());
        concepts.chain(self.distances.then(|| Self::DISTANCES.to_owned())).collect()
    }
}
