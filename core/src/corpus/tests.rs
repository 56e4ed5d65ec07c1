use proptest::prelude::*;

use super::*;

fn wanted(genre: Genre, mood: Mood, instrument: Instrument, tempo: Tempo) -> Wanted {
    Wanted { genre: Some(genre), mood: Some(mood), instrument: Some(instrument), tempo: Some(tempo), solo: false }
}

#[test]
fn every_combination_is_a_phrase_of_what_was_wanted() {
    for (seed, &genre) in (0..).zip(Genre::ALL) {
        for &mood in Mood::ALL {
            for &instrument in Instrument::ALL {
                for &tempo in Tempo::ALL {
                    let phrase = phrase(seed, &wanted(genre, mood, instrument, tempo), 4.0);
                    assert_eq!((phrase.genre, phrase.mood), (genre, mood));
                    assert_eq!((phrase.instrument, phrase.tempo), (instrument, tempo));
                    assert_eq!(Tempo::of(phrase.bpm), tempo);
                    let melody: Vec<&Note> = phrase.notes.iter().filter(|note| note.channel == MELODY).collect();
                    assert!(melody.len() >= 3, "{genre} {mood} {tempo}: {} notes", melody.len());
                    assert!(melody.iter().all(|note| note.program == phrase.program));
                    let drums = phrase.notes.iter().any(|note| note.channel == DRUMS);
                    assert_eq!(drums, genre != Genre::Classical);
                    for note in &phrase.notes {
                        assert!((0.0..4.0).contains(&note.start_seconds) && note.seconds > 0.0, "{note:?}");
                        assert!(note.key < 128 && (1..128).contains(&note.velocity) && note.channel < 16, "{note:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn moods_differ_in_what_is_heard() {
    let mean = |mood: Mood, number: &dyn Fn(&Phrase) -> f64| {
        let one = |seed| number(&phrase(seed, &Wanted { mood: Some(mood), ..Wanted::default() }, 8.0));
        (0..60).map(one).sum::<f64>() / 60.0
    };
    let density = |phrase: &Phrase| phrase.notes.iter().filter(|note| note.channel == MELODY).count() as f64;
    let minor = |phrase: &Phrase| f64::from(u8::from(phrase.key.minor));
    assert!(mean(Mood::Energetic, &density) > 1.8 * mean(Mood::Emotional, &density));
    assert_eq!((mean(Mood::Happy, &minor), mean(Mood::Emotional, &minor)), (0.0, 1.0));
    let loudness = |phrase: &Phrase| f64::from(phrase.loudness);
    assert!(mean(Mood::Energetic, &loudness) > 1.5 * mean(Mood::Emotional, &loudness));
}

#[test]
fn what_is_wanted_leaves_the_rest_alone() {
    for seed in 0..50 {
        let free = phrase(seed, &Wanted::default(), 4.0);
        assert_eq!(free, phrase(seed, &Wanted::default(), 4.0));
        let same = wanted(free.genre, free.mood, free.instrument, free.tempo);
        assert_eq!(free, phrase(seed, &same, 4.0));
        let other = phrase(seed, &Wanted { instrument: Some(Instrument::Flute), ..Wanted::default() }, 4.0);
        assert_eq!((free.genre, free.mood, free.bpm, free.key), (other.genre, other.mood, other.bpm, other.key));
        let longer = phrase(seed, &Wanted::default(), 9.0);
        assert_eq!((free.bpm, free.key, free.program), (longer.bpm, longer.key, longer.program));
    }
    assert_ne!(phrase(0, &Wanted::default(), 4.0).notes, phrase(1, &Wanted::default(), 4.0).notes);
}

#[test]
fn a_solo_is_the_melody_of_its_phrase_alone() {
    for seed in 0..50 {
        let whole = phrase(seed, &Wanted::default(), 4.0);
        let solo = phrase(seed, &Wanted { solo: true, ..Wanted::default() }, 4.0);
        let melody: Vec<Note> = whole.notes.iter().copied().filter(|note| note.channel == MELODY).collect();
        assert!(!whole.solo && whole.notes.len() > melody.len());
        assert_eq!((solo.notes, solo.solo), (melody, true));
        let solo = Phrase { notes: vec![], solo: true, ..whole.clone() };
        let captions: std::collections::BTreeSet<String> =
            (0..2 * CAPTION_VARIANTS).map(|at| caption(&solo, at)).collect();
        assert!(captions.len() >= 6, "{captions:?}");
        for caption in captions {
            let named = [whole.instrument.name(), whole.instrument.family()];
            assert!(named.iter().any(|name| caption.to_lowercase().contains(name)), "{caption}");
            assert!(
                Genre::ALL.iter().all(|genre| !caption.contains(genre.name())) && !caption.contains('['),
                "{caption}"
            );
        }
    }
}

#[test]
fn parts_share_neither_seeds_nor_in_the_test_programs() {
    let mut seeds = std::collections::HashSet::new();
    let mut programs = [const { std::collections::BTreeSet::new() }; 3];
    for (part, split) in Split::ALL.into_iter().enumerate() {
        for index in 0..500 {
            let seed = split.seed(7, index);
            assert_eq!(Split::of_seed(seed), split);
            assert!(seeds.insert(seed));
            programs[part].insert(phrase(seed, &Wanted::default(), 1.0).program);
        }
    }
    assert!(programs[2].is_disjoint(&programs[0]) && programs[2].is_disjoint(&programs[1]));
    assert_eq!(programs[2].len(), 5);
    let held: std::collections::BTreeSet<&str> = (0..60u8).map(|byte| Split::of_score(&[byte]).name()).collect();
    assert_eq!(held.len(), 3);
}

#[test]
fn captions_are_the_template_and_its_paraphrases() {
    let of = wanted(Genre::Electronic, Mood::Energetic, Instrument::Guitar, Tempo::SlowToMedium);
    let phrase = phrase(3, &of, 4.0);
    let template = "Compose a energetic electronic piece, with a guitar melody. Use a slow to medium tempo.";
    assert_eq!(caption(&phrase, 0), template);
    assert_eq!(caption(&phrase, CAPTION_VARIANTS), template);
    assert_eq!(caption(&phrase, 1), "An energetic electronic piece with a guitar melody at a slow to medium tempo.");
    let all: std::collections::BTreeSet<String> =
        (0..CAPTION_VARIANTS).map(|variant| caption(&phrase, variant)).collect();
    assert_eq!(all.len() as u64, CAPTION_VARIANTS);
    assert!(all.iter().all(|text| !text.contains(['[', ']']) && text.starts_with(char::is_uppercase)));
}

#[test]
fn words_are_parsed_and_unknown_ones_named() {
    assert_eq!(Wanted::concept("jazz").unwrap().genre, Some(Genre::Jazz));
    assert_eq!(Wanted::concept("violin").unwrap().instrument, Some(Instrument::Violin));
    assert_eq!(Wanted::concept("slow to medium").unwrap().tempo, Some(Tempo::SlowToMedium));
    let error = Wanted::concept("polka").unwrap_err().to_string();
    assert!(error.starts_with("no concept is called `polka`; there are guitar, piano"), "{error}");
}

#[test]
fn drums_sound_and_stay_within_bounds() {
    for rate in [32_000, 48_000] {
        let machine = percussion::DrumMachine::new(rate);
        for key in 0..128 {
            let hit = Note { channel: DRUMS, program: 0, key, velocity: 127, start_seconds: 0.01, seconds: 0.1 };
            let mut samples = vec![0.0; rate as usize];
            machine.mix(&[hit], 1.0, &mut samples);
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            assert!((0.1..1.5).contains(&peak), "key {key}: {peak}");
            assert!(samples[..rate as usize / 100].iter().all(|sample| *sample == 0.0));
            // Far outside, nothing happens.
            machine.mix(
                &[Note { start_seconds: 1e300, ..hit }, Note { start_seconds: f64::NAN, ..hit }],
                0.0,
                &mut samples,
            );
        }
    }
}

/// A score of one track: the tempo, a program, then `count` keys a beat apart.
fn score(count: u8) -> Vec<u8> {
    let mut track = vec![0, 0xff, 0x51, 3, 0x0f, 0x42, 0x40, 0, 0xc0, 56];
    for key in 0..count {
        track.extend([0, 0x90, 60 + key, 100, 96, 0x80, 60 + key, 0]);
    }
    track.extend([0, 0xff, 0x2f, 0]);
    let mut file = b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk".to_vec();
    file.extend((track.len() as u32).to_be_bytes());
    file.extend(track);
    file
}

#[test]
fn a_score_is_cut_to_phrases() {
    let score = Score::parse(&score(10)).unwrap();
    // A beat is a second at 60 beats per minute.
    assert!((score.seconds() - 9.0).abs() < 1e-9);
    let excerpts = score.excerpts(4.0);
    assert_eq!(excerpts.len(), 2, "the last two notes are too few");
    assert_eq!(excerpts[1].notes[0].key, 64);
    assert!((excerpts[1].bpm - 60.0).abs() < 1e-9 && excerpts[1].notes[0].start_seconds.abs() < 1e-9);
    assert_eq!(excerpts[0].instrument, Some(Instrument::Trumpet));
    assert_eq!(caption_of_score(&excerpts[0]), "A piece, with a trumpet melody. Use a slow tempo.");
    assert!((excerpts[0].notes[0].seconds - 1.0).abs() < 1e-9);
    assert!(matches!(Score::parse(b"RIFF"), Err(ScoreError::NotMidi { .. })));
    assert_eq!(Score::parse(&self::score(0)), Err(ScoreError::Empty));
}

proptest! {
    #[test]
    fn no_bytes_make_a_score_panic(at in 0usize..90, values in proptest::collection::vec(any::<u8>(), 1..24), cut in 0usize..100) {
        let mut bytes = score(6);
        let end = (at + values.len()).min(bytes.len());
        if at < end {
            bytes[at..end].copy_from_slice(&values[..end - at]);
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Ok(score) = Score::parse(&bytes) {
            for excerpt in score.excerpts(4.0) {
                for note in &excerpt.notes {
                    prop_assert!((0.0..4.0 + 1e-6).contains(&note.start_seconds) && note.seconds <= 10.0);
                    prop_assert!(note.key < 128 && note.velocity < 128 && note.channel < 16);
                }
            }
        }
    }

    #[test]
    fn any_seed_and_length_is_a_phrase(seed: u64, seconds in -1.0f64..30.0) {
        let phrase = phrase(seed, &Wanted::default(), seconds);
        prop_assert!(!phrase.notes.is_empty() && phrase.seconds >= 0.1);
    }
}
