//! Concepts from TOML.

use std::collections::BTreeSet;

use super::{ConceptError, ConceptSet};

/// A stretch of a template.
pub(super) enum Piece<'a> {
    /// Stays as it is.
    Text(&'a str),
    /// A name in brackets.
    Slot(&'a str),
}

/// A template as text and slots in turn; a bracket without its partner is text.
pub(super) fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = rest.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
            rest = after;
            return Some(Piece::Slot(name));
        }
        let end = rest.char_indices().skip(1).find(|(_, letter)| *letter == '[').map_or(rest.len(), |(at, _)| at);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

impl ConceptSet {
    /// Concepts from the text of a TOML file; `file` appears in errors.
    ///
    /// # Errors
    /// [`ConceptError::File`] if it does not parse, a slot of the template or of a concept has no words, or a name occurs
    /// twice.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, ConceptError> {
        let error = |reason: String| ConceptError::File { file: file.to_owned(), reason };
        let set: Self = toml::from_str(text).map_err(|cause| error(cause.to_string().trim_end().to_owned()))?;
        set.contradiction().map_or(Ok(set), |reason| Err(error(reason)))
    }

    /// The same concepts in the words of another template.
    ///
    /// # Errors
    /// [`ConceptError::File`] if it names a slot that there is not, or leaves one out.
    pub fn with_template(&self, template: &str) -> Result<Self, ConceptError> {
        let set = Self { template: template.to_owned(), ..self.clone() };
        match set.contradiction() {
            Some(reason) => Err(ConceptError::File { file: "template".to_owned(), reason }),
            None => Ok(set),
        }
    }

    /// What contradicts itself, if anything.
    fn contradiction(&self) -> Option<String> {
        let mut slots = BTreeSet::new();
        for slot in &self.slots {
            if !slots.insert(slot.name.as_str()) {
                return Some(format!("slot `{}` occurs twice", slot.name));
            }
            if slot.words.is_empty() {
                return Some(format!("slot `{}` has no words", slot.name));
            }
        }
        let mut used = BTreeSet::new();
        for piece in pieces(&self.template) {
            if let Piece::Slot(name) = piece {
                used.insert(name);
            }
        }
        if let Some(name) = used.difference(&slots).next() {
            return Some(format!("the template has a slot `[{name}]` that no words are given for"));
        }
        if let Some(name) = slots.difference(&used).next() {
            return Some(format!("the template has no slot `[{name}]`, so its prompts would repeat"));
        }
        let mut names = BTreeSet::new();
        for concept in &self.concepts {
            if !names.insert(concept.name.as_str()) {
                return Some(format!("concept `{}` occurs twice", concept.name));
            }
            if !slots.contains(concept.slot.as_str()) {
                return Some(format!("concept `{}` is of slot `{}`, which there is not", concept.name, concept.slot));
            }
            if concept.relevant.is_empty() {
                return Some(format!("concept `{}` has no relevant class", concept.name));
            }
        }
        if self.concepts.is_empty() { Some("there is no concept".to_owned()) } else { None }
    }
}
