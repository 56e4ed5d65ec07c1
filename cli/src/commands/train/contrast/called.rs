//! What sounds are called.

use tonoscope_core::{
    corpus::Split,
    musicologist::{FAMILIES, Note, QUALITIES, SOURCES},
};

use crate::commands::train::source::{Source, Which};

/// What a note or a melody of a family is called when nothing else is said of it: the same, so that they come to lie together.
pub(super) fn of_family(family: &str) -> String {
    format!("A {} sound.", spoken(family))
}

/// What the `index`-th note is called: every third one by its family alone, the others by all that is known.
pub(super) fn described(note: &Note, index: usize) -> String {
    if index.is_multiple_of(3) {
        return of_family(&note.instrument_family_str);
    }
    let height = ["very low", "low", "high", "very high"][((note.pitch - 36) / 16).clamp(0, 3) as usize];
    let force = if note.velocity < 64 { "soft" } else { "loud" };
    let qualities: Vec<String> = note.qualities_str.iter().map(|quality| spoken(quality)).collect();
    let qualities = if qualities.is_empty() { String::new() } else { format!(", {}", qualities.join(", ")) };
    let (source, family) = (&note.instrument_source_str, spoken(&note.instrument_family_str));
    format!("A {force}, {height} {source} {family} note{qualities}.")
}

fn spoken(word: &str) -> String {
    word.replace(['_', '-'], " ")
}

/// What the first `count` phrases are called: two of three melodies that are alone as a note of their family would be.
pub(super) fn called(source: &Source, split: Split, count: usize) -> Vec<String> {
    let mut captions = source.captions(split, count);
    for (index, caption) in captions.iter_mut().enumerate().filter(|(index, _)| !index.is_multiple_of(3)) {
        if let Some(instrument) = source.alone(Which { split, index }) {
            *caption = of_family(instrument.family());
        }
    }
    captions
}

/// Every word that [`described`] may use.
pub(super) fn words_of_notes() -> Vec<String> {
    let words = FAMILIES.iter().chain(&SOURCES).chain(&QUALITIES).map(|word| spoken(word));
    words.chain(["A very low high soft loud note sound".to_owned()]).collect()
}
