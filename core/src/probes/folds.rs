//! Which rows a probe learns from and which it is tested on.

use std::collections::BTreeMap;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::ProbeError;

/// A fold for every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    fold_of: Vec<usize>,
    count: usize,
}

impl Folds {
    /// Puts row `i` into fold `fold_of[i]`.
    pub fn new(fold_of: Vec<usize>) -> Self {
        let count = fold_of.iter().max().map_or(0, |last| last + 1);
        Self { fold_of, count }
    }

    /// `count` folds in which every class has its share, drawn from `seed`.
    ///
    /// Rows of one group (the frames of one prompt, say) stay together, or a probe would be tested on what it has nearly
    /// seen; `groups` has a number per row, `None`: every row is its own. A group counts as the class of its first row.
    ///
    /// # Errors
    /// [`ProbeError`] if a class has fewer groups than there are folds.
    ///
    /// # Panics
    /// If `count` is less than 2.
    pub fn stratified(labels: &[usize], groups: Option<&[usize]>, count: usize, seed: u64) -> Result<Self, ProbeError> {
        assert!(count >= 2, "{count} folds leave nothing to learn from");
        let own: Vec<usize>;
        let groups = if let Some(groups) = groups {
            groups
        } else {
            own = (0..labels.len()).collect();
            &own
        };
        if groups.len() != labels.len() {
            return Err(ProbeError::Lengths { rows: labels.len(), what: "groups", found: groups.len() });
        }
        let mut label_of: BTreeMap<usize, usize> = BTreeMap::new();
        for (group, label) in groups.iter().zip(labels) {
            label_of.entry(*group).or_insert(*label);
        }
        let mut of_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (group, label) in &label_of {
            of_class.entry(*label).or_default().push(*group);
        }
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut fold_of_group: BTreeMap<usize, usize> = BTreeMap::new();
        let mut next = 0;
        for (class, mut members) in of_class {
            if members.len() < count {
                return Err(ProbeError::TooFew { class, found: members.len(), folds: count });
            }
            shuffle(&mut members, &mut generator);
            for group in members {
                fold_of_group.insert(group, next % count);
                next += 1;
            }
        }
        Ok(Self { fold_of: groups.iter().map(|group| fold_of_group[group]).collect(), count })
    }

    /// Number of folds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.fold_of.len()
    }

    /// Rows to learn from and rows to be tested on.
    pub fn split(&self, fold: usize) -> (Vec<usize>, Vec<usize>) {
        (0..self.rows()).partition(|row| self.fold_of[*row] != fold)
    }
}

/// Fisher and Yates.
pub(super) fn shuffle(values: &mut [usize], generator: &mut ChaCha8Rng) {
    for end in (1..values.len()).rev() {
        let chosen = (u128::from(generator.next_u64()) * (end as u128 + 1)) >> 64;
        values.swap(end, chosen as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_and_groups_stay_together() {
        let labels: Vec<usize> = (0..60).map(|row| usize::from(row % 60 >= 40)).collect();
        let groups: Vec<usize> = (0..60).map(|row| row / 4).collect();
        let folds = Folds::stratified(&labels, Some(&groups), 5, 3).unwrap();
        for fold in 0..5 {
            let (train, test) = folds.split(fold);
            assert_eq!((train.len(), test.len()), (48, 12));
            assert_eq!(test.iter().filter(|row| labels[**row] == 1).count(), 4);
            assert!(test.iter().all(|row| train.iter().all(|other| groups[*other] != groups[*row])));
        }
        assert_eq!(folds, Folds::stratified(&labels, Some(&groups), 5, 3).unwrap());
        assert_ne!(folds, Folds::stratified(&labels, Some(&groups), 5, 4).unwrap());
    }

    #[test]
    fn a_rare_class_is_an_error() {
        let error = Folds::stratified(&[0, 0, 0, 1, 1, 0], None, 3, 0).unwrap_err();
        assert_eq!(error, ProbeError::TooFew { class: 1, found: 2, folds: 3 });
    }
}
