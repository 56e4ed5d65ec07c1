//! The embedded weights on sentences of our own, and files that are none.

use super::*;

fn aspects(prompt: &str) -> Vec<String> {
    Annotator::embedded().annotate(prompt).aspects
}

#[track_caller]
fn check(prompt: &str, there: &[&str], absent: &[&str]) {
    let found = aspects(prompt);
    for aspect in there {
        assert!(found.iter().any(|one| one == aspect), "no `{aspect}` in {found:?} of: {prompt}");
    }
    for aspect in absent {
        assert!(!found.iter().any(|one| one == aspect), "`{aspect}` in {found:?} of: {prompt}");
    }
}

#[test]
fn the_embedded_weights_make_sense_of_our_own_sentences() {
    check(
        "A crushing metal song with distorted guitars, screamed vocals and double-kick drums at 170 BPM.",
        &["distortion", "guitar", "vocal", "drum", "percussive"],
        &["warm sound", "reverb", "flute", "electronic"],
    );
    check(
        "A tender duet of acoustic guitar and cello at 66 BPM, warm and intimate.",
        &["acoustic", "warm sound", "guitar", "string"],
        &["electronic", "distortion", "percussive", "synth_lead"],
    );
    check(
        "A hypnotic techno track with a synth bassline, electronic drums and pulsing sequencers at 130 BPM.",
        &["electronic", "synth_lead", "bass", "drum"],
        &["acoustic", "warm sound"],
    );
    check(
        "An ethereal ambient soundscape with slow evolving synth pads and distant, echoing voices.",
        &["long_release", "reverb", "synth_lead", "vocal", "electronic"],
        &["percussive", "fast_decay", "distortion", "drum"],
    );
    check(
        "A cheerful children's tune for xylophone, recorder and ukulele, bright and playful.",
        &["bright sound", "mallet", "flute", "guitar", "acoustic"],
        &["distortion", "long_release", "electronic"],
    );
}

#[test]
fn tempo_and_order_are_those_of_the_published_file() {
    let annotation = Annotator::embedded().annotate("Flutes and drums, 96 BPM");
    assert_eq!((annotation.prompt.as_str(), annotation.bpm), ("Flutes and drums, 96 BPM", 96.0));
    let places: Vec<usize> =
        annotation.aspects.iter().map(|found| ASPECTS.iter().position(|aspect| aspect == found).unwrap()).collect();
    assert!(places.is_sorted() && places.len() >= 2, "{:?}", annotation.aspects);
    assert_eq!(Annotator::rules().annotate(""), Annotation { prompt: String::new(), aspects: vec![], bpm: 0.0 });
    assert_eq!(Annotator::embedded().aspects().len(), 25);
}

#[test]
fn weights_are_written_as_they_are_read() {
    let embedded = Annotator::embedded();
    let text = embedded.to_json().unwrap();
    assert_eq!(text.as_bytes(), include_bytes!("../../../../data/annotator.json"));
    assert_eq!(&Annotator::from_json("x", text.as_bytes()).unwrap(), embedded);
    assert_eq!(Annotator::rules().to_json(), None);
}

#[test]
fn files_that_are_no_annotator_say_why() {
    let text = Annotator::embedded().to_json().unwrap();
    let broken = [
        ("{}".to_owned(), "missing field"),
        ("nonsense".to_owned(), "expected"),
        (text[..text.len() / 2].to_owned(), "EOF"),
        (text.replacen("annotator 1", "annotator 9", 1), "annotator 9"),
        (text.replacen("\"threshold\"", "\"threshhold\"", 1), "threshhold"),
        (text.replacen("\"bright sound\"", "\"warm sound\"", 1), "twice"),
        (text.replacen("\"flute\"", "\"fluet\"", 1), "flute"),
        (text.replacen("\"scales\": [", "\"scales\": [1.0, ", 1), "11 scales"),
        (text.replacen("\"acoustic\": [", "\"acoustic\": [1, ", 1), "`acoustic` has 12 numbers"),
        (text.replacen("\"acoustic\": [", "\"acoustic\": [1e99, ", 1), ""),
    ];
    for (text, part) in broken {
        let error = Annotator::from_json("own.json", text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("`own.json` is no annotator") && error.contains(part), "{error}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn an_annotator_of_own_aspects_learns_what_there_is_to_learn() {
    let annotations: Vec<Annotation> = (0..40)
        .map(|index| {
            let (word, aspect) = if index % 2 == 0 { ("soaring", "high") } else { ("rumbling", "low") };
            let prompt = format!("A {word} piece for drums, number{index}, at 120 BPM");
            Annotation { prompt, aspects: vec![aspect.to_owned(), "drum".to_owned()], bpm: 120.0 }
        })
        .collect();
    let names = ["drum", "high", "low", "never"];
    let learnt = train(&annotations, &names).unwrap();
    let evaluation = evaluate(&learnt, &annotations, &names);
    assert_eq!((evaluation.micro_f1(), evaluation.same_bpm, evaluation.prompts), (1.0, 40, 40));
    assert_eq!(evaluation.aspects[3].1, Counts::default());
    assert_eq!(learnt.annotate("a soaring organ").aspects, ["organ", "high"]);
    let again = Annotator::from_json("x", learnt.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(again, learnt);
    assert_eq!(train(&annotations[..1], &names), Err(TrainError::TooFew { found: 1 }));
    assert_eq!(train(&annotations, &["drum"]), Err(TrainError::NoAspects));
    // Forty prompts are too few for an aspect that has a rule.
    assert_eq!(train(&annotations, &["warm sound", "reverb"]), Err(TrainError::TooFew { found: 40 }));
}

#[test]
fn evaluations_add_up() {
    let truth =
        |prompt: &str, aspect: &str| Annotation { prompt: prompt.into(), aspects: vec![aspect.into()], bpm: 0.0 };
    let rules = Annotator::rules();
    let first = evaluate(&rules, &[truth("drums", "drum"), truth("flute", "drum")], &["drum", "flute"]);
    let mut sum = Evaluation::default();
    sum.add(&first);
    sum.add(&evaluate(&rules, &[truth("organ at 80 BPM", "flute")], &["drum", "flute"]));
    let drum = Counts { right: 1, wrong: 0, missed: 1 };
    let flute = Counts { right: 0, wrong: 1, missed: 1 };
    assert_eq!(sum.aspects, [("drum".to_owned(), drum), ("flute".to_owned(), flute)]);
    assert_eq!((sum.prompts, sum.same_bpm), (3, 2));
    assert_eq!((drum.precision(), drum.recall(), drum.f1()), (Some(1.0), Some(0.5), Some(2.0 / 3.0)));
    assert_eq!((sum.micro_f1(), sum.micro_f1_of(|name| name == "drum")), (0.4, 2.0 / 3.0));
}
