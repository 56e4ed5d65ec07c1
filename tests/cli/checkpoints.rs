//! Checkpoints of all kinds: hostile ones are refused with their field, wrapped and adapted ones are used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tonoscope_core::audio::{WavFormat, Waveform};

use super::{fixture, says, stderr, tonoscope};

/// A copy of a fixture's folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of a fixture with the field at `pointer` of `file` set to `value`.
fn edited(name: &str, file: &str, pointer: &str, value: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(name), folder.path());
    let path = folder.path().join(file);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[field] = serde_json::from_str(value).unwrap();
    fs::write(path, json.to_string()).unwrap();
    folder
}

fn run(args: &[&str]) -> (i32, String) {
    let output = tonoscope(args);
    (output.status.code().unwrap_or(-1), stderr(&output))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn numbers_that_nobody_could_compute_with_are_refused_with_their_field() {
    let out = tempfile::tempdir().unwrap();
    let out = text(out.path());
    for (pointer, value, field) in [
        ("/audio_encoder/upsampling_ratios", "[8,5,4,0]", "`audio_encoder.upsampling_ratios[3]`: found 0, expected"),
        (
            "/audio_encoder/codebook_size",
            "18446744073709551615",
            "`audio_encoder.codebook_size`: found 18446744073709551615",
        ),
        (
            "/text_encoder/pad_token_id",
            "4000",
            "`text_encoder`: `pad_token_id` is 4000, expected less than `vocab_size`",
        ),
        ("/text_encoder/num_layers", "18446744073709551615", "`text_encoder.num_layers`: found"),
        ("/decoder/num_codebooks", "0", "`decoder.num_codebooks`: found 0, expected a whole number from 1 to 1024"),
        ("/decoder/num_hidden_layers", "1000000000", "`decoder.num_hidden_layers`: found 1000000000"),
        ("/decoder/num_codebooks", "8", "`num_codebooks` is 8 for 1 channels, the codec has 4"),
        (
            "/text_encoder/layer_norm_epsilon",
            "0",
            "`text_encoder.layer_norm_epsilon`: found 0, expected a number above 0",
        ),
    ] {
        let model = edited("musicgen_tiny", "config.json", pointer, value);
        let args =
            ["generate", "--device", "cpu", "--model", text(model.path()), "--prompt", "a", "--duration", "0.01"];
        says(&run(&[&args[..], &["--overwrite", "--out", out]].concat()), 1, &["config.json", field]);
    }
    for (file, pointer, value, field) in [
        ("transformer/config.json", "/sample_size", "1099511627776", "`sample_size`: found 1099511627776, expected"),
        ("transformer/config.json", "/num_layers", "1000000000", "`num_layers`: found 1000000000, expected"),
        ("text_encoder/config.json", "/pad_token_id", "40000", "`pad_token_id` is 40000"),
        ("vae/config.json", "/downsampling_ratios", "[2,0]", "`downsampling_ratios[1]`: found 0"),
    ] {
        let model = edited("stable_audio_tiny", file, pointer, value);
        let args = ["diffuse", "--device", "cpu", "--model", text(model.path()), "--prompt", "a", "--samples", "1"];
        says(&run(&[&args[..], &["--steps", "2", "--overwrite", "--out", out]].concat()), 1, &[field]);
    }
}

#[test]
fn a_classifier_configuration_that_contradicts_the_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("passt_tiny/passt_tiny.safetensors"), folder.path().join("p.safetensors")).unwrap();
    let sound = folder.path().join("x.wav");
    let wave = Waveform::new(vec![(0..48_000).map(|at| (at as f32 * 0.07).sin()).collect()], 32_000).unwrap();
    fs::write(&sound, wave.to_wav_bytes(WavFormat::Float32).unwrap()).unwrap();
    let base = r#"{"model_type":"passt","img_size":[36,98],"num_heads":4,"max_model_window":1000"#;
    for (more, said) in [
        (r#""mel":{"n_mels":36},"stride":0"#, "`stride`: found 0, expected a whole number from 1 to 4096"),
        (r#""mel":{"n_mels":36},"scene_hop":0"#, "`scene_hop`: found 0"),
        (r#""mel":{"n_mels":36,"hopsize":0}"#, "`mel.hopsize`: found 0"),
        (r#""mel":{"n_mels":36,"n_fft":100}"#, "`win_length` is 800, expected 2 to `n_fft`, which is 100"),
        (r#""mel":{"n_mels":36},"num_classes":1000000"#, "`num_classes` is 1000000, the weights tell 19 classes apart"),
    ] {
        fs::write(folder.path().join("config.json"), format!("{base},{more}}}")).unwrap();
        let args = ["classify", text(&sound), "--model", text(folder.path()), "--device", "cpu"];
        says(&run(&args), 1, &["config.json", said]);
    }
}

#[test]
fn a_tokenizer_cut_anywhere_is_refused() {
    let whole = fs::read(fixture("musicgen_tiny/tokenizer.json")).unwrap();
    let model = tempfile::tempdir().unwrap();
    copy(&fixture("musicgen_tiny"), model.path());
    for part in 1..8 {
        fs::write(model.path().join("tokenizer.json"), &whole[..whole.len() * part / 8]).unwrap();
        let result = run(&["generate", "--device", "cpu", "--model", text(model.path()), "--prompt", "a", "--dry-run"]);
        says(&result, 1, &["`tokenizer.json` does not parse"]);
    }
}

#[test]
fn an_adapter_is_merged_whether_it_is_named_as_such_or_as_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    copy(&fixture("checkpoints_tiny/adapter"), &adapter);
    let config = adapter.join("adapter_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["base_model_name_or_path"] = text(&fixture("musicgen_tiny")).into();
    fs::write(&config, json.to_string()).unwrap();
    let made = |name: &str, more: &[&str]| -> (Vec<u8>, Value) {
        let out = folder.path().join(name);
        let args = [
            "generate",
            "--device",
            "cpu",
            "--prompt",
            "a happy rock piece",
            "--duration",
            "0.02",
            "--greedy",
            "--tokens",
        ];
        let result = run(&[&args[..], more, &["--out", text(&out)]].concat());
        assert_eq!(result.0, 0, "{}", result.1);
        let run = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
        (fs::read(out.join("piece_0000.wav")).unwrap(), run)
    };
    let base = fixture("musicgen_tiny");
    let (plain, _) = made("plain", &["--model", text(&base)]);
    let (adapted, run) = made("adapted", &["--model", text(&base), "--adapter", text(&adapter)]);
    let (named, _) = made("named", &["--model", text(&adapter)]);
    assert_ne!(plain, adapted);
    assert_eq!(adapted, named);
    assert!(run.to_string().contains("adapter_model.safetensors"), "its checksum stands in run.json: {run}");
}

#[test]
fn what_is_missing_is_told_of_the_kind_that_was_asked_for() {
    let empty = tempfile::tempdir().unwrap();
    let (status, clap) = run(&["embed", "--json", "--text", "a", "--model", text(empty.path()), "--device", "cpu"]);
    assert_eq!(status, 1, "{clap}");
    assert!(clap.contains("a CLAP is `config.json`") && !clap.contains("state_dict"), "{clap}");
    let musicgen = ["generate", "--prompt", "a", "--model", text(empty.path()), "--device", "cpu", "--dry-run"];
    says(&run(&musicgen), 1, &["a MusicGen is `config.json`", "`state_dict.bin`"]);
}

#[test]
fn a_codec_that_is_only_named_is_named_in_the_error() {
    let model = tempfile::tempdir().unwrap();
    copy(&fixture("t5_tiny"), &model.path().join("t5-base"));
    let files: [(PathBuf, &str); 2] = [
        (fixture("musicgen_tiny_audiocraft/state_dict.bin"), "state_dict.bin"),
        (fixture("checkpoints_tiny/pretrained.bin"), "compression_state_dict.bin"),
    ];
    for (from, name) in &files {
        fs::copy(from, model.path().join(name)).unwrap();
    }
    let args = ["generate", "--device", "cpu", "--model", text(model.path()), "--prompt", "a", "--duration", "0.01"];
    let said = ["`facebook/encodec_32khz`", "encodec_32khz`:", "hint:"];
    says(&run(&[&args[..], &["--out", text(&model.path().join("out"))]].concat()), 1, &said);
    // Without its file, the language model's own configuration names it.
    fs::remove_file(model.path().join("compression_state_dict.bin")).unwrap();
    says(&run(&[&args[..], &["--out", text(&model.path().join("out"))]].concat()), 1, &said);
}
