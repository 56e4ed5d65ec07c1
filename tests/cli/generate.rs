//! `tonoscope generate` on a tiny checkpoint: what it writes, and that it can be repeated.

use std::{fs, path::Path};

use serde_json::Value;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::{SafetensorsFile, Source},
    hooks::{Axis, Change, Edit, EditFile, Scope, Value as EditValue},
};
use tonoscope_tests::{Fixture, relative_error};

use super::{fixture, stderr, stdout, tonoscope};

/// The fixture runs at 800 frames per second, so 20 frames take this long.
const TWENTY_FRAMES: &str = "0.025";

fn generate(model: &str, out: &Path, more: &[&str]) -> Value {
    let model = fixture(model);
    let mut args = vec!["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--json"];
    args.extend(["--out", out.to_str().unwrap(), "--duration", TWENTY_FRAMES]);
    args.extend(more);
    let output = tonoscope(&args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

fn tokens(out: &Path) -> Vec<i64> {
    let file = SafetensorsFile::open(&out.join("tokens.safetensors")).unwrap();
    let raw = file.read("codes").unwrap();
    raw.bytes.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn greedy_tokens_and_audio_are_those_of_transformers() {
    for name in ["musicgen_tiny", "musicgen_tiny_stereo"] {
        let expected = Fixture::open(name);
        let prompts: Vec<String> = serde_json::from_str(&expected.metadata("prompts")).unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut args = vec!["--greedy", "--tokens", "--float"];
        for prompt in &prompts {
            args.extend(["--prompt", prompt]);
        }
        let record = generate(name, out.path(), &args);
        assert_eq!(tokens(out.path()), expected.ints("greedy.codes").0, "{name}");
        let (audio, shape) = expected.floats("greedy.audio");
        for (piece, want) in audio.chunks(shape[1] * shape[2]).enumerate() {
            let file = record["pieces"][piece]["audio"].as_str().unwrap();
            let wave = Waveform::from_wav(fs::File::open(out.path().join(file)).unwrap()).unwrap();
            assert_eq!((wave.channels().len(), wave.sample_rate()), (shape[1], 32000));
            let error = relative_error(&wave.channels().concat(), want);
            assert!(error < 1e-4, "{name}, piece {piece}: {error:.1e}");
        }
    }
}

#[test]
fn sixteen_bit_files_are_the_samples_rounded() {
    let [float, int] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let prompt = ["--prompt", "Compose a happy rock piece.", "--seed", "3"];
    generate("musicgen_tiny", float.path(), &[&prompt[..], &["--float"]].concat());
    generate("musicgen_tiny", int.path(), &prompt);
    let read = |folder: &Path| Waveform::from_wav(fs::File::open(folder.join("piece_0000.wav")).unwrap()).unwrap();
    let [float, int] = [read(float.path()), read(int.path())];
    for (float, int) in float.channels()[0].iter().zip(&int.channels()[0]) {
        assert!((float.clamp(-1.0, 1.0) - int).abs() <= 1.0 / 32767.0, "{float} became {int}");
    }
}

#[test]
fn a_run_can_be_repeated_and_its_record_is_complete() {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let args = ["--prompt", "a", "--prompt", "b", "--prompt", "a", "--seed", "42", "--tokens"];
    let record = generate("musicgen_tiny", first.path(), &args);
    generate("musicgen_tiny", second.path(), &[&args[..], &["--batch-size", "1"]].concat());
    assert_eq!(tokens(first.path()), tokens(second.path()));
    for file in ["piece_0000.wav", "piece_0001.wav", "piece_0002.wav"] {
        assert_eq!(fs::read(first.path().join(file)).unwrap(), fs::read(second.path().join(file)).unwrap(), "{file}");
    }
    assert_eq!(record["pieces"][2]["sample"], 1, "the second piece of a prompt is another sample");
    let per_piece = 4 * 20;
    assert_ne!(tokens(first.path())[..per_piece], tokens(first.path())[2 * per_piece..], "and sounds otherwise");
    assert_eq!(record["settings"]["sampling"]["seed"], 42);
    assert_eq!(record["settings"]["sampling"]["top_k"], 250);
    assert_eq!(record["settings"]["guidance"], 3.0);
    let checksum = record["checksums"][0][1].as_str().unwrap();
    assert_eq!((record["checksums"][0][0].as_str().unwrap(), checksum.len()), ("model.safetensors", 64));
    for key in ["version", "model", "device", "timings"] {
        assert!(!record[key].is_null(), "{key}");
    }
    let on_disk: Value = serde_json::from_slice(&fs::read(first.path().join("run.json")).unwrap()).unwrap();
    assert_eq!(on_disk, record);
}

#[test]
fn captures_say_what_their_axes_are() {
    let out = tempfile::tempdir().unwrap();
    let points = "decoder.*.resid_post:mean_time,decoder.1.self_attn.z,encoder.final_norm";
    generate("musicgen_tiny", out.path(), &["--prompt", "a", "--prompt", "b", "--capture", points]);
    let file = SafetensorsFile::open(&out.path().join("capture.safetensors")).unwrap();
    assert_eq!(file.shape("decoder.2.resid_post:mean_time").unwrap(), [2, 2, 32]);
    // 20 frames and three more columns for the delay.
    assert_eq!(file.shape("decoder.1.self_attn.z").unwrap(), [2, 2, 23, 4, 8]);
    let axes: Value = serde_json::from_str(&file.metadata()["axes"]).unwrap();
    assert_eq!(axes["decoder.1.self_attn.z"], serde_json::json!(["branch", "prompt", "step", "head", "feature"]));
    assert_eq!(axes["decoder.2.resid_post:mean_time"], serde_json::json!(["branch", "prompt", "feature"]));
    assert_eq!(axes["encoder.final_norm"], serde_json::json!(["branch", "prompt", "position", "feature"]));
}

#[test]
fn captures_say_where_they_come_from() {
    let out = tempfile::tempdir().unwrap();
    let points = "encoder.0.self_attn.pattern,decoder.0.cross_attn.k,decoder.0.self_attn.pattern";
    let prompts = ["--prompt", "Compose a happy rock piece.", "--prompt", "a", "--seed", "7"];
    let record = generate("musicgen_tiny", out.path(), &[&prompts[..], &["--capture", points]].concat());
    let file = SafetensorsFile::open(&out.path().join("capture.safetensors")).unwrap();
    let metadata = file.metadata();
    let json = |key: &str| serde_json::from_str::<Value>(&metadata[key]).unwrap();
    assert_eq!(metadata["model"], record["model"].as_str().unwrap());
    assert_eq!((metadata["seed"].as_str(), metadata["padding"].as_str()), ("7", "right"));
    let tokens = json("tokens");
    for (index, piece) in record["pieces"].as_array().unwrap().iter().enumerate() {
        let own = tokens[index].as_array().unwrap();
        assert_eq!(own.len() as u64, piece["tokens"].as_u64().unwrap());
        assert_eq!(own.last().unwrap(), "</s>");
    }
    let axes = json("axes");
    assert_eq!(axes["encoder.0.self_attn.pattern"], serde_json::json!(["branch", "prompt", "query", "head", "key"]));
    assert_eq!(axes["decoder.0.self_attn.pattern"], serde_json::json!(["branch", "prompt", "query", "head", "key"]));
    assert_eq!(axes["decoder.0.cross_attn.k"], serde_json::json!(["branch", "prompt", "position", "head", "feature"]));
}

#[test]
fn edits_of_a_file_are_applied_and_recorded() {
    let out = tempfile::tempdir().unwrap();
    let edit = |scale| EditFile {
        edits: vec![Edit {
            points: "decoder.2.mlp_out".parse().unwrap(),
            scope: Scope::default(),
            change: Change::Add { value: EditValue { tensor: "up".into(), axes: vec![Axis::Feature] }, scale },
        }],
        tensors: [("up".to_owned(), ((0..32).map(|i| (i as f32).cos()).collect(), [1, 1, 1, 1, 32]))].into(),
    };
    let run = |scale: Option<f64>| {
        let folder = out.path().join(format!("{scale:?}"));
        let path = out.path().join("edit.safetensors");
        let mut args = vec!["--prompt", "a", "--greedy", "--tokens"];
        if let Some(scale) = scale {
            fs::write(&path, edit(scale).to_bytes().unwrap()).unwrap();
            args.extend(["--edit", path.to_str().unwrap()]);
        }
        let record = generate("musicgen_tiny", &folder, &args);
        (tokens(&folder), record)
    };
    let clean = run(None).0;
    assert_eq!(run(Some(0.0)).0, clean, "a scale of 0 is no edit");
    let (edited, record) = run(Some(5.0));
    assert_ne!(edited, clean);
    assert_eq!(record["hooks"]["edits"][0]["points"], "decoder.2.mlp_out");
}

#[test]
fn a_dry_run_writes_nothing() {
    let out = tempfile::tempdir().unwrap();
    let model = fixture("musicgen_tiny");
    let folder = out.path().join("results");
    let args = ["generate", "--model", model.to_str().unwrap(), "--prompt", "a", "--out", folder.to_str().unwrap()];
    let output = tonoscope(&[&args[..], &["--dry-run"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("would generate 1 pieces"), "{}", stdout(&output));
    assert!(!folder.exists());
}

#[test]
fn a_recording_at_another_rate_is_continued() {
    let out = tempfile::tempdir().unwrap();
    let wav = out.path().join("start.wav");
    let samples = (0..220).map(|i| (i as f32 * 0.1).sin() * 0.5).collect();
    let wave = Waveform::new(vec![samples], 44_100).unwrap();
    fs::write(&wav, wave.to_wav_bytes(tonoscope_core::audio::WavFormat::Pcm16).unwrap()).unwrap();
    let args = ["--prompt", "a", "--continue-from", wav.to_str().unwrap(), "--tokens"];
    generate("musicgen_tiny", out.path(), &args);
    assert_eq!(tokens(out.path()).len(), 4 * 20);
}
