//! `tonoscope embed` on the tiny CLAP: vectors, files, scores, and what it refuses.

use std::{f64::consts::TAU, fs, path::Path};

use serde_json::Value;
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    checkpoint::{SafetensorsFile, Source},
};
use tonoscope_tests::{Fixture, assert_close, claps::clap_with};

use super::{fixture, says, stderr, stdout, tonoscope};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn wav(&self, name: &str, wave: &Waveform) -> String {
        fs::write(self.path(name), wave.to_wav_bytes(WavFormat::Float32).unwrap()).unwrap();
        self.path(name)
    }
}

fn embed_with(model: &str, args: &[&str]) -> std::process::Output {
    tonoscope(&[&["embed", "--device", "cpu", "--model", model][..], args].concat())
}

fn embed(args: &[&str]) -> std::process::Output {
    embed_with(fixture("clap_tiny").to_str().unwrap(), args)
}

fn refused(args: &[&str]) -> (i32, String) {
    let output = embed(args);
    assert_eq!(stdout(&output), "");
    (output.status.code().unwrap(), stderr(&output))
}

fn report(args: &[&str]) -> Value {
    let output = embed(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn vector(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn mono(samples: Vec<f32>, rate: u32) -> Waveform {
    Waveform::new(vec![samples], rate).unwrap()
}

fn tone(hertz: f64, seconds: f64, rate: u32) -> Vec<f32> {
    let samples = (seconds * f64::from(rate)) as usize;
    (0..samples).map(|at| (0.4 * (TAU * hertz * at as f64 / f64::from(rate)).sin()) as f32).collect()
}

#[test]
fn files_and_texts_become_the_vectors_and_scores_of_transformers() {
    let place = Place::new();
    let expected = Fixture::open("clap_tiny");
    let texts: Vec<String> = serde_json::from_str(&expected.metadata("texts")).unwrap();
    let files: Vec<String> = (0..2)
        .map(|index| place.wav(&format!("{index}.wav"), &mono(expected.floats(&format!("wave.{index}")).0, 8000)))
        .collect();
    let out = place.path("new/vectors.safetensors");
    let args = [&files[0], &files[1], "--text", &texts[0], "--text", &texts[1], "--out", &out];
    let report = report(&args);
    for (index, file) in report["files"].as_array().unwrap().iter().enumerate() {
        let (want, shape) = expected.floats("audio.embedding");
        assert_close("embedding", &vector(&file["embedding"]), &want[index * shape[1]..][..shape[1]], 1e-5);
        let (logits, _) = expected.floats("logits_per_audio");
        for score in file["texts"].as_array().unwrap() {
            let text = texts.iter().position(|text| score["text"] == **text).unwrap();
            let got = score["cosine"].as_f64().unwrap() * report["logit_scale"].as_f64().unwrap();
            assert!((got - f64::from(logits[index * 2 + text])).abs() < 1e-4, "{got}");
        }
        let probabilities: f64 =
            file["texts"].as_array().unwrap().iter().map(|score| score["probability"].as_f64().unwrap()).sum();
        assert!((probabilities - 1.0).abs() < 1e-9);
        assert!(file["texts"][0]["cosine"].as_f64() >= file["texts"][1]["cosine"].as_f64());
    }
    let written = SafetensorsFile::open(Path::new(&out)).unwrap();
    let read = |name: &str| -> Vec<f32> {
        let raw = written.read(name).unwrap();
        assert_eq!(raw.shape, [2, 24]);
        raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    assert_close("audio", &read("audio"), &expected.floats("audio.embedding").0, 1e-5);
    assert_close("text", &read("text"), &expected.floats("text.embedding").0, 1e-5);
    let metadata = written.metadata();
    assert_eq!(serde_json::from_str::<Vec<String>>(&metadata["files"]).unwrap(), files);
    assert_eq!(serde_json::from_str::<Vec<String>>(&metadata["texts"]).unwrap(), texts);
    assert!(metadata["model"].contains("model.safetensors"), "{}", metadata["model"]);
    // The same as a table; the texts that lie nearest first.
    let table = stdout(&embed(&args[..6]));
    assert_eq!(table.lines().filter(|line| line.contains("cosine")).count(), 2, "{table}");
    let first = report["files"][0]["texts"][0]["text"].as_str().unwrap();
    assert!(table.lines().nth(2).unwrap().contains(first), "{table}");
}

#[test]
fn rates_channels_and_lengths_are_brought_to_what_the_model_hears() {
    let place = Place::new();
    let of = |wave: &Waveform| vector(&report(&[&place.wav("sound.wav", wave)])["files"][0]["embedding"]);
    let heard = of(&mono(tone(700.0, 1.0, 8000), 8000));
    let other = of(&mono(tone(1900.0, 1.0, 8000), 8000));
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(distance(&heard, &other) > 0.1, "two tones");
    // The same samples in both channels, and what follows the first second.
    let twice = Waveform::new(vec![tone(700.0, 1.0, 8000); 2], 8000).unwrap();
    assert_eq!(of(&twice), heard);
    let longer = [tone(700.0, 1.0, 8000), tone(1900.0, 6.0, 8000)].concat();
    assert_eq!(of(&mono(longer, 8000)), heard);
    // What is cut off before resampling is not heard.
    let rate = 44_100;
    let long = [tone(700.0, 3.5, rate), vec![0.0; rate as usize * 5]].concat();
    assert_eq!(of(&mono(tone(700.0, 3.0, rate), rate)), of(&mono(long, rate)));
    assert!(distance(&of(&mono(tone(700.0, 2.0, rate), rate)), &heard) < 0.1, "another rate");
}

#[test]
fn every_kind_of_sound_file_is_embedded() {
    let sound = |name: &str| fixture("sound").join(name).to_str().unwrap().to_owned();
    let files = [
        "pcm_24.wav",
        "pcm_24.wavex.wav",
        "pcm_24.rf64.wav",
        "pcm_24.w64",
        "pcm_24.aiff",
        "pcm_24.flac",
        "piped_sox.wav",
    ];
    let others = ["lame_cbr.mp3", "stereo.ogg", "celt.opus", "stereo.m4a"];
    let paths: Vec<String> = files.iter().chain(&others).map(|name| sound(name)).collect();
    let args: Vec<&str> = paths.iter().map(String::as_str).collect();
    let report = report(&args);
    let vectors: Vec<Vec<f32>> =
        report["files"].as_array().unwrap().iter().map(|file| vector(&file["embedding"])).collect();
    for (name, embedding) in files.iter().zip(&vectors) {
        assert_eq!(embedding, &vectors[0], "`{name}` holds the same samples");
    }
    // What a codec keeps, decoded and written as a WAV file.
    let place = Place::new();
    for (name, embedding) in others.iter().zip(&vectors[files.len()..]) {
        let decoded = place.wav("decoded.wav", &Waveform::decode(&fs::read(sound(name)).unwrap()).unwrap());
        assert_eq!(&vector(&self::report(&[&decoded])["files"][0]["embedding"]), embedding, "`{name}`");
    }
}

#[test]
fn a_kind_that_is_not_read_is_named_with_how_to_convert_it() {
    let place = Place::new();
    let path = place.path("song.wma");
    fs::write(&path, [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66]).unwrap();
    let convert = format!("hint: make a WAV file of it: `ffmpeg -i \"{path}\" converted.wav`");
    says(
        &refused(&[&path, "--json"]),
        1,
        &["song.wma`: this is Windows Media (WMA), which is not read as sound", &convert],
    );
}

#[test]
fn batches_and_threads_change_no_vector() {
    let place = Place::new();
    let files: Vec<String> = (0..5)
        .map(|index| place.wav(&format!("{index}.wav"), &mono(tone(300.0 * f64::from(index + 1), 0.3, 8000), 8000)))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let vectors = |batch: &str| -> Vec<f32> {
        let report = report(&[&files[..], &["--embed-batch", batch]].concat());
        report["files"].as_array().unwrap().iter().flat_map(|file| vector(&file["embedding"])).collect()
    };
    let one = vectors("1");
    assert_eq!(one.len(), 5 * 24);
    // A packed matrix adds up in the same order for every number of rows; the products within windows do as well.
    assert_close("batches of 3", &vectors("3"), &one, 1e-6);
    assert_close("one batch", &vectors("8"), &one, 1e-6);
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let place = Place::new();
    let sound = place.wav("sound.wav", &mono(tone(700.0, 0.2, 8000), 8000));
    says(&refused(&[&sound]), 2, &["nothing would come of this", "--out FILE"]);
    says(&refused(&[]), 2, &["AUDIO"]);
    says(&refused(&[&sound, "--text", "  "]), 2, &["without words"]);
    says(&refused(&["--text", &"word ".repeat(400), "--json"]), 1, &["tokens", "hint: shorten the prompt"]);
    says(&refused(&[&place.path("none.wav"), "--json"]), 1, &["none.wav"]);
    says(&refused(&[&sound, "--json", "--embed-batch", "0"]), 2, &["embed-batch"]);
    fs::write(place.path("text.wav"), "no sound").unwrap();
    let out = place.path("out.safetensors");
    says(&refused(&[&sound, &place.path("text.wav"), "--out", &out]), 1, &["text.wav", "not a sound file", "ffmpeg"]);
    assert!(!Path::new(&out).exists(), "something was written");
    let musicgen = embed_with(fixture("musicgen_tiny").to_str().unwrap(), &[&sound, "--json"]);
    says(&(musicgen.status.code().unwrap(), stderr(&musicgen)), 1, &["`musicgen`", "`clap`"]);
    let unknown = embed_with("larger_clap_genral", &[&sound, "--json"]);
    says(&(unknown.status.code().unwrap(), stderr(&unknown)), 2, &["did you mean `larger_clap_general`?"]);
}

#[test]
fn a_degenerate_tower_is_refused_unless_it_is_accepted() {
    let place = Place::new();
    let model = place.path("degenerate");
    fs::create_dir(&model).unwrap();
    clap_with(Path::new(&model), "audio_projection.linear1.weight", 0.0);
    let sound = place.wav("sound.wav", &mono(tone(700.0, 0.2, 8000), 8000));
    let output = embed_with(&model, &[&sound, "--json"]);
    let said = (output.status.code().unwrap(), stderr(&output));
    says(&said, 1, &["the audio tower of this checkpoint is degenerate", "cosine of 1.0000", "--accept-degenerate"]);
    let accepted = embed_with(&model, &[&sound, "--json", "--accept-degenerate"]);
    assert!(accepted.status.success() && stderr(&accepted).contains("note: the audio tower"), "{}", stderr(&accepted));
    // The other tower is sound.
    let text = embed_with(&model, &["--text", "a dog", "--json"]);
    assert!(text.status.success(), "{}", stderr(&text));
}
