//! `tonoscope data render notes`: real instruments in NSynth's layout, the same every time.

use std::{collections::BTreeMap, fs, path::Path};

use rustfft::{FftPlanner, num_complex::Complex};
use serde_json::Value;
use tonoscope_core::{
    audio::Waveform,
    musicologist::{Note, QUALITIES, read_notes},
};

use super::{concepts::shared, says, stderr, stdout, tonoscope};

fn render(folder: &Path, more: &[&str]) -> String {
    let args = [&["data", "render", "notes", folder.to_str().unwrap()][..], more].concat();
    let output = tonoscope(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn notes(folder: &Path) -> Vec<Note> {
    read_notes(&fs::read(folder.join("examples.json")).unwrap()).unwrap()
}

fn sound(folder: &Path, note: &Note) -> Vec<f32> {
    let file = fs::File::open(folder.join("audio").join(format!("{}.wav", note.note_str))).unwrap();
    let wave = Waveform::from_wav(file).unwrap();
    assert_eq!((wave.sample_rate(), wave.channels().len(), wave.samples()), (16_000, 1, 64_000));
    wave.channels()[0].clone()
}

/// Energy of every hertz and a quarter, within half a second to 1.3 s.
fn spectrum(samples: &[f32]) -> Vec<f64> {
    const LEN: usize = 12_800;
    let window = |at: usize| 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / LEN as f64).cos();
    let part = samples[8_000..8_000 + LEN].iter().enumerate();
    let mut values: Vec<Complex<f64>> =
        part.map(|(at, sample)| Complex::new(f64::from(*sample) * window(at), 0.0)).collect();
    FftPlanner::new().plan_fft_forward(LEN).process(&mut values);
    values[..LEN / 2].iter().map(Complex::norm_sqr).collect()
}

#[test]
fn notes_have_nsynths_fields_their_pitch_and_no_alias() {
    let folder = tempfile::tempdir().unwrap();
    let said = render(folder.path(), &["--programs", "73,56,11", "--per-program", "4"]);
    assert!(said.starts_with("12 notes of 3 programs"), "{said}");
    let text = fs::read(folder.path().join("examples.json")).unwrap();
    let written: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&text).unwrap();
    if let Some(real) = shared("nsynth_test_examples.json") {
        let real: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&fs::read(real).unwrap()).unwrap();
        let fields = |notes: &BTreeMap<String, BTreeMap<String, Value>>| {
            notes.values().next().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(fields(&written), fields(&real));
    }
    let notes = notes(folder.path());
    let instruments: std::collections::BTreeSet<&str> = notes.iter().map(|note| &*note.instrument_str).collect();
    assert_eq!(
        instruments.into_iter().collect::<Vec<_>>(),
        ["brass_acoustic_000", "flute_acoustic_000", "mallet_acoustic_000"]
    );
    for note in &notes {
        assert_eq!(note.note_str, format!("{}-{:03}-{:03}", note.instrument_str, note.pitch, note.velocity));
        let has = QUALITIES.iter().zip(&note.qualities).filter(|(_, has)| **has == 1).map(|(name, _)| *name);
        assert!(has.eq(note.qualities_str.iter().map(|name| &**name)));
        let samples = sound(folder.path(), note);
        let energies = spectrum(&samples);
        let pitch = 440.0 * ((note.pitch as f64 - 69.0) / 12.0).exp2();
        // Most of a note is in multiples of its pitch; 1.25 Hz a line, two lines either side and 1 % out of tune.
        let on_pitch = |line: usize| {
            let hertz = line as f64 * 1.25;
            let nearest = (hertz / pitch).round().max(1.0) * pitch;
            (hertz - nearest).abs() <= (0.01 * nearest).max(2.5)
        };
        let total: f64 = energies.iter().sum();
        let on: f64 = energies.iter().enumerate().filter(|(line, _)| on_pitch(*line)).map(|(_, energy)| energy).sum();
        let share = on / total;
        assert!(
            total > 0.0 && (share > 0.8 || note.instrument_str.starts_with("mallet")),
            "{}: {share}",
            note.note_str
        );
        let (held, end) = (&samples[..4_000], &samples[63_000..]);
        let peak = |part: &[f32]| part.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak(held) > 1e-3 && peak(end) < peak(held), "{}: the key is let go", note.note_str);
    }
}

#[test]
fn the_seed_decides_everything() {
    let folder = tempfile::tempdir().unwrap();
    let [one, again, other] = ["one", "again", "other"].map(|name| folder.path().join(name));
    let args = ["--programs", "73", "--per-program", "2"];
    render(&one, &args);
    render(&again, &args);
    render(&other, &[&args[..], &["--seed", "1"]].concat());
    assert_eq!(fs::read(one.join("examples.json")).unwrap(), fs::read(again.join("examples.json")).unwrap());
    for note in notes(&one) {
        let read = |folder: &Path| fs::read(folder.join("audio").join(format!("{}.wav", note.note_str))).unwrap();
        assert_eq!(read(&one), read(&again));
    }
    // A run that was stopped goes on: what is finished stays, what is not is made.
    let examples = fs::read(one.join("examples.json")).unwrap();
    fs::remove_file(one.join("examples.json")).unwrap();
    let stays = notes(&again).remove(0).note_str + ".wav";
    fs::write(one.join("audio").join(&stays), b"as it is").unwrap();
    render(&one, &args);
    assert_eq!(fs::read(one.join("examples.json")).unwrap(), examples);
    assert_eq!(fs::read(one.join("audio").join(&stays)).unwrap(), b"as it is");
    render(&one, &[&args[..], &["--overwrite"]].concat());
    assert_eq!(fs::read(one.join("audio").join(&stays)).unwrap(), fs::read(again.join("audio").join(&stays)).unwrap());
    // Its old name.
    let old = tonoscope(&[&["data", "notes", one.to_str().unwrap()][..], &args].concat());
    assert!(old.status.success(), "{}", stderr(&old));
    let mixed = tonoscope(&["data", "render", "notes", one.to_str().unwrap(), "--programs", "73", "--seed", "7"]);
    assert_eq!(mixed.status.code(), Some(2), "{}", stderr(&mixed));
    let table = fs::read_to_string(one.join("notes.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.starts_with("file,note,instrument,family,source,pitch,velocity,qualities\naudio/flute_acoustic_000-")
    );
    let names = |folder: &Path| notes(folder).into_iter().map(|note| note.note_str).collect::<Vec<_>>();
    assert_ne!(names(&one), names(&other));
}

#[test]
fn what_cannot_be_rendered_is_said_and_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let refused = |more: &[&str]| {
        let output = tonoscope(&[&["data", "render", "notes", out.to_str().unwrap()][..], more].concat());
        assert!(!out.exists(), "something was written");
        (output.status.code().unwrap(), stderr(&output))
    };
    says(&refused(&["--programs", "120"]), 2, &["program 120 is nothing that NSynth has"]);
    says(&refused(&["--programs", "0"]), 2, &["has no program 0 in bank 0"]);
    says(&refused(&["--programs", "200"]), 2, &["200"]);
    let bad = folder.path().join("bad.sf2");
    fs::write(&bad, b"RIFF\x04\0\0\0sfbkLIST\xff\xff\xff\xff").unwrap();
    says(&refused(&["--soundfont", bad.to_str().unwrap()]), 1, &["bad.sf2", "`LIST` is longer than the file"]);
}
