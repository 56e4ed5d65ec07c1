//! Concepts as tables of wanted values.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use toml::Spanned;

use super::{Annotation, InputError, Matched, Note, Sides, Vocabulary, printed_list};
use crate::hooks::edit_distance;

/// Columns of notes that rules may ask of.
const NOTE_COLUMNS: [&str; 5] =
    ["instrument_family_str", "instrument_source_str", "instrument_str", "note_str", "qualities_str"];
/// Columns of prompts that rules may ask of.
const PROMPT_COLUMNS: [&str; 2] = ["tag.aspects", "prompt"];

/// How columns combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// One that matches will do.
    Or,
    /// All must match.
    And,
}

/// What is wanted of some columns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// How they combine.
    pub join: Join,
    /// Column → values, any of which will do.
    #[serde(flatten)]
    pub columns: BTreeMap<String, Vec<String>>,
}

/// A filter and a padder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    filter: Rule,
    padder: Rule,
}

/// Rules as they stand in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    nsynth: Pair,
    generated: Pair,
}

/// A concept: what has it among notes and among prompts, and what comes near it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptTable {
    name: String,
    rules: Rules,
}

/// Concepts in the order of their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptTables(Vec<ConceptTable>);

impl ConceptTable {
    /// Name, such as `is_brass`: letters, digits, `-` and `_` alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the rules say of a note.
    pub fn note(&self, note: &Note) -> Matched {
        let Pair { filter, padder } = &self.rules.nsynth;
        Matched { filter: filter.matches_note(note), padder: padder.matches_note(note) }
    }

    /// On which sides a prompt is.
    pub fn prompt(&self, annotation: &Annotation, vocabulary: Vocabulary) -> Sides {
        let printed = printed_list(&annotation.aspects);
        let matches = |rule: &Rule| rule.matches_prompt(annotation, &printed, vocabulary);
        let Pair { filter, padder } = &self.rules.generated;
        let (positive, near) = (matches(filter), matches(padder));
        match vocabulary {
            Vocabulary::Published => Sides { positive, negative: !near },
            Vocabulary::Corrected => Sides { positive, negative: !near && !positive },
        }
    }
}

impl ConceptTables {
    /// The 28 published concepts.
    pub fn published() -> &'static Self {
        static TABLES: LazyLock<ConceptTables> = LazyLock::new(|| {
            let text = include_str!("../../../data/concepts_musicologist.toml");
            ConceptTables::from_toml("concepts_musicologist.toml", text).expect("the built-in file is tested")
        });
        &TABLES
    }

    /// Concepts from the text of a TOML file; `file` appears in errors.
    ///
    /// # Errors
    /// [`InputError::Tables`] if it does not parse, asks for a column that there is not, or wants nothing of one; or if a
    /// name cannot be that of a file.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, InputError> {
        let error = |reason: String| InputError::Tables { file: file.to_owned(), reason };
        let read: BTreeMap<Spanned<String>, Rules> =
            toml::from_str(text).map_err(|cause| error(cause.to_string().trim_end().to_owned()))?;
        let mut read: Vec<(Spanned<String>, Rules)> = read.into_iter().collect();
        read.sort_by_key(|(name, _)| name.span().start);
        let tables = read.into_iter().map(|(name, rules)| ConceptTable { name: name.into_inner(), rules });
        let tables = Self(tables.collect());
        match tables.0.iter().find_map(ConceptTable::contradiction) {
            Some(reason) => Err(error(reason)),
            None if tables.0.is_empty() => Err(error("there is no concept".to_owned())),
            None => Ok(tables),
        }
    }

    /// Names in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ConceptTable::name)
    }

    /// All concepts in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, ConceptTable> {
        self.0.iter()
    }

    /// The concept called `name`.
    ///
    /// # Errors
    /// [`InputError::Unknown`] names the most similar one.
    pub fn concept(&self, name: &str) -> Result<&ConceptTable, InputError> {
        self.0.iter().find(|table| table.name == name).ok_or_else(|| {
            let nearest = self.names().min_by_key(|other| edit_distance(other, name)).unwrap_or_default().to_owned();
            InputError::Unknown { name: name.to_owned(), nearest }
        })
    }
}

impl<'a> IntoIterator for &'a ConceptTables {
    type Item = &'a ConceptTable;
    type IntoIter = std::slice::Iter<'a, ConceptTable>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl ConceptTable {
    /// What cannot be meant, if anything.
    fn contradiction(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(plain) {
            let name = super::shown(&self.name);
            return Some(format!("concept `{name}`: a name is up to 100 letters, digits, `-` and `_`"));
        }
        let Rules { nsynth, generated } = &self.rules;
        let rules = [
            ("nsynth.filter", &nsynth.filter, &NOTE_COLUMNS[..]),
            ("nsynth.padder", &nsynth.padder, &NOTE_COLUMNS),
            ("generated.filter", &generated.filter, &PROMPT_COLUMNS),
            ("generated.padder", &generated.padder, &PROMPT_COLUMNS),
        ];
        rules.into_iter().find_map(|(at, rule, known)| {
            let reason = rule.contradiction(known)?;
            Some(format!("concept `{}`, {at}: {reason}", self.name))
        })
    }
}

impl Rule {
    fn contradiction(&self, known: &[&str]) -> Option<String> {
        if self.columns.is_empty() {
            return Some("it asks for no column".to_owned());
        }
        self.columns.iter().find_map(|(column, wanted)| {
            if !known.contains(&column.as_str()) {
                let nearest = known.iter().min_by_key(|name| edit_distance(name, column)).unwrap_or(&"");
                return Some(format!("there is no column `{}`; the nearest is `{nearest}`", super::shown(column)));
            }
            wanted.is_empty().then(|| format!("nothing is wanted of `{column}`"))
        })
    }
}
