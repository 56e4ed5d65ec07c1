//! `tonoscope intervene` on tiny checkpoints: pairs, controls, resuming, arrays, and what it refuses.

use std::{fs, path::Path};

use tonoscope_core::{
    audio::Waveform,
    checkpoint::{SafetensorsFile, Source},
    hooks::EditFile,
};
use tonoscope_tests::Fixture;

use super::{fixture, lens::Place, says, stderr, tonoscope};

const PAIR: [&str; 6] = ["--from", "guitar", "--to", "piano", "--prompts-per-concept", "2"];

#[test]
fn all_pairs_of_ten_concepts_end_in_tables_and_figures() {
    let place = Place::new();
    let said = place.done("intervene", "out", &["--all-pairs", "--prompts-per-concept", "2"]);
    assert!(said.contains("mlp_out"), "{said}");
    // 90 pairs, two techniques, three sites in three layers, two prompts.
    assert_eq!(place.table("out/scores.csv").len(), 1 + 90 * 2 * 9 * 2);
    assert_eq!(place.table("out/summary.csv").len(), 1 + 90 * 2 * 9);
    for control in ["scale_zero_equals_clean", "self_patch_equals_clean"] {
        assert!(place.column("out/controls.csv", control).iter().all(|equal| equal == "true"), "{control}");
    }
    // Within and across two categories, each site and all of them.
    assert_eq!(place.table("out/categories.csv").len(), 1 + 2 * 4 * 4);
    for name in ["effect_by_layer", "precision_by_layer", "effect_precision", "original_desired", "effect_map"] {
        assert!(Path::new(&place.path(&format!("out/figures/{name}.png"))).is_file(), "{name}");
    }
    let parts = |name: &str| -> Vec<f64> {
        place.column("out/scores.csv", name).iter().map(|value| value.parse().unwrap()).collect()
    };
    let (effect, original, desired, kl) =
        (parts("effect"), parts("effect_original"), parts("effect_desired"), parts("kl"));
    for (index, effect) in effect.iter().enumerate() {
        assert!((effect - original[index] - desired[index]).abs() < 1e-9);
        assert!(kl[index] >= 0.0);
    }
    assert!(kl.iter().any(|kl| *kl > 1e-6), "some intervention changes something");
}

#[test]
fn tokens_of_every_intervention_are_those_of_the_reference() {
    let place = Place::new();
    let expected = Fixture::open_file("musicgen_tiny", "expected_inside.safetensors");
    let file = |concept: &str| {
        let prompts: Vec<String> = serde_json::from_str(&expected.metadata(&format!("{concept}_prompts"))).unwrap();
        fs::write(place.path(concept), prompts.join("\n")).unwrap();
        format!("{}=Guitar", place.path(concept))
    };
    let (guitar, piano) = (file("guitar"), file("piano"));
    for (feed, name) in [("own", "own"), ("clean", "clean")] {
        // The judge needs more frames than the reference has; the first eight do not depend on the later ones.
        let args = ["--from", &guitar, "--to", &piano, "--greedy", "--tokens", "--feed", feed, "--rows", "5"];
        place.done("intervene", name, &args);
        let pairs = SafetensorsFile::open(Path::new(&place.path(&format!("{name}/pairs/guitar_to_piano.safetensors"))));
        let pairs = pairs.unwrap();
        for technique in ["replace", "adjust"] {
            let raw = pairs.read(&format!("{technique}.codes")).unwrap();
            let got: Vec<i64> = raw.bytes.chunks(8).map(|of| i64::from_le_bytes(of.try_into().unwrap())).collect();
            let (want, shape) = expected.ints(&format!("intervene.{technique}.{feed}.codes"));
            assert_eq!(raw.shape[..3], shape[..3]);
            let (frames, all) = (shape[3], raw.shape[3]);
            for (got, want) in got.chunks(all).zip(want.chunks(frames)) {
                assert_eq!(got[..frames - 3], want[..frames - 3], "{technique}, {feed}");
            }
        }
    }
}

#[test]
fn extremes_controls_and_edits_are_kept() {
    let place = Place::new();
    let more = [
        "--save-extremes",
        "2",
        "--controls",
        "2",
        "--save-edits",
        "--sites",
        "mlp_out,self_attn.z",
        "--layers",
        "1..3",
    ];
    place.done("intervene", "out", &[&PAIR[..], &more[..]].concat());
    // Two prompts: clean, and best and worst two of two techniques.
    assert_eq!(place.table("out/audio.csv").len(), 1 + 2 * (1 + 2 * 4));
    for file in place.column("out/audio.csv", "file") {
        let wave = Waveform::from_wav(fs::File::open(place.path(&format!("out/{file}"))).unwrap()).unwrap();
        assert!(wave.samples() > 0);
    }
    // mlp_out in two layers, four heads in two layers, each with its random directions.
    assert_eq!(place.table("out/summary.csv").len(), 1 + 2 * (2 + 8));
    assert!(place.column("out/summary.csv", "random_effect").iter().all(|effect| effect.parse::<f64>().is_ok()));
    let edits =
        EditFile::from_bytes("edits", fs::read(place.path("out/edits/guitar_to_piano.safetensors")).unwrap()).unwrap();
    assert_eq!(edits.edits.len(), 4);
    let (model, out) = (fixture("musicgen_tiny"), place.path("steered"));
    let edit = place.path("out/edits/guitar_to_piano.safetensors");
    let generated = tonoscope(&[
        "generate",
        "--device",
        "cpu",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "Compose a happy rock piece.",
        "--duration",
        "0.05",
        "--edit",
        &edit,
        "--out",
        &out,
    ]);
    assert!(generated.status.success(), "{}", stderr(&generated));
}

#[test]
fn a_killed_run_and_an_array_give_the_files_of_one_run() {
    let place = Place::new();
    let args = [&PAIR[..], &["--save-extremes", "1", "--sites", "mlp_out", "--tokens"]].concat();
    place.done("intervene", "whole", &args);
    place.done("intervene", "killed", &args);
    fs::remove_file(place.path("killed/units/guitar_to_piano_0001.unit")).unwrap();
    fs::remove_file(place.path("killed/units/clean_guitar_0001.unit")).unwrap();
    fs::remove_file(place.path("killed/means/piano.safetensors")).unwrap();
    fs::write(place.path("killed/units/.tonoscope-half"), b"half").unwrap();
    place.done("intervene", "killed", &args);
    assert!(place.files("killed") == place.files("whole"), "resumed as if never stopped");
    // Both jobs of the array write into one folder; a third was killed while others hold the lock.
    let job = |job: &str| {
        place.done("intervene", "array", &[&args[..], &["--job-index", job, "--num-jobs", "2"]].concat());
    };
    job("0");
    let other = fs::File::open(place.path("array/units/.lock")).unwrap();
    other.lock_shared().unwrap();
    for folder in ["units", "audio", "means"] {
        fs::write(place.path(&format!("array/{folder}/.tonoscope-half")), b"half").unwrap();
    }
    job("1");
    assert!(place.files("array") == place.files("whole"), "an array as one job");
}

#[test]
fn means_are_reused_under_their_key_and_refused_under_another() {
    let place = Place::new();
    let means = place.path("means");
    let args = [&PAIR[..], &["--sites", "mlp_out", "--means", &means]].concat();
    place.done("intervene", "first", &args);
    let written = fs::metadata(place.path("means/guitar.safetensors")).unwrap().modified().unwrap();
    place.done("intervene", "second", &[&args[..], &["--scale", "2"]].concat());
    let now = fs::metadata(place.path("means/guitar.safetensors")).unwrap().modified().unwrap();
    assert_eq!(written, now, "the means were not taken again");
    let (status, _, complaint) = place.run("intervene", "third", &[&args[..], &["--seed", "7"]].concat());
    says(&(status, complaint), 1, &["were taken over something else", "`sampling`", "--means"]);
}

#[test]
fn a_second_judge_has_columns_of_its_own_and_changes_no_other() {
    let place = Place::new();
    let clap = fixture("clap_tiny");
    let args = [&PAIR[..], &["--sites", "mlp_out", "--layers", "0,1", "--controls", "1"]].concat();
    place.done("intervene", "one", &args);
    let said = place.done("intervene", "two", &[&args[..], &["--second-judge", clap.to_str().unwrap()]].concat());
    assert!(said.contains("second judge"), "{said}");
    let numbers = |name: &str| -> Vec<f64> {
        place.column("two/scores.csv", name).iter().map(|value| value.parse().unwrap()).collect()
    };
    let [effect, original, desired] = ["second_effect", "second_original", "second_desired"].map(numbers);
    assert!(effect.iter().zip(original.iter().zip(&desired)).all(|(sum, (a, b))| (sum - a - b).abs() < 1e-9));
    assert!(effect.iter().any(|effect| effect.abs() > 1e-6), "the second judge hears no change: {effect:?}");
    assert!(effect.iter().zip(numbers("effect")).any(|(second, first)| (second - first).abs() > 1e-6));
    for table in ["scores.csv", "summary.csv"] {
        let [one, two] = ["one", "two"].map(|run| place.table(&format!("{run}/{table}")));
        let before = one[0].iter().position(|name| name.starts_with("second_")).unwrap();
        assert!(one.iter().zip(&two).all(|(one, two)| one[..before] == two[..before]), "{table}");
        assert!(one[1..].iter().all(|row| row[before..].iter().all(String::is_empty)), "{table}");
    }
    let mean = effect.iter().sum::<f64>() / effect.len() as f64;
    let summary = place.column("two/summary.csv", "second_effect");
    let summary: f64 = summary.iter().map(|value| value.parse::<f64>().unwrap()).sum::<f64>() / summary.len() as f64;
    assert!((summary - mean).abs() < 1e-9, "{summary} is not {mean}");
    // It hears the random directions too, and something else in them.
    let [first, second] = ["random_effect", "second_random_effect"].map(|name| place.column("two/summary.csv", name));
    let heard = |value: &String| value.parse::<f64>().is_ok_and(f64::is_finite);
    assert!(second.iter().all(heard) && first != second, "{first:?}, {second:?}");
    // The same settings with another judge are other settings.
    let (status, _, complaint) = place.run("intervene", "two", &args);
    assert!(status != 0 && complaint.contains("--overwrite"), "{complaint}");
    let second = ["--second-judge", clap.to_str().unwrap(), "--second-judge-text", "music"];
    says(&place.fails("intervene", &[&PAIR[..], &second[..]].concat()), 2, &["says nothing", "`{}`"]);
}

#[test]
fn bad_requests_say_what_to_do() {
    let place = Place::new();
    let fails = |more: &[&str]| place.fails("intervene", more);
    says(&fails(&[]), 2, &["no pair of concepts", "--all-pairs"]);
    says(&fails(&["--from", "guitar", "--to", "guitr"]), 2, &["`guitr`", "the nearest is `guitar`"]);
    says(&fails(&["--from", "guitar", "--to", "guitar"]), 2, &["both the original and the desired"]);
    let pair = |more: &[&str]| fails(&[&PAIR[..], more].concat());
    says(&pair(&["--layers", "3"]), 2, &["layer 3, but the model has the layers 0 to 2"]);
    says(&pair(&["--sites", "mlp_output"]), 2, &["`mlp_output`", "nearest is `mlp_out`"]);
    says(&pair(&["--sites", "self_attn.pattern"]), 1, &["cannot be intervened on"]);
    says(&pair(&["--technique", "swap"]), 2, &["no technique `swap`"]);
    says(&pair(&["--steps", "5..5"]), 2, &["steps look like"]);
    says(&pair(&["--guidance", "1", "--branch", "uncond"]), 2, &["no unconditional half"]);
    let many = ["--from", "guitar", "--to", "piano", "--prompts-per-concept", "126"];
    says(&fails(&many), 2, &["makes 125 prompts"]);
}
