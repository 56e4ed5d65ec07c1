//! Musical concepts, and the prompts that ask for them.
//!
//! A [`ConceptSet`] is a template with slots, the words that may stand in each, and concepts: a slot with a fixed word, and
//! the classes by which a classifier recognises it. [`ConceptSet::ismir`] is that of the ISMIR 2024 paper; others are TOML
//! files of the same form (`data/concepts_ismir.toml`).

mod file;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::{
    hooks::edit_distance,
    models::passt::{Labels, UnknownLabel},
};

/// Concepts that cannot be used as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConceptError {
    /// The file does not parse, or contradicts itself.
    #[error("`{file}`: {reason}")]
    File {
        /// Name of the file.
        file: String,
        /// Where, what was expected and what was found.
        reason: String,
    },
    /// A name that no concept has.
    #[error("no concept is called `{name}`; the nearest is `{nearest}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name that is most like it.
        nearest: String,
    },
    /// More prompts than the slots can make.
    #[error("concept `{concept}` makes {available} prompts, {asked} were asked for")]
    TooMany {
        /// Name of the concept.
        concept: String,
        /// What was asked for.
        asked: usize,
        /// What the other slots make.
        available: usize,
    },
    /// A class that the classifier does not have.
    #[error("concept `{concept}`")]
    Label {
        /// Name of the concept.
        concept: String,
        /// Which.
        #[source]
        source: UnknownLabel,
    },
    /// A concept without a published index.
    #[error("concept `{concept}` has no published index")]
    Unpublished {
        /// Name of the concept.
        concept: String,
    },
}

/// A place in the template and what may stand there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Name, as it stands in brackets in the template.
    pub name: String,
    /// The words, in the order in which they are tried.
    pub words: Vec<String>,
}

/// Something that a prompt can ask for and a classifier can recognise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concept {
    /// Name on the command line and in tables.
    pub name: String,
    /// The slot that it fills; also its category, as in instrument-to-genre.
    pub slot: String,
    /// What stands in the slot, if not the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// Class whose odds are compared.
    pub label: String,
    /// Index of that class as it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Classes that count as a hit in a ranking.
    pub relevant: Vec<String>,
}

/// Where the index of a concept's class comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Indices {
    /// The number in the paper's code.
    Published,
    /// The class of the concept's label.
    ByLabel,
}

/// A published index that is not that of its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Name of the concept.
    pub concept: String,
    /// Its published index, and the name of that class, if there is one.
    pub published: (usize, Option<String>),
    /// The index of its label, and the label.
    pub by_label: (usize, String),
}

/// A template, its slots, and the concepts that they make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConceptSet {
    /// Prompt with slots in brackets, such as `a [MOOD] piece`.
    pub template: String,
    /// In the order of the loops that write a concept's prompts, the outermost first.
    pub slots: Vec<Slot>,
    /// In the order of tables and figures.
    pub concepts: Vec<Concept>,
}

impl ConceptSet {
    /// The ten concepts of "Exploring the Inner Mechanisms of Large Generative Music Models", ISMIR 2024.
    pub fn ismir() -> &'static Self {
        static SET: LazyLock<ConceptSet> = LazyLock::new(|| {
            let text = include_str!("../../../data/concepts_ismir.toml");
            ConceptSet::from_toml("concepts_ismir.toml", text).expect("the built-in file is tested")
        });
        &SET
    }

    /// The concept called `name`.
    ///
    /// # Errors
    /// [`ConceptError::Unknown`] names the most similar one.
    pub fn concept(&self, name: &str) -> Result<&Concept, ConceptError> {
        self.concepts.iter().find(|concept| concept.name == name).ok_or_else(|| {
            let names = self.concepts.iter().map(|concept| &concept.name);
            let nearest = names.min_by_key(|other| edit_distance(other, name)).cloned().unwrap_or_default();
            ConceptError::Unknown { name: name.to_owned(), nearest }
        })
    }

    /// Every ordered pair of different concepts: original, desired.
    pub fn pairs(&self) -> impl Iterator<Item = (&Concept, &Concept)> {
        let different = |(from, to): &(&Concept, &Concept)| from.name != to.name;
        self.concepts.iter().flat_map(|from| self.concepts.iter().map(move |to| (from, to))).filter(different)
    }

    /// How many prompts there are for `concept`.
    pub fn available(&self, concept: &Concept) -> usize {
        self.slots.iter().filter(|slot| slot.name != concept.slot).map(|slot| slot.words.len()).product()
    }

    /// The first `count` prompts for `concept`: its slot fixed, the others in nested loops, the first slot outermost.
    ///
    /// # Errors
    /// [`ConceptError::TooMany`] if there are fewer.
    pub fn prompts(&self, concept: &Concept, count: usize) -> Result<Vec<String>, ConceptError> {
        let available = self.available(concept);
        if count > available {
            return Err(ConceptError::TooMany { concept: concept.name.clone(), asked: count, available });
        }
        Ok((0..count).map(|index| self.prompt(concept, index)).collect())
    }

    /// Prompt number `index`: the digits of the index choose the words, the last slot turning fastest.
    fn prompt(&self, concept: &Concept, index: usize) -> String {
        let mut rest = index;
        let mut words: Vec<&str> = self
            .slots
            .iter()
            .rev()
            .map(|slot| {
                if slot.name == concept.slot {
                    return concept.word();
                }
                let word = &slot.words[rest % slot.words.len()];
                rest /= slot.words.len();
                word
            })
            .collect();
        words.reverse();
        // Brackets in a word stay as they are: the template is read once, from left to right.
        file::pieces(&self.template)
            .map(|piece| match piece {
                file::Piece::Text(text) => text,
                file::Piece::Slot(name) => {
                    self.slots.iter().position(|slot| slot.name == name).map_or("", |index| words[index])
                }
            })
            .collect()
    }

    /// Every published index that is not that of its label.
    ///
    /// # Errors
    /// [`ConceptError::Label`] if a class of a concept does not exist.
    pub fn disagreements(&self, labels: &Labels) -> Result<Vec<Disagreement>, ConceptError> {
        let mut found = Vec::new();
        for concept in &self.concepts {
            concept.relevant(labels)?;
            let index = concept.class(Indices::ByLabel, labels)?;
            if let Some(published) = concept.index.filter(|published| *published != index) {
                found.push(Disagreement {
                    concept: concept.name.clone(),
                    published: (published, labels.get(published).map(|label| label.name.clone())),
                    by_label: (index, concept.label.clone()),
                });
            }
        }
        Ok(found)
    }
}

impl Concept {
    /// What stands in the concept's slot.
    pub fn word(&self) -> &str {
        self.word.as_ref().unwrap_or(&self.name)
    }

    /// Whether `prompt` names the concept: its word or its name, in any case, hyphenated or not, singular or plural.
    pub fn is_named_in(&self, prompt: &str) -> bool {
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
            words.map(str::to_lowercase).collect()
        };
        let there = words(prompt);
        [self.word(), &self.name].into_iter().any(|name| {
            let name = words(name).concat();
            if !name.is_ascii() {
                // Not every script separates words.
                return prompt.to_lowercase().contains(&name);
            }
            // `hip hop` is `hiphop`.
            let begins_at = |from: usize| {
                let mut rest = name.as_str();
                for word in &there[from..] {
                    match rest.strip_prefix(word.as_str()) {
                        Some(after) => rest = after,
                        None => return word.strip_suffix('s') == Some(rest),
                    }
                    if rest.is_empty() {
                        return true;
                    }
                }
                false
            };
            !name.is_empty() && (0..there.len()).any(begins_at)
        })
    }

    /// Index of the class whose odds are compared.
    ///
    /// # Errors
    /// [`ConceptError::Label`] or [`ConceptError::Unpublished`] if there is none.
    pub fn class(&self, indices: Indices, labels: &Labels) -> Result<usize, ConceptError> {
        match indices {
            Indices::ByLabel => self.find(&self.label, labels),
            Indices::Published => self.index.ok_or_else(|| ConceptError::Unpublished { concept: self.name.clone() }),
        }
    }

    /// For every class, whether it counts as a hit; what [`ndcg`](crate::metrics::ndcg) takes.
    ///
    /// # Errors
    /// [`ConceptError::Label`] if a class does not exist.
    pub fn relevant(&self, labels: &Labels) -> Result<Vec<bool>, ConceptError> {
        let mut relevant = vec![false; labels.len()];
        for label in &self.relevant {
            relevant[self.find(label, labels)?] = true;
        }
        Ok(relevant)
    }

    fn find(&self, label: &str, labels: &Labels) -> Result<usize, ConceptError> {
        labels.index_of(label).map_err(|source| ConceptError::Label { concept: self.name.clone(), source })
    }
}

#[cfg(test)]
mod tests;
