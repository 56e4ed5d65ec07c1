//! One concept: classifiers that learn from notes and judge what was generated.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    metrics::{BinaryScores, Decisions, Interval},
    probes::{Features, LogisticRegression, ProbeError, Split, SupportVectorMachine, SvmSettings},
};

use super::{
    plan::{Classifier, Settings},
    plane::Plane,
    routes::{Route, RouteResult},
};

/// Level of all intervals.
const LEVEL: f64 = 0.95;
/// As scikit-learn.
const C: f64 = 1.0;

/// Rows with their class; rows of a cluster are alike.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Row-major.
    pub(super) features: Vec<f32>,
    pub(super) width: usize,
    pub(super) positive: Vec<bool>,
    pub(super) cluster: Vec<usize>,
}

/// A concept with all that is known of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Concept {
    pub(super) name: String,
    /// What is learnt from.
    pub(super) notes: Rows,
    /// Given by the user.
    pub(super) split: Option<Split>,
    /// What was generated, by diffusion step.
    pub(super) steps: Vec<(usize, Rows)>,
    /// Other ways to tell the concept.
    pub(super) routes: Vec<Route>,
}

/// How right a classifier is on some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) positives: usize,
    pub(crate) negatives: usize,
    /// Share of the more frequent class.
    pub(crate) baseline: Option<f64>,
    pub(crate) scores: BinaryScores<f64>,
    pub(crate) intervals: BinaryScores<Interval>,
}

/// One classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassifierResult {
    pub(crate) classifier: Classifier,
    pub(crate) train: Judged,
    pub(crate) test: Judged,
    /// Support vectors.
    pub(crate) support: Option<usize>,
    pub(crate) steps: Vec<(usize, Judged)>,
}

/// What came out for one concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConceptUnit {
    pub(crate) classifiers: Vec<ClassifierResult>,
    /// `None`: there is nothing to learn from.
    pub(crate) plane: Option<Plane>,
    pub(crate) routes: Vec<RouteResult>,
}

/// A fitted classifier.
pub(super) enum Fitted {
    Logistic(LogisticRegression),
    Svm(Box<SupportVectorMachine>),
}

impl Fitted {
    fn new(classifier: Classifier, features: Features<'_>, positive: &[bool]) -> Result<Self, ProbeError> {
        Ok(match classifier {
            Classifier::Logistic => Self::Logistic(LogisticRegression::fit(features, positive, C)?),
            Classifier::Svm => {
                let settings = SvmSettings { c: C, ..SvmSettings::default() };
                Self::Svm(Box::new(SupportVectorMachine::fit(features, positive, &settings)?))
            }
        })
    }

    pub(super) fn decision(&self, features: Features<'_>) -> Vec<f64> {
        match self {
            Self::Logistic(fitted) => fitted.decision(features),
            Self::Svm(fitted) => fitted.decision(features),
        }
    }
}

impl Rows {
    pub(super) fn features(&self) -> Features<'_> {
        Features::new(&self.features, self.width)
    }

    /// Numbers of positives and negatives.
    pub(super) fn counts(&self) -> (usize, usize) {
        let positives = self.positive.iter().filter(|positive| **positive).count();
        (positives, self.positive.len() - positives)
    }

    fn part(&self, rows: &[usize]) -> Self {
        Self {
            features: self.features().select(rows),
            width: self.width,
            positive: rows.iter().map(|row| self.positive[*row]).collect(),
            cluster: rows.iter().map(|row| self.cluster[*row]).collect(),
        }
    }

    fn judged(&self, fitted: &Fitted, settings: &Settings) -> Judged {
        let (positives, negatives) = self.counts();
        let decisions = Decisions::new(&self.positive, &fitted.decision(self.features()), &self.cluster);
        let all = positives + negatives;
        Judged {
            positives,
            negatives,
            baseline: (all > 0).then(|| positives.max(negatives) as f64 / all as f64),
            scores: decisions.scores(),
            intervals: decisions.intervals(LEVEL, settings.resamples, settings.seed),
        }
    }
}

impl Concept {
    /// Why nothing can be learnt from its notes, if nothing can. `apart`: notes of one instrument stay together.
    pub(super) fn obstacle(&self, apart: bool) -> Option<String> {
        let (positives, negatives) = self.notes.counts();
        if positives.min(negatives) < 2 {
            return Some(format!(
                "{positives} positives and {negatives} negatives to learn from, two of each are needed"
            ));
        }
        let split = || Split::apart(&self.notes.positive, &self.notes.cluster, 0.5, 0);
        (apart && self.split.is_none() && split().is_err())
            .then(|| "too few instruments to set some aside, two with it and two without are needed".to_owned())
    }

    /// Fits and judges everything; calls `tick` after each classifier.
    ///
    /// # Errors
    /// If a value is not a number, or a solver gives up.
    pub(super) fn work(&self, settings: &Settings, tick: &mut dyn FnMut() -> Result<()>) -> Result<ConceptUnit> {
        let broken = |rows: &Rows| rows.features.iter().position(|value| !value.is_finite());
        if let Some(at) = broken(&self.notes) {
            let (row, feature) = (at / self.notes.width, at % self.notes.width);
            anyhow::bail!("`{}`: feature {feature} of note {row} is not a number", self.name);
        }
        for (step, rows) in &self.steps {
            if let Some(at) = broken(rows) {
                anyhow::bail!("`{}`, step {step}: feature {} of a sound is not a number", self.name, at % rows.width);
            }
        }
        let mut unit = ConceptUnit { classifiers: vec![], plane: None, routes: vec![] };
        for route in &self.routes {
            unit.routes.push(route.work(settings).with_context(|| format!("`{}`, {}", self.name, route.name))?);
            tick()?;
        }
        if self.obstacle(settings.instruments_apart).is_some() {
            return Ok(unit);
        }
        let split = match &self.split {
            Some(split) => split.clone(),
            None if settings.instruments_apart => {
                Split::apart(&self.notes.positive, &self.notes.cluster, settings.test_share, settings.seed)?
            }
            None => Split::stratified(&self.notes.positive, settings.test_share, settings.seed)?,
        };
        let [train, test] = [&split.train, &split.test].map(|rows| self.notes.part(rows));
        let mut fitted = vec![];
        for &classifier in &settings.classifiers {
            let named = || format!("`{}`, {}", self.name, classifier.title());
            let of = Fitted::new(classifier, train.features(), &train.positive).with_context(named)?;
            unit.classifiers.push(ClassifierResult {
                classifier,
                train: train.judged(&of, settings),
                test: test.judged(&of, settings),
                support: if let Fitted::Svm(machine) = &of { Some(machine.support().len()) } else { None },
                steps: self.steps.iter().map(|(step, rows)| (*step, rows.judged(&of, settings))).collect(),
            });
            fitted.push((classifier, of));
            tick()?;
        }
        unit.plane = Plane::new(self, &fitted).with_context(|| format!("`{}`, principal components", self.name))?;
        Ok(unit)
    }
}
