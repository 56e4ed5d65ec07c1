//! What a classifier learns from, and what it is tested on.

use std::collections::BTreeMap;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{Folds, ProbeError, folds::shuffle};

/// Rows to learn from and rows to be tested on, each ascending.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// Learnt from.
    pub train: Vec<usize>,
    /// Tested on.
    pub test: Vec<usize>,
}

impl Split {
    /// Sets `share` of each class aside, drawn from `seed`: at least one row of each, and never all.
    ///
    /// # Errors
    /// [`ProbeError::TooFew`] if a class has fewer than two rows.
    pub fn stratified(positive: &[bool], share: f64, seed: u64) -> Result<Self, ProbeError> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let (mut train, mut test) = (vec![], vec![]);
        for class in [false, true] {
            let mut rows: Vec<usize> = (0..positive.len()).filter(|row| positive[*row] == class).collect();
            if rows.len() < 2 {
                return Err(ProbeError::TooFew { class: usize::from(class), found: rows.len(), folds: 2 });
            }
            shuffle(&mut rows, &mut generator);
            let tested = ((rows.len() as f64 * share).round() as usize).clamp(1, rows.len() - 1);
            test.extend_from_slice(&rows[..tested]);
            train.extend_from_slice(&rows[tested..]);
        }
        train.sort_unstable();
        test.sort_unstable();
        Ok(Self { train, test })
    }

    /// Sets some `share` of each class's groups aside, drawn from `seed`, so that rows of one group (the notes of an
    /// instrument, say) are in one part: at least one group of each class, and never all. A group counts as the class of its
    /// first row; `groups` has a number per row.
    ///
    /// # Errors
    /// [`ProbeError::TooFew`] if a class has fewer than two groups.
    pub fn apart(positive: &[bool], groups: &[usize], share: f64, seed: u64) -> Result<Self, ProbeError> {
        let labels: Vec<usize> = positive.iter().map(|positive| usize::from(*positive)).collect();
        let mut first: BTreeMap<usize, usize> = BTreeMap::new();
        for (group, label) in groups.iter().zip(&labels) {
            first.entry(*group).or_insert(*label);
        }
        let of_class = |class: usize| first.values().filter(|label| **label == class).count();
        let fewest = of_class(0).min(of_class(1));
        let folds = ((1.0 / share).round() as usize).min(fewest).max(2);
        let (train, test) = Folds::stratified(&labels, Some(groups), folds, seed)?.split(0);
        Ok(Self { train, test })
    }

    /// Why these are no split of `rows` rows, if they are none.
    pub fn fault(&self, rows: usize) -> Option<String> {
        let mut seen = vec![false; rows];
        for &row in self.train.iter().chain(&self.test) {
            match seen.get_mut(row) {
                None => return Some(format!("row {row} of {rows}")),
                Some(true) => return Some(format!("row {row} occurs twice")),
                Some(seen) => *seen = true,
            }
        }
        if self.train.is_empty() || self.test.is_empty() { Some("a part is empty".to_owned()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_each_class_is_set_aside() {
        let positive: Vec<bool> = (0..100).map(|row| row < 30).collect();
        let split = Split::stratified(&positive, 0.2, 7).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (80, 20));
        assert_eq!(split.test.iter().filter(|row| positive[**row]).count(), 6);
        assert_eq!(split.fault(100), None);
        assert_eq!(split, Split::stratified(&positive, 0.2, 7).unwrap());
        assert_ne!(split, Split::stratified(&positive, 0.2, 8).unwrap());
        assert!(Split::stratified(&[true, false, false], 0.2, 0).is_err());
    }

    #[test]
    fn groups_are_set_aside_whole() {
        let positive: Vec<bool> = (0..100).map(|row| row < 40).collect();
        let groups: Vec<usize> = (0..100).map(|row| row / 10).collect();
        let split = Split::apart(&positive, &groups, 0.25, 7).unwrap();
        assert_eq!(split.fault(100), None);
        assert_eq!((split.test.len(), split.test.iter().filter(|row| positive[**row]).count()), (30, 10));
        assert!(split.test.iter().all(|row| split.train.iter().all(|other| groups[*row] != groups[*other])));
        // Two groups of a class: one is learnt from, one is tested on.
        let few = Split::apart(&positive[..60], &groups[..60], 0.2, 7).unwrap();
        assert_eq!((few.train.len(), few.test.len()), (30, 30));
        assert!(Split::apart(&positive[..50], &groups[..50], 0.2, 7).is_err(), "one group without the concept");
    }

    #[test]
    fn what_is_no_split_is_told() {
        let fault =
            |train: &[usize], test: &[usize]| Split { train: train.into(), test: test.into() }.fault(4).unwrap();
        assert_eq!(fault(&[0, 1], &[4]), "row 4 of 4");
        assert_eq!(fault(&[0, 1], &[1]), "row 1 occurs twice");
        assert_eq!(fault(&[0, 1], &[]), "a part is empty");
    }
}
