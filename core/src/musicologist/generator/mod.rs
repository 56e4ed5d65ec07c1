//! Prompts without a language model: sentences put together from genres and what fits them.
//!
//! Every genre of `data/prompt_words.toml` brings its tempi, moods and instruments; the genres take turns, so that each has
//! its share and every aspect of the annotations its prompts.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::LazyLock};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::Deserialize;

/// Draws that may repeat what there is already, before the words are said to make no more; a draw of what is left of them
/// all would take longer than anybody waits.
const PATIENCE: usize = 10_000;

/// More prompts than the words make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{asked} different prompts were asked for, the words make no more than some {found}")]
pub struct TooManyPrompts {
    /// What was asked for.
    pub asked: usize,
    /// What was found.
    pub found: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    sentences: Vec<String>,
    paces: Vec<Pace>,
    genres: Vec<Genre>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pace {
    below: u64,
    words: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Genre {
    name: String,
    pieces: Vec<String>,
    /// Slowest and fastest.
    bpm: [u64; 2],
    moods: Vec<String>,
    instruments: Vec<String>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../../data/prompt_words.toml")).expect("the built-in file is tested")
});

/// `count` prompts of one line each, no two alike; the same `seed` gives the same on every machine.
///
/// # Errors
/// [`TooManyPrompts`] if the words make fewer; they make some hundred thousand.
pub fn generate_prompts(count: usize, seed: u64) -> Result<Vec<String>, TooManyPrompts> {
    let words = &*WORDS;
    let mut draws = Draws(ChaCha8Rng::seed_from_u64(seed));
    let (mut prompts, mut seen) = (vec![], BTreeSet::new());
    let mut genres: Vec<usize> = vec![];
    let mut repeated = 0;
    while prompts.len() < count {
        if genres.is_empty() {
            genres = draws.some((0..words.genres.len()).collect(), words.genres.len());
        }
        let Some(genre) = genres.pop() else { break };
        let prompt = sentence(words, &words.genres[genre], &mut draws);
        if seen.insert(prompt.to_lowercase()) {
            prompts.push(prompt);
            repeated = 0;
        } else {
            repeated += 1;
            if repeated > PATIENCE {
                return Err(TooManyPrompts { asked: count, found: prompts.len() });
            }
        }
    }
    Ok(prompts)
}

/// One sentence of the list, its brackets filled with what fits `genre`.
fn sentence(words: &Words, genre: &Genre, draws: &mut Draws) -> String {
    let bpm = genre.bpm[0] + draws.below((genre.bpm[1] - genre.bpm[0]) as usize + 1) as u64;
    // Nobody asks for 143 BPM.
    let bpm = (bpm + if bpm % 5 > 2 { 5 } else { 0 }) / 5 * 5;
    let moods = draws.some(genre.moods.clone(), genre.moods.len());
    let instruments = draws.some(genre.instruments.clone(), genre.instruments.len());
    let (mut moods, mut instruments) = (moods.iter(), instruments.iter());
    let mut several = |count: usize| -> String {
        let chosen: Vec<&str> = instruments.by_ref().take(count).map(String::as_str).collect();
        listed(&chosen)
    };
    let mut rest = draws.one(&words.sentences).as_str();
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('[') {
        let Some((name, after)) = after.split_once(']') else { break };
        text.push_str(before);
        let filled = match name {
            // Left as it is until the next word is known.
            "A" => "[A]".to_owned(),
            "GENRE" => genre.name.clone(),
            "PIECE" => draws.one(&genre.pieces).clone(),
            "MOOD" => moods.next().cloned().unwrap_or_default(),
            "BPM" => bpm.to_string(),
            "PACE" => words
                .paces
                .iter()
                .find(|pace| bpm < pace.below)
                .map_or(String::new(), |pace| draws.one(&pace.words).clone()),
            "ONE" => several(1),
            "TWO" => several(2),
            "THREE" => several(3),
            _ => several(4),
        };
        text.push_str(&filled);
        rest = after;
    }
    text.push_str(rest);
    with_articles(&text)
}

/// `a`, `a and b`, `a, b, and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} and {other}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}

/// `[A]` as `A` or `An`, and ` a ` as ` an `, before a word that begins with the sound of a vowel.
fn with_articles(text: &str) -> String {
    let vowel = |rest: &str| {
        let word = rest.trim_start().split([' ', '-', ',']).next().unwrap_or_default();
        word == "8" || word == "R&B" || word.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) || {
            word.starts_with(['u', 'U']) && !word.to_lowercase().starts_with("uk")
        }
    };
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = [rest.find("[A]"), rest.find(" a ")].into_iter().flatten().min() {
        result.push_str(&rest[..at]);
        let (short, long, after) = match rest[at..].strip_prefix("[A]") {
            Some(after) => ("A", "An", after),
            None => (" a", " an", &rest[at + 2..]),
        };
        result.push_str(if vowel(after) { long } else { short });
        rest = after;
    }
    result + rest
}

/// Draws from a stream of random numbers.
struct Draws(ChaCha8Rng);

impl Draws {
    /// 0 to `count`, which is not reached; of nothing 0.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    fn one<'a>(&mut self, words: &'a [String]) -> &'a String {
        &words[self.below(words.len())]
    }

    /// `count` of `all` in a random order.
    fn some<T>(&mut self, mut all: Vec<T>, count: usize) -> Vec<T> {
        for end in (1..all.len()).rev() {
            let chosen = self.below(end + 1);
            all.swap(end, chosen);
        }
        all.truncate(count);
        all
    }
}
