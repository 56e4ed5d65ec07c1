//! The small models inside the program: that they are what their cards say, in small, and what is built on them.

use std::{fs, path::Path};

use serde_json::Value;

use super::{stderr, stdout, tonoscope};

/// Runs the program; what it prints.
fn done(args: &[&str]) -> String {
    let output = tonoscope(args);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&done(&[args, &["--json"]].concat())).unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_codec_keeps_what_it_never_heard() {
    let folder = tempfile::tempdir().unwrap();
    let phrases = path(folder.path(), "phrases");
    done(&["data", "render", "phrases", "--split", "test", "--count", "6", "--out", &phrases]);
    let (audio, csv) = (path(folder.path(), "phrases/audio"), path(folder.path(), "files.csv"));
    let codec = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/models/encodec-nano");
    let told = json(&["data", "compare", &audio, "--codec", codec, "--csv", &csv, "--device", "cpu"]);
    assert_eq!((told["files"].as_u64(), told["kbit_per_s"].as_f64()), (Some(6), Some(1.8)));
    // The card says 5.4 dB for other clips; silence in place of them is at 20 and more.
    assert!(told["mel_distance_db"].as_f64().unwrap() < 8.0, "{told}");
    let used: Vec<f64> = serde_json::from_value(told["perplexities"].clone()).unwrap();
    assert!(used.len() == 4 && used.iter().all(|&used| used > 80.0), "of 1 200 frames: {used:?}");
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 1 + 6);
    // A sound beside itself, and beside one of another length.
    let same = json(&["data", "compare", &audio, "--heard", &audio]);
    assert_eq!(same["mel_distance_db"].as_f64(), Some(0.0));
    assert!(same["si_sdr_db"].as_f64().unwrap() > 100.0, "{same}");
    let short = path(folder.path(), "short");
    done(&["data", "render", "phrases", "--split", "test", "--count", "6", "--seconds", "2", "--out", &short]);
    let refused = tonoscope(&["data", "compare", &audio, "--heard", &path(folder.path(), "short/audio")]);
    assert!(!refused.status.success() && stderr(&refused).contains("2.00 s longer or shorter"), "{}", stderr(&refused));
}
