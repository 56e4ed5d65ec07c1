//! `tonoscope concepts embed`: each note once, the same whoever embeds it and however often the work is stopped.

use std::{fs, path::Path};

use serde_json::Value;
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    checkpoint::{SafetensorsFile, Source},
};
use tonoscope_tests::assert_close;

use super::{fixture, says, stderr, stdout, tonoscope};

/// 130 notes of two instruments: three blocks, the last not full.
const PER_PROGRAM: &str = "65";

fn run(args: &[&str]) -> String {
    let output = tonoscope(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn embed(concepts: &str, more: &[&str]) -> (i32, String, String) {
    let model = fixture("clap_tiny");
    let args = ["concepts", "embed", concepts, "--device", "cpu", "--clap", model.to_str().unwrap()];
    let output = tonoscope(&[&args[..], more].concat());
    (output.status.code().unwrap(), stdout(&output), stderr(&output))
}

fn vectors(file: &str) -> (Vec<String>, Vec<f32>) {
    let file = SafetensorsFile::open(Path::new(file)).unwrap();
    let notes: Vec<String> = serde_json::from_str(&file.metadata()["notes"]).unwrap();
    let raw = file.read("embeddings").unwrap();
    assert_eq!(raw.shape, [notes.len(), 24]);
    (notes, raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect())
}

#[test]
fn notes_are_embedded_once_alone_or_in_an_array() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [notes, concepts] = ["notes", "concepts"].map(path);
    run(&["data", "notes", &notes, "--programs", "73,33", "--per-program", PER_PROGRAM]);
    run(&["concepts", "build", "--notes", &notes, "--out", &concepts, "--concepts", "is_flute,is_blown,is_acoustic"]);

    let whole = path("whole");
    let (status, said, errors) = embed(&concepts, &["--out", &whole, "--json"]);
    assert_eq!(status, 0, "{errors}");
    assert!(errors.contains("once per concept all would take"), "{errors}");
    let summary: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&summary["notes"], &summary["once_per_concept"]), (&130.into(), &390.into()));
    assert!((summary["saved"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    let file = path("whole/embeddings.safetensors");
    let (names, values) = vectors(&file);
    assert!(names.is_sorted() && names.len() == 130);

    // The same as the sound of one of them by itself, filled up with silence.
    let name = &names[77];
    let wave = Waveform::from_wav(fs::File::open(path(&format!("notes/audio/{name}.wav"))).unwrap()).unwrap();
    let mut samples = wave.resample_sinc(48_000).unwrap().channels()[0].clone();
    samples.resize(480_000, 0.0);
    let alone = path("alone.wav");
    fs::write(&alone, Waveform::new(vec![samples], 48_000).unwrap().to_wav_bytes(WavFormat::Float32).unwrap()).unwrap();
    let model = fixture("clap_tiny");
    let report: Value =
        serde_json::from_str(&run(&["embed", &alone, "--device", "cpu", "--model", model.to_str().unwrap(), "--json"]))
            .unwrap();
    let alone = report["files"][0]["embedding"].as_array().unwrap();
    let alone: Vec<f32> = alone.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    assert_close(name, &values[77 * 24..78 * 24], &alone, 1e-6);

    // Two jobs of an array, the second first, and the tables of both.
    let array = path("array");
    let (status, said, errors) = embed(&concepts, &["--out", &array, "--num-jobs", "2", "--job-index", "1"]);
    assert_eq!(status, 0, "{errors}");
    assert!(said.contains("2 of 3 blocks of notes are not done yet, `notes_000000` being the first"), "{said}");
    let unit = fs::metadata(path("array/units/notes_000002.unit")).unwrap().modified().unwrap();
    let (status, said, errors) = embed(&concepts, &["--out", &array, "--num-jobs", "2", "--job-index", "0"]);
    assert_eq!(status, 0, "{errors}");
    assert!(
        said.contains("130 notes were embedded; once per concept it would have been 390, so 66.7 % were saved"),
        "{said}"
    );
    assert_eq!(fs::read(&file).unwrap(), fs::read(path("array/embeddings.safetensors")).unwrap());
    assert_eq!(fs::metadata(path("array/units/notes_000002.unit")).unwrap().modified().unwrap(), unit, "made again");
    fs::remove_file(path("array/embeddings.safetensors")).unwrap();
    run(&["merge", &array]);
    assert_eq!(fs::read(&file).unwrap(), fs::read(path("array/embeddings.safetensors")).unwrap());

    // Other notes in the same folder are noticed, and so are those that are gone.
    run(&["concepts", "build", "--notes", &notes, "--out", &concepts, "--concepts", "is_flute", "--most", "3"]);
    let (status, _, errors) = embed(&concepts, &["--out", &array]);
    says(
        &(status, errors),
        2,
        &["is of another run", "hint: choose another folder with `--out`, or pass `--overwrite`"],
    );
    let (status, _, errors) = embed(&concepts, &["--out", &path("elsewhere"), "--audio", &path("nowhere")]);
    says(&(status, errors), 1, &["cannot read `", "nowhere"]);
    assert!(!Path::new(&path("elsewhere")).exists());
    let (status, _, errors) = embed(&path("whole"), &[]);
    says(&(status, errors), 2, &["holds no `concepts.json`", "hint: make it with `tonoscope concepts build`"]);
}
