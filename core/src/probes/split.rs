//! What a classifier learns from, and what it is tested on.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{ProbeError, folds::shuffle};

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
    fn what_is_no_split_is_told() {
        let fault =
            |train: &[usize], test: &[usize]| Split { train: train.into(), test: test.into() }.fault(4).unwrap();
        assert_eq!(fault(&[0, 1], &[4]), "row 4 of 4");
        assert_eq!(fault(&[0, 1], &[1]), "row 1 occurs twice");
        assert_eq!(fault(&[0, 1], &[]), "a part is empty");
    }
}
