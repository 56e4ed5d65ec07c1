//! `tonoscope data render phrases`: music of which everything is known, the same every time.

use std::{fs, path::Path};

use serde_json::Value;
use tonoscope_core::audio::Waveform;

use super::{says, stderr, stdout, tonoscope};

fn render(folder: &Path, more: &[&str]) -> Value {
    let args = [&["data", "render", "phrases", "--json", "--out", folder.to_str().unwrap()][..], more].concat();
    let output = tonoscope(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn table(folder: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(folder.join("phrases.json")).unwrap()).unwrap()
}

fn sound(folder: &Path, row: &Value) -> Vec<f32> {
    let wave = Waveform::from_wav(fs::File::open(folder.join(row["file"].as_str().unwrap())).unwrap()).unwrap();
    assert_eq!((wave.sample_rate(), wave.channels().len()), (32_000, 1));
    wave.channels()[0].clone()
}

#[test]
fn phrases_are_what_was_asked_for_and_grow() {
    let guard = tempfile::tempdir().unwrap();
    let folder = guard.path().join("phrases");
    let args = ["--seconds", "1", "--concepts", "violin,jazz", "--seed", "5"];
    let planned = render(&folder, &[&args[..], &["--count", "4", "--dry-run"]].concat());
    assert_eq!(planned["phrases"], 4);
    assert!(!folder.exists(), "a dry run writes nothing");
    assert_eq!(render(&folder, &[&args[..], &["--count", "2"]].concat())["rendered"], 2);
    let first = fs::read(folder.join("audio/training_000000.wav")).unwrap();
    assert_eq!(render(&folder, &[&args[..], &["--count", "4"]].concat())["rendered"], 2, "two are there");
    assert_eq!(fs::read(folder.join("audio/training_000000.wav")).unwrap(), first);
    let rows = table(&folder);
    assert_eq!(rows.len(), 4);
    for (index, row) in rows.iter().enumerate() {
        let (field, word) = [("instrument", "violin"), ("genre", "jazz")][index % 2];
        assert_eq!(row[field], word);
        let caption = row["caption"].as_str().unwrap();
        for field in ["instrument", "genre", "mood", "tempo"] {
            assert!(caption.contains(row[field].as_str().unwrap()), "{caption}: {row}");
        }
        let samples = sound(&folder, row);
        assert_eq!(samples.len(), 32_000);
        assert!(samples.iter().any(|sample| sample.abs() > 0.3), "{row}: it is hardly heard");
    }
    let csv = fs::read_to_string(folder.join("phrases.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    let other = tonoscope(&["data", "render", "phrases", "--out", folder.to_str().unwrap(), "--seed", "6"]);
    says(&(other.status.code().unwrap(), stderr(&other)), 2, &["holds phrases of other settings", "--out"]);
}

#[test]
fn a_melody_alone_is_what_the_rest_was_added_to() {
    let guard = tempfile::tempdir().unwrap();
    let [solo, whole] = ["solo", "whole"].map(|name| guard.path().join(name));
    let args = ["--seconds", "1", "--count", "2", "--seed", "5"];
    render(&whole, &args);
    render(&solo, &[&args[..], &["--solo"]].concat());
    for (solo_row, whole_row) in table(&solo).iter().zip(&table(&whole)) {
        assert_eq!((&solo_row["solo"], &whole_row["solo"]), (&Value::Bool(true), &Value::Bool(false)));
        assert_eq!((&solo_row["seed"], &solo_row["program"]), (&whole_row["seed"], &whole_row["program"]));
        assert!(solo_row["caption"].as_str().unwrap().contains("solo"), "{solo_row}");
        assert_ne!(sound(&solo, solo_row), sound(&whole, whole_row));
    }
    let out = guard.path().join("scores");
    let refused = tonoscope(&["data", "render", "phrases", "--out", out.to_str().unwrap(), "--solo", "--scores", "x"]);
    assert!(!refused.status.success() && stderr(&refused).contains("--solo"), "{}", stderr(&refused));
}

/// A score of one track: `count` keys of a trumpet, a second each.
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
fn scores_are_cut_to_phrases_of_one_part_each() {
    let guard = tempfile::tempdir().unwrap();
    let scores = guard.path().join("scores");
    fs::create_dir(&scores).unwrap();
    let says_empty = tonoscope(&["data", "render", "phrases", "--out", "x", "--scores", scores.to_str().unwrap()]);
    says(&(says_empty.status.code().unwrap(), stderr(&says_empty)), 1, &["holds no score"]);
    for count in 8..40 {
        fs::write(scores.join(format!("{count}.mid")), score(count)).unwrap();
    }
    fs::write(scores.join("broken.mid"), b"MThd\0\0\0\x06\0\0").unwrap();
    fs::write(scores.join("notes.txt"), b"not a score").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for split in ["training", "validation", "test"] {
        let folder = guard.path().join(split);
        let more = ["--scores", scores.to_str().unwrap(), "--split", split, "--count", "3", "--seconds", "4"];
        assert_eq!(render(&folder, &more)["phrases"], 3, "{split}");
        for row in table(&folder) {
            assert_eq!((&row["instrument"], &row["split"]), (&"trumpet".into(), &split.into()));
            assert_eq!(row["caption"], "A piece, with a trumpet melody. Use a slow tempo.");
            seen.insert((split, row["score"].as_str().unwrap().to_owned()));
            assert!(sound(&folder, &row).iter().any(|sample| sample.abs() > 0.3));
        }
    }
    let names: std::collections::BTreeSet<&String> = seen.iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), seen.len(), "{seen:?}: no score is of two parts");
}
