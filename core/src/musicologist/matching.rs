//! What has a concept, what comes near it, and what does neither.

use serde::{Deserialize, Serialize};

use super::{Annotation, InputError, Join, Note, Rule};

/// How the words of a concept are found in the aspects of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vocabulary {
    /// As published: anywhere in the list printed as Python prints it, so that `bright` is found in `bright sound` and
    /// `bass` would be in `deep bass`. A prompt is negative where the padder does not match, even if the filter does.
    Published,
    /// As meant: a word is a whole aspect, `NSynth`'s word for a quality is that of the annotators (`bright` is
    /// `bright sound`, `dark` is `warm sound`, `drums` is `drum`), and no prompt is on both sides.
    Corrected,
}

/// What the two rules of a concept say of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Whether it has the concept.
    pub filter: bool,
    /// Whether it comes near it.
    pub padder: bool,
}

impl Matched {
    /// `Some(true)`: positive, both match; `Some(false)`: negative, neither does; `None`: not used.
    pub fn class(self) -> Option<bool> {
        (self.filter == self.padder).then_some(self.filter)
    }
}

/// On which sides of a concept the samples of a prompt count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Among those that have it.
    pub positive: bool,
    /// Among those that do not. As published, a prompt may be on both sides (`is_percussion`, `is_techno`).
    pub negative: bool,
}

impl Rule {
    /// Whether `note` matches: text columns by substring, list columns by membership.
    pub(super) fn matches_note(&self, note: &Note) -> bool {
        self.joined(|column, wanted| match column {
            "qualities_str" => wanted.iter().any(|want| note.qualities_str.iter().any(|has| **has == **want)),
            column => note.text(column).is_some_and(|text| wanted.iter().any(|want| text.contains(want.as_str()))),
        })
    }

    /// Whether `annotation` matches; `printed` are its aspects as [`printed_list`] prints them.
    pub(super) fn matches_prompt(&self, annotation: &Annotation, printed: &str, vocabulary: Vocabulary) -> bool {
        let has = |aspect: &str| annotation.aspects.iter().any(|has| has == aspect);
        self.joined(|column, wanted| match (column, vocabulary) {
            ("prompt", _) => wanted.iter().any(|want| annotation.prompt.contains(want.as_str())),
            (_, Vocabulary::Published) => wanted.iter().any(|want| printed.contains(want.as_str())),
            (_, Vocabulary::Corrected) => wanted.iter().any(|want| match want.as_str() {
                "bright" => has("bright sound"),
                "dark" => has("warm sound") || has("dark sound"),
                "drums" => has("drum"),
                want => has(want),
            }),
        })
    }

    fn joined(&self, matches: impl Fn(&str, &[String]) -> bool) -> bool {
        let mut columns = self.columns.iter().map(|(column, wanted)| matches(column, wanted));
        match self.join {
            Join::Or => columns.any(|matches| matches),
            Join::And => columns.all(|matches| matches),
        }
    }
}

impl Note {
    /// A column of text.
    fn text(&self, column: &str) -> Option<&str> {
        Some(match column {
            "note_str" => &self.note_str,
            "instrument_str" => &self.instrument_str,
            "instrument_family_str" => &self.instrument_family_str,
            "instrument_source_str" => &self.instrument_source_str,
            _ => return None,
        })
    }
}

/// A list of texts as Python prints it: `['bass', 'warm sound']`.
pub fn printed_list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<String> = items.iter().map(|item| printed(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A text as Python prints it in a list; of what cannot be printed, only control characters are escaped.
fn printed(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&escaped(c)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn escaped(c: char) -> String {
    format!("\\x{:02x}", u32::from(c))
}

/// Reads what [`printed_list`] has printed.
///
/// # Errors
/// [`InputError::Format`] if it is no list of texts.
pub fn parse_printed_list(text: &str) -> Result<Vec<String>, InputError> {
    let error = |reason: &str| InputError::Format { what: "a list printed by Python", reason: reason.to_owned() };
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let mut rest = inner.ok_or_else(|| error("expected `[…]`"))?.trim();
    let mut items = vec![];
    while !rest.is_empty() {
        let mut chars = rest.char_indices();
        let quote = chars.next().map(|(_, c)| c).filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| error("expected a text in quotes"))?;
        let (mut item, mut end) = (String::new(), None);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    end = Some(at + 1);
                    break;
                }
                '\\' => item.push(unescaped(&mut chars).ok_or_else(|| error("an escape that Python does not print"))?),
                c => item.push(c),
            }
        }
        items.push(item);
        rest = rest[end.ok_or_else(|| error("a text without its end"))?..].trim_start();
        match rest.strip_prefix(',') {
            Some(after) if !after.trim().is_empty() => rest = after.trim_start(),
            None if rest.is_empty() => {}
            _ => return Err(error("expected `,` between texts")),
        }
    }
    Ok(items)
}

/// What stands behind a backslash.
fn unescaped(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let (_, c) = chars.next()?;
    let digits = match c {
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        '\\' | '\'' | '"' => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let code: String = chars.take(digits).map(|(_, c)| c).collect();
    if code.len() != digits {
        return None;
    }
    u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)
}
