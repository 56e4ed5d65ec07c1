//! The built-in words, and what is made of them.

use std::collections::BTreeSet;

use super::*;
use crate::musicologist::{ASPECTS, annotator::Annotator};

#[test]
fn the_words_fit_every_sentence() {
    let words = &*WORDS;
    let brackets = ["A", "GENRE", "PIECE", "MOOD", "BPM", "PACE", "ONE", "TWO", "THREE", "FOUR"];
    for sentence in &words.sentences {
        let names = sentence.split('[').skip(1).map(|rest| rest.split_once(']').unwrap().0);
        let names: Vec<&str> = names.collect();
        assert!(names.iter().all(|name| brackets.contains(name)), "{sentence}");
        let count = |name: &str| names.iter().filter(|found| **found == name).count();
        let instruments = count("ONE") + 2 * count("TWO") + 3 * count("THREE") + 4 * count("FOUR");
        for genre in &words.genres {
            assert!(count("MOOD") <= genre.moods.len() && instruments <= genre.instruments.len(), "{}", genre.name);
        }
    }
    let [slowest, fastest] = [0, 1].map(|end| words.genres.iter().map(move |genre| genre.bpm[end]));
    assert!(slowest.min() >= Some(40) && fastest.max() <= Some(300));
    assert!(words.genres.iter().all(|genre| genre.bpm[0] < genre.bpm[1] && !genre.pieces.is_empty()));
    assert!(words.paces.last().unwrap().below >= 1000);
    let names: BTreeSet<&str> = words.genres.iter().map(|genre| genre.name.as_str()).collect();
    assert_eq!(names.len(), words.genres.len());
}

#[test]
fn a_thousand_prompts_are_all_different_and_the_same_for_the_same_seed() {
    let prompts = generate_prompts(1000, 7).unwrap();
    let different: BTreeSet<String> = prompts.iter().map(|prompt| prompt.to_lowercase()).collect();
    assert_eq!((prompts.len(), different.len()), (1000, 1000));
    assert_eq!(prompts, generate_prompts(1000, 7).unwrap());
    assert_eq!(prompts[..10], generate_prompts(10, 7).unwrap());
    let other = generate_prompts(1000, 8).unwrap();
    assert!(prompts.iter().filter(|prompt| other.contains(prompt)).count() < 100);
    for prompt in &prompts {
        assert!(!prompt.contains(['[', ']', '\n']) && !prompt.contains("  ") && prompt.ends_with('.'), "{prompt}");
        assert!(prompt.starts_with("A ") || prompt.starts_with("An "), "{prompt}");
    }
    assert_eq!(generate_prompts(20_000, 1).unwrap().len(), 20_000);
}

#[test]
fn articles_fit_what_follows() {
    assert_eq!(with_articles("[A] epic score with a uplifting end"), "An epic score with an uplifting end");
    assert_eq!(with_articles("[A] R&B jam, a ukulele"), "An R&B jam, a ukulele");
    assert_eq!(with_articles("[A] 8-bit tune in a Irish manner"), "An 8-bit tune in an Irish manner");
}

#[test]
fn every_aspect_has_prompts_with_and_without_it() {
    let prompts = generate_prompts(1000, 0).unwrap();
    let annotations: Vec<_> = prompts.iter().map(|prompt| Annotator::embedded().annotate(prompt)).collect();
    for aspect in ASPECTS.iter().filter(|aspect| **aspect != "multiphonic") {
        let found = annotations.iter().filter(|one| one.aspects.iter().any(|other| other == aspect)).count();
        assert!((5..=900).contains(&found), "{found} of 1000 prompts have `{aspect}`");
    }
    let with_tempo = annotations.iter().filter(|one| one.bpm > 0.0).count();
    assert!((800..1000).contains(&with_tempo), "{with_tempo} of 1000 prompts have a tempo");
}
