//! Sentences about a phrase.

use super::{Genre, Phrase, score::Excerpt};

/// Other ways to say the template's sentence. One never says that a piece is what it is not; some leave something out.
const PARAPHRASES: [&str; 7] = [
    "A [MOOD] [GENRE] piece with a [INSTRUMENT] melody at a [TEMPO] tempo.",
    "[MOOD] [GENRE] music, played by a [INSTRUMENT], [TEMPO].",
    "Write a [TEMPO], [MOOD] [GENRE] tune for [INSTRUMENT].",
    "A [INSTRUMENT] plays a [MOOD] melody over a [GENRE] beat. The tempo is [TEMPO].",
    "[GENRE] with [INSTRUMENT], [MOOD] and [TEMPO].",
    "A [GENRE] piece with a [INSTRUMENT] melody.",
    "[MOOD] music in a [TEMPO] tempo in [KEY], with [INSTRUMENT].",
];

/// Sentences about a melody alone, which say nothing of a genre.
const OF_SOLOS: [&str; 7] = [
    "Compose a [MOOD] piece for solo [INSTRUMENT]. Use a [TEMPO] tempo.",
    "A solo [INSTRUMENT], [MOOD], at a [TEMPO] tempo.",
    "[MOOD] [INSTRUMENT] solo, [TEMPO].",
    "A [INSTRUMENT] plays a [MOOD] melody alone. The tempo is [TEMPO].",
    "Solo [INSTRUMENT].",
    "Solo [INSTRUMENT] in [KEY], [MOOD] and [TEMPO].",
    "A [FAMILY] melody, [MOOD] and [TEMPO].",
];

/// How many different sentences there are about a phrase.
pub const CAPTION_VARIANTS: u64 = 1 + PARAPHRASES.len() as u64;

/// A sentence about `phrase`: variant 0 is the template of the ISMIR 2024 paper, others are
/// paraphrases, over and over.
pub fn caption(phrase: &Phrase, variant: u64) -> String {
    const TEMPLATE: &str = "Compose a [MOOD] [GENRE] piece, with a [INSTRUMENT] melody. Use a [TEMPO] tempo.";
    let sentence = match variant % CAPTION_VARIANTS {
        variant if phrase.solo => OF_SOLOS[variant as usize % OF_SOLOS.len()],
        0 => TEMPLATE,
        variant if phrase.genre == Genre::Classical && variant == 4 => PARAPHRASES[0],
        variant => PARAPHRASES[variant as usize - 1],
    };
    let filled = sentence
        .replace("[MOOD]", phrase.mood.name())
        .replace("[GENRE]", phrase.genre.name())
        .replace("[INSTRUMENT]", phrase.instrument.name())
        .replace("[FAMILY]", phrase.instrument.family())
        .replace("[TEMPO]", phrase.tempo.name())
        .replace("[KEY]", &phrase.key.to_string());
    sentence_case(&with_article(&filled))
}

/// A sentence about an excerpt of a score, of which less is known.
pub fn caption_of_score(excerpt: &Excerpt) -> String {
    let tempo = super::Tempo::of(excerpt.bpm);
    match excerpt.instrument {
        Some(instrument) => {
            format!("A piece, with {} melody. Use a {tempo} tempo.", with_article(&format!("a {instrument}")))
        }
        None => format!("A piece. Use a {tempo} tempo."),
    }
}

/// `an` before a vowel in paraphrases. The template keeps its `a`, as the published prompts do.
fn with_article(text: &str) -> String {
    if text.starts_with("Compose") {
        return text.to_owned();
    }
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        let vowel = words[at].starts_with(['a', 'e', 'i', 'o']);
        match words[at - 1].as_str() {
            "a" if vowel => "an".clone_into(&mut words[at - 1]),
            "A" if vowel => "An".clone_into(&mut words[at - 1]),
            _ => {}
        }
    }
    words.join(" ")
}

fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
