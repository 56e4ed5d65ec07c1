//! A tokenizer as small as the captions are: their words, and letters for all others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Rows of the ids that every T5 has first.
const SPECIAL: [&str; 3] = ["<pad>", "</s>", "<unk>"];

/// The content of a `tokenizer.json` that knows every word of `captions`, and how many pieces it has. Upper and lower case
/// are one; a word that is not known falls into letters.
pub fn word_tokenizer<'a>(captions: impl IntoIterator<Item = &'a str>) -> (Value, usize) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for caption in captions {
        for word in caption.split_whitespace() {
            let word = word.to_lowercase();
            let word = word.trim_matches(|letter: char| !letter.is_alphanumeric());
            if word.chars().count() > 1 {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    let total = counts.values().sum::<usize>().max(1) as f64;
    let mut vocabulary: Vec<(String, f64)> = SPECIAL.iter().map(|piece| ((*piece).to_owned(), 0.0)).collect();
    vocabulary.extend(counts.iter().map(|(word, &count)| (format!("▁{word}"), (count as f64 / total).ln())));
    // A letter is far less likely than the rarest word of all letters.
    let letters: BTreeSet<char> = ('a'..='z').chain('0'..='9').chain("▁.,;:!?'\"()-&/".chars()).collect();
    vocabulary.extend(letters.into_iter().map(|letter| (letter.to_string(), -total.ln() - 10.0)));
    let pieces = vocabulary.len();
    let special = |(id, piece): (usize, &&str)| {
        json!({"id": id, "content": piece, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": false},
    });
    (tokenizer, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::t5::T5Tokenizer;

    #[test]
    fn words_are_pieces_and_others_fall_into_letters() {
        let (json, pieces) = word_tokenizer(["Compose a happy rock piece, with a guitar melody."]);
        let tokenizer = T5Tokenizer::from_bytes(json.to_string().as_bytes(), 64, pieces).unwrap();
        let known = tokenizer.encode("compose a HAPPY piece").unwrap();
        assert_eq!(known.len(), 6, "{known:?}: three words, a space, a letter and the end");
        assert_eq!(known.last(), Some(&1));
        assert!(!known.contains(&2), "{known:?}");
        let unknown = tokenizer.encode("tuba").unwrap();
        assert!(unknown.len() > 4 && !unknown.contains(&2), "{unknown:?}");
    }

    #[test]
    fn unknown_tokens_of_other_scripts_are_counted() {
        let (json, pieces) = word_tokenizer(["Compose a happy rock piece"]);
        let tokenizer = T5Tokenizer::from_bytes(json.to_string().as_bytes(), 64, pieces).unwrap();
        let count = |text: &str| tokenizer.unknown_tokens(&tokenizer.encode(text).unwrap());
        assert_eq!([count("a happy piece"), count(""), count("\u{7434}")], [0, 0, 1]);
        assert_eq!(count("a \u{7434} piece with a \u{592a}\u{9f13}"), 2, "letters in a row are one token");
    }
}
