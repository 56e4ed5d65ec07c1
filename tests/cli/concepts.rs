//! `tonoscope concepts`: exact counts of the real tables, and sets of notes that come out the same every time.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{rows, says, stderr, stdout, tonoscope};

/// Path of a real input, or `None` where there is none: says so.
pub(super) fn shared(name: &str) -> Option<String> {
    let path = format!("{}/../../shared/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let there = Path::new(&path).is_file();
    if !there {
        eprintln!("SKIPPED: no `{path}`");
    }
    there.then_some(path)
}

fn run(args: &[&str]) -> String {
    let output = tonoscope(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn refused(args: &[&str]) -> (i32, String) {
    let output = tonoscope(args);
    assert_eq!(stdout(&output), "", "{args:?}");
    (output.status.code().unwrap(), stderr(&output))
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// `examples.json` of notes of two families, some of them dark.
pub(super) fn examples(count: usize, reversed: bool) -> Value {
    let note = |index: usize| {
        let family = ["flute", "bass"][index % 2];
        let name = format!("{family}_acoustic_{index:03}-060-100");
        let dark = index.is_multiple_of(3);
        let value = json!({
            "note": index, "note_str": name, "instrument": index, "instrument_str": format!("{family}_acoustic_{index:03}"),
            "pitch": 60, "velocity": 100, "sample_rate": 16000, "qualities": [0, i32::from(dark), 0, 0, 0, 0, 0, 0, 0, 0],
            "qualities_str": if dark { vec!["dark"] } else { vec![] }, "instrument_family": 2 - 2 * (index % 2),
            "instrument_family_str": family, "instrument_source": 0, "instrument_source_str": "acoustic",
        });
        (name, value)
    };
    let mut notes: Vec<(String, Value)> = (0..count).map(note).collect();
    if reversed {
        notes.reverse();
    }
    // Not a map: the order of the text is the point.
    let fields: Vec<String> = notes.iter().map(|(name, note)| format!("{name:?}: {note}")).collect();
    Value::String(format!("{{{}}}", fields.join(",\n")))
}

pub(super) fn write_examples(file: &str, count: usize, reversed: bool) {
    fs::write(file, examples(count, reversed).as_str().unwrap()).unwrap();
}

#[test]
fn counts_of_the_published_annotations_are_the_published_ones() {
    let (Some(annotations), Some(results)) = (shared("annotations.json"), shared("published_results.json")) else {
        return;
    };
    let args = ["concepts", "counts", "--annotations", &annotations, "--results", &results];
    let text = run(&args);
    assert!(text.contains("\npositives: 28 as published\n"), "{text}");
    let negatives = "\nnegatives: 14 as published, 13 published higher by 7, 1 published higher by 14\n";
    assert!(text.contains(negatives), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "counts");
    let report: Value = serde_json::from_str(&run(&[&args[..], &["--out", &out, "--json"]].concat())).unwrap();
    assert_eq!(report["generated"]["samples"], 7000);
    let concepts = report["generated"]["concepts"].as_array().unwrap();
    let harmonic = concepts.iter().find(|concept| concept["concept"] == "is_harmonic").unwrap();
    let expected = json!({
        "concept": "is_harmonic", "positives": 2345, "published_positives": 2345, "positives_difference": 0,
        "negatives": 4655, "published_negatives": 4669, "negatives_difference": 14, "both": 0,
    });
    assert_eq!(harmonic, &expected);
    let table = rows(path(folder.path(), "counts/generated_counts.csv"));
    assert_eq!((table.len(), table[12]["negatives_difference"].as_str()), (28, "14"));
    let written: Value = serde_json::from_slice(&fs::read(path(folder.path(), "counts/counts.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let corrected = run(&[&args[..], &["--vocabulary", "corrected", "--concepts", "is_warm"]].concat());
    assert!(corrected.lines().any(|line| line.starts_with("is_warm") && line.contains(" 3479 ")), "{corrected}");
}

#[test]
fn notes_of_the_test_split_are_counted_on_three_sides() {
    let Some(notes) = shared("nsynth_test_examples.json") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "counts");
    let text = run(&["concepts", "counts", "--notes-too", "--notes", &notes, "--out", &out]);
    assert!(text.starts_with("notes: 4096\n"), "{text}");
    assert!(text.ends_with("no note has is_synth_lead, is_techno\n"), "{text}");
    let table = rows(path(folder.path(), "counts/note_counts.csv"));
    assert_eq!(table.len(), 28);
    let brass = &table[0];
    assert_eq!(
        [&brass["concept"], &brass["positives"], &brass["negatives"], &brass["excluded"]],
        ["is_brass", "269", "3592", "235"]
    );
}

#[test]
fn a_set_is_balanced_and_the_same_whatever_the_order_of_the_notes() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one.json", "other.json"].map(|name| path(folder.path(), name));
    write_examples(&one, 30, false);
    write_examples(&other, 30, true);
    let build = |notes: &str, out: &str, more: &[&str]| {
        let out = path(folder.path(), out);
        let text = run(&[&["concepts", "build", "--notes", notes, "--out", &out][..], more].concat());
        (text, out)
    };
    let (text, a) = build(&one, "a", &[]);
    let (_, b) = build(&other, "b", &[]);
    let read = |out: &str, name: &str| fs::read_to_string(Path::new(out).join(name)).unwrap();
    assert_eq!(read(&a, "is_warm.csv"), read(&b, "is_warm.csv"));
    let warm = rows(path(Path::new(&a), "is_warm.csv"));
    // 10 are dark, 20 are not.
    assert_eq!(warm.len(), 20);
    assert!(warm[..10].iter().all(|row| row["binary_class"] == "1" && row["binary_class_str"] == "positive"));
    assert!(warm[..10].iter().all(|row| row["is_warm"] == "True" && row["is_warm_like"] == "True"));
    assert!(warm[10..].iter().all(|row| row["binary_class"] == "0" && row["is_warm_like"] == "False"));
    assert_eq!(
        (warm[0]["qualities"].as_str(), warm[0]["qualities_str"].as_str()),
        ("[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]", "['dark']")
    );
    let sound = Path::new(&folder.path()).join("audio").join(format!("{}.wav", warm[0]["note_str"]));
    assert_eq!(warm[0]["audio_fpath"], sound.to_str().unwrap());
    let names: std::collections::BTreeSet<&String> = warm.iter().map(|row| &row["note_str"]).collect();
    assert_eq!(names.len(), 20, "a note was chosen twice");
    assert!(text.contains("no file for is_brass, ") && !Path::new(&a).join("is_brass.csv").exists(), "{text}");
    let index: Value = serde_json::from_str(&read(&a, "concepts.json")).unwrap();
    assert_eq!(index["notes"], 30);
    // Fewer, and others with another seed.
    let (_, c) = build(&one, "c", &["--most", "4", "--concepts", "is_warm"]);
    let (_, d) = build(&one, "d", &["--most", "4", "--concepts", "is_warm", "--seed", "1"]);
    let few = rows(path(Path::new(&c), "is_warm.csv"));
    assert_eq!(few.len(), 8);
    assert_eq!(
        few[..4].iter().map(|row| &row["note_str"]).collect::<Vec<_>>(),
        warm[..4].iter().map(|row| &row["note_str"]).collect::<Vec<_>>()
    );
    assert_ne!(read(&c, "is_warm.csv"), read(&d, "is_warm.csv"));
    // What an earlier run chose of other notes does not stay.
    write_examples(&one, 1, false);
    build(&one, "a", &[]);
    assert!(!Path::new(&a).join("is_warm.csv").exists());
}

#[test]
fn own_concepts_are_built_like_the_published_ones() {
    let folder = tempfile::tempdir().unwrap();
    let [notes, tables, out] = ["examples.json", "own.toml", "out"].map(|name| path(folder.path(), name));
    write_examples(&notes, 30, false);
    let rule = |column: &str, want: &str| format!(r#"{{ join = "or", "{column}" = ["{want}"] }}"#);
    let text = format!(
        "[low]\nnsynth.filter = {0}\nnsynth.padder = {0}\ngenerated.filter = {1}\ngenerated.padder = {1}\n",
        rule("instrument_family_str", "bas"),
        rule("tag.aspects", "bass")
    );
    fs::write(&tables, &text).unwrap();
    let args = ["concepts", "build", "--notes", &notes, "--tables", &tables, "--out", &out];
    run(&args);
    assert_eq!(rows(path(Path::new(&out), "low.csv")).len(), 30, "text columns are matched by substring");
    let unknown = refused(&[&args[..], &["--concepts", "lo"]].concat());
    says(&unknown, 2, &["no concept is called `lo`; the nearest is `low`"]);
    fs::write(&tables, text.replace("instrument_family_str", "family")).unwrap();
    says(&refused(&args), 1, &["own.toml", "there is no column `family`"]);
}

#[test]
fn notes_that_lead_elsewhere_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [notes, out] = ["examples.json", "out"].map(|name| path(folder.path(), name));
    let args = ["concepts", "build", "--notes", &notes, "--out", &out];
    let good = examples(2, false);
    for (from, to, part) in [
        ("flute_acoustic_000-060-100", "../x", "named as no file of `NSynth` is"),
        ("flute_acoustic_000-060-100", "/etc/passwd", "named as no file of `NSynth` is"),
        ("\"dark\"", &"[".repeat(50_000), "examples.json"),
    ] {
        fs::write(&notes, good.as_str().unwrap().replace(from, to)).unwrap();
        says(&refused(&args), 1, &[part]);
        assert!(!Path::new(&out).exists());
    }
    fs::remove_file(&notes).unwrap();
    says(&refused(&args), 2, &["there is no", "hint: fetch NSynth with `--fetch test`"]);
    says(&refused(&["concepts", "counts"]), 2, &["nothing to count"]);
}

#[test]
fn clips_of_the_first_step_are_counted_and_odd_tables_refused() {
    let folder = tempfile::tempdir().unwrap();
    let info = path(folder.path(), "audio_info.csv");
    let header = "diffusion_step,prompt_index,sample_index,model,prompt,tag.aspects,tag.bpm";
    let row = |step: usize, sample: usize, aspects: &str| format!("{step},0,{sample},m,\"a, b\",\"{aspects}\",90\n");
    let text = format!(
        "{header}\n{}{}{}",
        row(5, 0, "['brass', 'warm sound']"),
        row(5, 1, "['flute']"),
        row(10, 0, "['brass']")
    );
    fs::write(&info, &text).unwrap();
    let args = ["concepts", "counts", "--audio-info", &info, "--concepts", "is_brass", "--json"];
    let report: Value = serde_json::from_str(&run(&args)).unwrap();
    let brass = &report["generated"]["concepts"][0];
    assert_eq!((&brass["positives"], &brass["negatives"]), (&json!(1), &json!(1)));
    fs::write(&info, text.replace("['flute']", "[flute]")).unwrap();
    says(&refused(&args), 1, &["audio_info.csv`, line 3", "expected a text in quotes"]);
    fs::write(&info, text.replace("tag.bpm", "bpm")).unwrap();
    says(&refused(&args), 1, &["has no column `tag.bpm`; its columns are `diffusion_step,"]);
    let wide = "a,".repeat(1_000_000);
    fs::write(&info, format!("{wide}\n{wide}\n")).unwrap();
    says(&refused(&args), 1, &["its first line is longer than"]);
    fs::write(&info, format!("{header}\n{wide}\n")).unwrap();
    says(&refused(&args), 1, &["audio_info.csv", "1000001 fields"]);
    fs::write(&info, "a,".repeat(200)).unwrap();
    says(&refused(&args), 1, &["has 201 columns, at most 100 are read"]);
}
