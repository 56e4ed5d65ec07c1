//! Logistic regressions over the words of a prompt, in whole numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{INSTRUMENTS, rules};

/// What a file of weights begins with.
const FORMAT: &str = "tonoscope annotator 1";
/// How much an instrument that the rules find counts beside the words, whose squares add up to 1.
const INSTRUMENT: f64 = 0.5;
/// How much each tempo counts that is reached.
const TEMPO: f64 = 0.3;
/// The tempi, in beats per minute; a prompt without one counts as the middle.
const TEMPI: [f64; 6] = [70.0, 85.0, 100.0, 110.0, 120.0, 130.0];
/// The tempo of prompts that name none.
const NO_TEMPO: f64 = 100.0;

/// What of a prompt counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vocabulary {
    /// Prompts that it was counted in.
    pub(super) prompts: usize,
    /// Word → in how many of them it was.
    pub(super) words: BTreeMap<String, usize>,
}

impl Vocabulary {
    /// The words that are in at least `least` of `texts`, numbers left out: tempi count by themselves.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn of(texts: &[Vec<String>], least: usize) -> Self {
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        for text in texts {
            let different: BTreeSet<&String> = text.iter().collect();
            for word in different.into_iter().filter(|word| word.chars().any(char::is_alphabetic)) {
                *words.entry(word.clone()).or_default() += 1;
            }
        }
        words.retain(|_, count| *count >= least);
        Self { prompts: texts.len(), words }
    }

    /// Number of features.
    pub(super) fn width(&self) -> usize {
        INSTRUMENTS.len() + TEMPI.len() + self.words.len()
    }

    /// Instruments, tempi that are reached, and the words: present or not, times the logarithm of how rare they are, the
    /// squares adding up to 1.
    pub(super) fn features(&self, text: &[String], bpm: f64) -> Vec<f64> {
        let bpm = if bpm > 0.0 { bpm } else { NO_TEMPO };
        let mut features = Vec::with_capacity(self.width());
        let present = |found: bool, value: f64| if found { value } else { 0.0 };
        features.extend(INSTRUMENTS.iter().map(|instrument| present(rules::finds(instrument, text), INSTRUMENT)));
        features.extend(TEMPI.iter().map(|tempo| present(bpm > *tempo, TEMPO)));
        let different: BTreeSet<&String> = text.iter().collect();
        let rarity = |count: usize| ((1.0 + self.prompts as f64) / (1.0 + count as f64)).ln() + 1.0;
        let words = self.words.iter().map(|(word, count)| present(different.contains(word), rarity(*count)));
        let words: Vec<f64> = words.collect();
        let norm = words.iter().map(|value| value * value).sum::<f64>().sqrt();
        features.extend(words.iter().map(|value| if norm > 0.0 { value / norm } else { 0.0 }));
        features
    }
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    /// The aspects, in the order of all that follows.
    aspects: Vec<String>,
    /// Score above which an aspect is there: the logarithm of its odds.
    threshold: f64,
    /// Of each aspect the score of a prompt without features.
    intercepts: Vec<f64>,
    /// Of each aspect the weight that 1 stands for.
    scales: Vec<f64>,
    /// Prompts that the words were counted in.
    prompts: usize,
    /// Instrument → weight for each aspect.
    instruments: BTreeMap<String, Vec<i32>>,
    /// Tempo → weight for each aspect.
    tempi: Vec<Vec<i32>>,
    /// Word → in how many prompts it was, and the weight for each aspect.
    words: BTreeMap<String, Vec<i32>>,
}

/// The regressions of some aspects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) vocabulary: Vocabulary,
    pub(super) aspects: Vec<String>,
    pub(super) threshold: f64,
    pub(super) intercepts: Vec<f64>,
    pub(super) scales: Vec<f64>,
    /// Feature → weight for each aspect, in whole numbers.
    pub(super) weights: Vec<Vec<i32>>,
}

impl Model {
    /// The aspects that it judges.
    pub(super) fn aspects(&self) -> impl Iterator<Item = &str> {
        self.aspects.iter().map(String::as_str)
    }

    /// Whether each of its aspects is in a prompt of these words and this tempo.
    pub(super) fn judge(&self, words: &[String], bpm: f64) -> Vec<(&str, bool)> {
        let features = self.vocabulary.features(words, bpm);
        let score = |aspect: usize| -> f64 {
            let weighted = features.iter().zip(&self.weights).filter(|(feature, _)| **feature != 0.0);
            let sum: f64 = weighted.map(|(feature, weights)| feature * f64::from(weights[aspect])).sum();
            sum * self.scales[aspect] + self.intercepts[aspect]
        };
        self.aspects().enumerate().map(|(index, aspect)| (aspect, score(index) > self.threshold)).collect()
    }

    /// Reads what [`to_json`](Self::to_json) has written; the error is what is wrong with it.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("expected the format `{FORMAT}`, found `{}`", file.format));
        }
        let aspects = file.aspects.len();
        let names: BTreeSet<&String> = file.aspects.iter().collect();
        if names.len() != aspects || aspects == 0 {
            return Err("an aspect occurs twice, or there is none".to_owned());
        }
        if file.intercepts.len() != aspects || file.scales.len() != aspects {
            let found = (file.intercepts.len(), file.scales.len());
            return Err(format!("{} intercepts and {} scales for {aspects} aspects", found.0, found.1));
        }
        if let Some(row) = file.instruments.values().chain(&file.tempi).find(|row| row.len() != aspects) {
            return Err(format!("a row of {} weights for {aspects} aspects", row.len()));
        }
        if file.tempi.len() != TEMPI.len() {
            return Err(format!("{} rows for {} tempi", file.tempi.len(), TEMPI.len()));
        }
        let mut vocabulary = Vocabulary { prompts: file.prompts, words: BTreeMap::new() };
        let mut weights = vec![];
        for instrument in INSTRUMENTS {
            let row = file.instruments.get(*instrument).ok_or_else(|| format!("no weights for `{instrument}`"))?;
            weights.push(row.clone());
        }
        weights.extend(file.tempi);
        for (word, row) in file.words {
            let Some((count, row)) = row.split_first().filter(|(_, row)| row.len() == aspects) else {
                return Err(format!("`{word}` has {} numbers, expected a count and {aspects} weights", row.len()));
            };
            let count = usize::try_from(*count).map_err(|_| format!("`{word}` was counted {count} times"))?;
            vocabulary.words.insert(word, count);
            weights.push(row.to_vec());
        }
        let (threshold, intercepts, scales) = (file.threshold, file.intercepts, file.scales);
        Ok(Self { vocabulary, aspects: file.aspects, threshold, intercepts, scales, weights })
    }

    /// A line per word, so that two files can be compared.
    pub(super) fn to_json(&self) -> String {
        let mut fields = vec![
            format!("\"format\": {}", json(FORMAT)),
            format!("\"aspects\": {}", json(&self.aspects)),
            format!("\"threshold\": {}", json(&self.threshold)),
            format!("\"intercepts\": {}", json(&self.intercepts)),
            format!("\"scales\": {}", json(&self.scales)),
            format!("\"prompts\": {}", json(&self.vocabulary.prompts)),
        ];
        let (instruments, rest) = self.weights.split_at(INSTRUMENTS.len());
        let (tempi, words) = rest.split_at(TEMPI.len());
        let named = |name: &str, row: &[i32]| format!("{}: {}", json(name), json(row));
        let lines = |rows: Vec<String>| rows.join(",\n  ");
        let instruments = INSTRUMENTS.iter().zip(instruments).map(|(name, row)| named(name, row));
        fields.push(format!("\"instruments\": {{\n  {}\n }}", lines(instruments.collect())));
        fields.push(format!("\"tempi\": [\n  {}\n ]", lines(tempi.iter().map(json).collect())));
        let words = self.vocabulary.words.iter().zip(words).map(|((word, count), row)| {
            let row: Vec<i32> = std::iter::once(*count as i32).chain(row.iter().copied()).collect();
            named(word, &row)
        });
        fields.push(format!("\"words\": {{\n  {}\n }}", lines(words.collect())));
        format!("{{\n {}\n}}\n", fields.join(",\n "))
    }
}

/// Numbers and texts as JSON, which cannot fail.
fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
