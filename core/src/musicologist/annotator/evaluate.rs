//! How well annotations agree with others.

use super::Annotator;
use crate::musicologist::Annotation;

/// How often an aspect was found and was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Found, and there.
    pub right: usize,
    /// Found, but not there.
    pub wrong: usize,
    /// There, but not found.
    pub missed: usize,
}

/// Agreement over some prompts.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// Prompts that were compared.
    pub prompts: usize,
    /// Aspects in the order that was asked for, and their counts.
    pub aspects: Vec<(String, Counts)>,
    /// Prompts whose tempo is the same.
    pub same_bpm: usize,
}

impl Counts {
    /// Share of what was found that is there; `None` if nothing was found.
    pub fn precision(self) -> Option<f64> {
        share(self.right, self.right + self.wrong)
    }

    /// Share of what is there that was found; `None` if it is nowhere.
    pub fn recall(self) -> Option<f64> {
        share(self.right, self.right + self.missed)
    }

    /// Harmonic mean of both, `2 right / (2 right + wrong + missed)`; `None` if the aspect is neither found nor there.
    pub fn f1(self) -> Option<f64> {
        share(2 * self.right, 2 * self.right + self.wrong + self.missed)
    }

    fn plus(self, other: Self) -> Self {
        Self { right: self.right + other.right, wrong: self.wrong + other.wrong, missed: self.missed + other.missed }
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    if whole == 0 { None } else { Some(part as f64 / whole as f64) }
}

impl Evaluation {
    /// F1 over all decisions, a common aspect counting more than a rare one (micro average); 0 if nothing was found.
    pub fn micro_f1(&self) -> f64 {
        self.micro_f1_of(|_| true)
    }

    /// The same over the aspects that `chosen` takes.
    pub fn micro_f1_of(&self, chosen: impl Fn(&str) -> bool) -> f64 {
        let counts = self.aspects.iter().filter(|(name, _)| chosen(name)).map(|(_, counts)| *counts);
        counts.fold(Counts::default(), Counts::plus).f1().unwrap_or(0.0)
    }

    /// Adds what other prompts gave.
    ///
    /// # Panics
    /// If it is about other aspects.
    pub fn add(&mut self, other: &Self) {
        if self.aspects.is_empty() {
            self.aspects = other.aspects.iter().map(|(name, _)| (name.clone(), Counts::default())).collect();
        }
        assert_eq!(self.aspects.len(), other.aspects.len(), "evaluations of the same aspects are added");
        for ((name, counts), (other_name, more)) in self.aspects.iter_mut().zip(&other.aspects) {
            assert_eq!(name, other_name, "evaluations of the same aspects are added");
            *counts = counts.plus(*more);
        }
        self.prompts += other.prompts;
        self.same_bpm += other.same_bpm;
    }
}

/// Annotates the prompts of `truth` anew and compares; aspects that are not among `aspects` do not count on either side.
pub fn evaluate<'a>(
    annotator: &Annotator,
    truth: impl IntoIterator<Item = &'a Annotation>,
    aspects: &[&str],
) -> Evaluation {
    let mut evaluation = Evaluation {
        aspects: aspects.iter().map(|name| ((*name).to_owned(), Counts::default())).collect(),
        ..Evaluation::default()
    };
    for annotation in truth {
        let found = annotator.annotate(&annotation.prompt);
        evaluation.prompts += 1;
        evaluation.same_bpm += usize::from((found.bpm - annotation.bpm).abs() < 0.5);
        for (name, counts) in &mut evaluation.aspects {
            match (found.aspects.contains(name), annotation.aspects.contains(name)) {
                (true, true) => counts.right += 1,
                (true, false) => counts.wrong += 1,
                (false, true) => counts.missed += 1,
                (false, false) => {}
            }
        }
    }
    evaluation
}
