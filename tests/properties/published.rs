//! What "musicologist" has published, read as it is: prompts, annotations, concepts, counts.

use std::collections::{BTreeMap, BTreeSet};

use tonoscope_core::musicologist::{
    ASPECTS, ConceptTable, ConceptTables, FAMILIES, QUALITIES, SOURCES, Sides, Vocabulary, read_annotations,
    read_notes, read_prompts, read_results,
};

/// A real input, or `None` where there is none: says so.
fn shared(name: &str) -> Option<Vec<u8>> {
    let path = format!("{}/../../shared/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let read = std::fs::read(&path).ok();
    if read.is_none() {
        eprintln!("SKIPPED: no `{path}`");
    }
    read
}

#[test]
fn the_published_prompts_are_those_of_their_annotations() {
    let (Some(prompts), Some(annotations)) = (shared("prompt.txt"), shared("annotations.json")) else { return };
    let (prompts, annotations) = (read_prompts(&prompts).unwrap(), read_annotations(&annotations).unwrap());
    assert_eq!((prompts.len(), annotations.len()), (1000, 1000));
    assert!(prompts[0].starts_with("A smooth jazz quartet") && prompts[0].ends_with("relaxed and intimate."));
    assert!(prompts.iter().all(|prompt| !prompt.starts_with(|c: char| c.is_ascii_digit() || c.is_whitespace())));
    let differ = prompts.iter().zip(&annotations).filter(|(prompt, annotation)| **prompt != annotation.prompt);
    // Numbers in front and blanks behind are gone; what else differs the annotator has changed.
    let differ: Vec<_> = differ.collect();
    assert!(differ.len() < 30, "{} differ, such as {:?}", differ.len(), differ[0]);
    assert_eq!(annotations.iter().filter(|annotation| annotation.bpm == 0.0).count(), 44);
    let others = annotations.iter().flat_map(|annotation| &annotation.aspects);
    let others: BTreeSet<_> = others.filter(|aspect| !ASPECTS.contains(&aspect.as_str())).collect();
    assert_eq!(others.len(), 8, "{others:?}");
}

#[test]
fn positives_are_the_published_ones_and_negatives_differ_as_is_known() {
    let (Some(annotations), Some(results)) = (shared("annotations.json"), shared("published_results.json")) else {
        return;
    };
    let (annotations, results) = (read_annotations(&annotations).unwrap(), read_results(&results).unwrap());
    let tables = ConceptTables::published();
    assert_eq!((tables.names().count(), results.len()), (28, 28));
    let mut more = BTreeMap::new();
    for table in tables {
        let sides: Vec<Sides> =
            annotations.iter().map(|annotation| table.prompt(annotation, Vocabulary::Published)).collect();
        let positives = 7 * sides.iter().filter(|sides| sides.positive).count();
        let negatives = 7 * sides.iter().filter(|sides| sides.negative).count();
        let both = sides.iter().filter(|sides| sides.positive && sides.negative).count();
        assert_eq!(both > 0, ["is_percussion", "is_techno"].contains(&table.name()), "{}", table.name());
        for result in &results[table.name()] {
            assert_eq!(result.pos_gen_audio_samples, positives, "{}", table.name());
            more.entry(result.neg_gen_audio_samples - negatives).or_insert_with(Vec::new).push(table.name());
        }
    }
    more.values_mut().for_each(Vec::dedup);
    assert_eq!(more.iter().map(|(more, names)| (*more, names.len())).collect::<Vec<_>>(), [(0, 14), (7, 13), (14, 1)]);
    assert_eq!(more[&14], ["is_harmonic"]);
}

#[test]
fn notes_of_the_test_split_fall_on_the_sides_of_every_concept() {
    let Some(notes) = shared("nsynth_test_examples.json") else { return };
    let notes = read_notes(&notes).unwrap();
    assert_eq!(notes.len(), 4096);
    assert_eq!(notes[0].note_str, "bass_synthetic_068-049-025");
    for note in &notes {
        assert_eq!(FAMILIES[note.instrument_family as usize], &*note.instrument_family_str);
        assert_eq!(SOURCES[note.instrument_source as usize], &*note.instrument_source_str);
        let has = QUALITIES.iter().zip(&note.qualities).filter(|(_, has)| **has == 1).map(|(quality, _)| *quality);
        assert!(has.eq(note.qualities_str.iter().map(|quality| &**quality)), "{}", note.note_str);
    }
    // Counted by a program of its own over the same file: positive, negative.
    let expected: [(&str, [usize; 2]); 28] = [
        ("is_brass", [269, 3592]),
        ("is_bass", [843, 2295]),
        ("is_flute", [180, 3681]),
        ("is_guitar", [652, 2295]),
        ("is_mallet", [202, 3128]),
        ("is_organ", [502, 2828]),
        ("is_reed", [235, 3412]),
        ("is_string", [306, 2295]),
        ("is_synth_lead", [0, 3594]),
        ("is_keyboard", [766, 2828]),
        ("is_vocal", [141, 3955]),
        ("is_long", [1413, 2502]),
        ("is_harmonic", [762, 3334]),
        ("is_rhythmic", [96, 3641]),
        ("is_staccato", [711, 3305]),
        ("is_distorted", [913, 2127]),
        ("is_warm", [705, 2588]),
        ("is_acoustic", [1689, 2407]),
        ("is_electronic", [1372, 1689]),
        ("is_synthetic", [1035, 1689]),
        ("is_orchestral", [810, 3167]),
        ("is_acoustic_band", [1104, 2686]),
        ("is_percussion", [495, 2747]),
        ("is_techno", [0, 4096]),
        ("is_plucked", [1801, 1529]),
        ("is_blown", [684, 2769]),
        ("is_hit", [968, 2626]),
        ("is_atmospheric", [252, 3844]),
    ];
    let count = |table: &ConceptTable| {
        let of = |side| notes.iter().filter(|note| table.note(note).class() == Some(side)).count();
        [of(true), of(false)]
    };
    let counted: Vec<(&str, [usize; 2])> =
        ConceptTables::published().iter().map(|table| (table.name(), count(table))).collect();
    assert_eq!(counted, expected);
}
