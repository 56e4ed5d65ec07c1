//! The plane of the two principal components of a concept's notes, and what classifiers decide in it.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tonoscope_core::probes::{Features, Pca};

use super::{
    plan::Classifier,
    unit::{Concept, Fitted, Rows},
};

/// Cells along each side of the decision regions.
const CELLS: usize = 200;
/// Points of one kind that are drawn at most, evenly taken from all: more would be one blot.
const POINTS: usize = 300;

/// Places, as pairs.
type Places = Vec<[f32; 2]>;

/// What is drawn of the plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plane {
    /// Share of the variance along each component.
    pub(crate) share: [f64; 2],
    /// Ends of each.
    pub(crate) ends: [(f64, f64); 2],
    /// Notes of the concept, and the others.
    pub(crate) notes: [Places; 2],
    /// Diffusion step, and the generated positives there; the same in every step.
    pub(crate) generated: Vec<(usize, Places)>,
    /// For every classifier the rows from below, each as lengths of runs from the left, the first of them negative.
    pub(crate) regions: Vec<(Classifier, Vec<Vec<usize>>)>,
}

impl Plane {
    /// Fits the plane on all notes; `None` if they do not span one.
    pub(super) fn new(concept: &Concept, fitted: &[(Classifier, Fitted)]) -> Result<Option<Self>> {
        let notes = &concept.notes;
        if notes.width < 2 || notes.positive.len() < 3 {
            return Ok(None);
        }
        let pca = Pca::fit(notes.features(), 2)?;
        let places = |rows: &Rows, class: bool| -> Places {
            let of_class: Vec<usize> = (0..rows.positive.len()).filter(|row| rows.positive[*row] == class).collect();
            let some = thinned(&of_class);
            let values = rows.features().select(&some);
            let places = pca.transform(Features::new(&values, rows.width));
            places.iter().map(|place| [place[0] as f32, place[1] as f32]).collect()
        };
        let of_notes = [places(notes, true), places(notes, false)];
        let generated: Vec<(usize, Places)> =
            concept.steps.iter().map(|(step, rows)| (*step, places(rows, true))).collect();
        let all = || of_notes.iter().chain(generated.iter().map(|(_, places)| places)).flatten();
        let ends = [0, 1].map(|axis| ends(all().map(|place| f64::from(place[axis]))));
        let regions = fitted.iter().map(|(classifier, fitted)| (*classifier, region(&pca, ends, fitted))).collect();
        let share = [0, 1].map(|axis| {
            let total = pca.total_variance;
            if total > 0.0 { pca.variance[axis] / total } else { 0.0 }
        });
        Ok(Some(Self { share, ends, notes: of_notes, generated, regions }))
    }
}

/// At most [`POINTS`] of `rows`, evenly spaced.
fn thinned(rows: &[usize]) -> Vec<usize> {
    let count = rows.len().min(POINTS);
    (0..count).map(|index| rows[index * rows.len() / count]).collect()
}

/// Ends of an axis with a margin around all values.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let margin = ((high - low) * 0.05).max(1e-6);
    (low - margin, high + margin)
}

/// Runs of what `fitted` decides at the middles of the cells, with the mean of the notes in all other directions.
fn region(pca: &Pca, ends: [(f64, f64); 2], fitted: &Fitted) -> Vec<Vec<usize>> {
    let middle = |cell: usize, (low, high): (f64, f64)| low + (high - low) * (cell as f64 + 0.5) / CELLS as f64;
    let row = |y: usize| {
        let places: Vec<Vec<f64>> = (0..CELLS).map(|x| vec![middle(x, ends[0]), middle(y, ends[1])]).collect();
        let values = pca.inverse_transform(&places);
        let decision = fitted.decision(Features::new(&values, pca.mean.len()));
        runs(&decision.iter().map(|decision| *decision > 0.0).collect::<Vec<_>>())
    };
    (0..CELLS).map(row).collect()
}

/// Lengths of runs, the first of them of `false`.
fn runs(cells: &[bool]) -> Vec<usize> {
    let first = cells.first().is_some_and(|first| *first).then_some(0);
    first.into_iter().chain(cells.chunk_by(|a, b| a == b).map(<[bool]>::len)).collect()
}

/// What [`runs`] are of; no more than there are cells, whatever a file says.
pub(super) fn cells(runs: &[usize]) -> Vec<bool> {
    let cells = runs.iter().enumerate().flat_map(|(index, run)| std::iter::repeat_n(index % 2 == 1, (*run).min(CELLS)));
    cells.take(CELLS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back() {
        for of in [vec![true; CELLS], vec![false; CELLS], (0..CELLS).map(|cell| cell % 7 < 3).collect()] {
            assert_eq!(cells(&runs(&of)), of);
        }
        assert_eq!(runs(&[true, true, false]), [0, 2, 1]);
        assert_eq!(cells(&[usize::MAX, usize::MAX]).len(), CELLS);
    }

    #[test]
    fn points_are_thinned_evenly() {
        let all: Vec<usize> = (0..1000).collect();
        let some = thinned(&all);
        assert_eq!((some.len(), some[0], some[1], some[299]), (POINTS, 0, 3, 996));
        assert_eq!(thinned(&all[..7]), all[..7]);
        assert!(thinned(&[]).is_empty());
    }
}
