//! The 527 classes of `AudioSet` by name, in the order of the logits.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::hooks::edit_distance;

/// `index,mid,display_name`; source and licence in `data/README.md`.
const AUDIOSET: &str = include_str!("../../../../data/audioset_labels.csv");

/// A class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Machine id of the class in `AudioSet`'s ontology, such as `/m/0342h`.
    pub mid: String,
    /// Name, such as `Guitar`.
    pub name: String,
}

/// Classes in the order of a classifier's logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    labels: Vec<Label>,
    by_name: BTreeMap<String, usize>,
}

/// A name that no class has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no class is called `{name}`; the nearest is `{nearest}`")]
pub struct UnknownLabel {
    /// What was asked for.
    pub name: String,
    /// The name that is most like it.
    pub nearest: String,
}

impl Labels {
    /// The 527 classes of `AudioSet`.
    pub fn audioset() -> &'static Self {
        static LABELS: LazyLock<Labels> = LazyLock::new(|| {
            let rows = AUDIOSET.lines().skip(1).filter_map(|line| {
                let (_, rest) = line.split_once(',')?;
                let (mid, name) = rest.split_once(',')?;
                Some(Label { mid: mid.to_owned(), name: name.trim_matches('"').to_owned() })
            });
            Labels::new(rows.collect())
        });
        &LABELS
    }

    /// Classes in the order of their logits.
    pub fn new(labels: Vec<Label>) -> Self {
        let by_name = labels.iter().enumerate().map(|(index, label)| (label.name.clone(), index)).collect();
        Self { labels, by_name }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class `index`.
    pub fn get(&self, index: usize) -> Option<&Label> {
        self.labels.get(index)
    }

    /// All classes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter()
    }

    /// Index of the class called `name`, letter for letter.
    ///
    /// # Errors
    /// [`UnknownLabel`] names the most similar one.
    pub fn index_of(&self, name: &str) -> Result<usize, UnknownLabel> {
        self.by_name.get(name).copied().ok_or_else(|| {
            let nearest = self.labels.iter().min_by_key(|label| edit_distance(&label.name, name));
            let nearest = nearest.map(|label| label.name.clone()).unwrap_or_default();
            UnknownLabel { name: name.to_owned(), nearest }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audioset_has_527_classes_of_different_names() {
        let labels = Labels::audioset();
        assert_eq!(labels.len(), 527);
        assert_eq!(labels.by_name.len(), 527);
        assert_eq!(labels.get(0).unwrap(), &Label { mid: "/m/09x0r".into(), name: "Speech".into() });
        assert_eq!(labels.get(1).unwrap().name, "Male speech, man speaking");
        assert_eq!(labels.get(526).unwrap().name, "Field recording");
        assert!(labels.iter().all(|label| label.mid.starts_with('/') && !label.name.contains('"')));
        assert_eq!(labels.index_of("Guitar"), Ok(140));
        assert_eq!(labels.index_of("Guitarr").unwrap_err().nearest, "Guitar");
    }
}
