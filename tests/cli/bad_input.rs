//! Bad input: a clear message, the right exit status, and nothing written.

use std::{fs, path::Path};

use super::{fixture, says, stderr, tonoscope};

/// Runs `generate` with a copy of the tiny checkpoint after `damage`; returns status and message.
fn with_damaged(damage: impl Fn(&Path), more: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(fixture("musicgen_tiny").join(file), folder.path().join(file)).unwrap();
    }
    damage(folder.path());
    let out = folder.path().join("out");
    let mut args =
        vec!["generate", "--device", "cpu", "--model", folder.path().to_str().unwrap(), "--duration", "0.01"];
    args.extend(["--out", out.to_str().unwrap()]);
    args.extend(if more.is_empty() { &["--prompt", "a"] } else { more });
    let output = tonoscope(&args);
    assert!(!output.status.success(), "{args:?} succeeded");
    let written = fs::read_dir(&out).map_or(0, Iterator::count);
    assert_eq!(written, 0, "something was written");
    (output.status.code().unwrap(), stderr(&output))
}

fn with(more: &[&str]) -> (i32, String) {
    with_damaged(|_| (), more)
}

fn edit_json(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn models_that_are_not_there() {
    let run = |model: &str| {
        let output = tonoscope(&["generate", "--model", model, "--prompt", "a", "--dry-run"]);
        (output.status.code().unwrap(), stderr(&output))
    };
    says(&run("musicgen-smal"), 2, &["musicgen-smal", "did you mean `musicgen-small`"]);
    says(&run("./no/such/folder"), 2, &["no/such/folder"]);
    says(&run("musicgen-small"), 1, &["facebook/musicgen-small", "hint:"]);
}

#[test]
fn damaged_checkpoints() {
    let truncate = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1000]).unwrap();
    };
    says(&with_damaged(truncate, &[]), 1, &["model.safetensors", "corrupt or truncated"]);
    let garble = |folder: &Path| fs::write(folder.join("model.safetensors"), b"not a checkpoint at all").unwrap();
    says(&with_damaged(garble, &[]), 1, &["model.safetensors", "corrupt or truncated"]);
    let other =
        |folder: &Path| edit_json(folder, "config.json", "\"model_type\": \"musicgen\"", "\"model_type\": \"bert\"");
    says(&with_damaged(other, &[]), 1, &["bert", "musicgen"]);
    let shape = |folder: &Path| edit_json(folder, "config.json", "\"ffn_dim\": 64", "\"ffn_dim\": 60");
    says(&with_damaged(shape, &[]), 1, &["fc1.weight", "[64, 32]", "[60, 32]", "hint:"]);
    let fewer =
        |folder: &Path| edit_json(folder, "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    says(&with_damaged(fewer, &[]), 1, &["does not use", "decoder.model.decoder.layers.2."]);
    let more = |folder: &Path| edit_json(folder, "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    says(&with_damaged(more, &[]), 1, &["decoder.model.decoder.layers.3.", "missing"]);
    let json = |folder: &Path| fs::write(folder.join("config.json"), "{").unwrap();
    says(&with_damaged(json, &[]), 1, &["config.json"]);
    let tokenizer = |folder: &Path| fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    says(&with_damaged(tokenizer, &[]), 1, &["tokenizer.json"]);
    let causal =
        |folder: &Path| edit_json(folder, "config.json", "\"use_causal_conv\": false", "\"use_causal_conv\": true");
    says(&with_damaged(causal, &[]), 1, &["use_causal_conv"]);
}

#[test]
fn nan_in_the_weights_is_located() {
    let poison = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let start = header["decoder.model.decoder.layers.1.fc2.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[8 + len + start..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(path, bytes).unwrap();
    };
    says(&with_damaged(poison, &[]), 1, &["not finite", "step 1 ", "decoder.1.resid_post"]);
}

#[test]
fn prompts_and_durations() {
    let long = "guitar ".repeat(600);
    says(&with(&["--prompt", &long]), 1, &["tokens", "512"]);
    says(&with(&["--greedy"]), 2, &["no prompt", "hint:"]);
    for duration in ["0", "-1", "1e9", "NaN"] {
        let output = tonoscope(&["generate", "--prompt", "a", &format!("--duration={duration}")]);
        says(&(output.status.code().unwrap(), stderr(&output)), 2, &["duration"]);
    }
    says(&with(&["--prompt", "a", "--top-p", "7"]), 2, &["top-p"]);
    says(&with(&["--prompt", "a", "--temperature", "0"]), 2, &["temperature", "--greedy"]);
    says(&with(&["--prompts", "/no/such/file"]), 1, &["/no/such/file"]);
}

#[test]
fn prompts_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.txt");
    fs::write(&path, b"a\n\xff\xfe").unwrap();
    says(&with(&["--prompts", path.to_str().unwrap()]), 1, &["prompts.txt", "not text", "index 2"]);
}

#[test]
fn an_empty_prompt_is_no_prompt() {
    let out = tempfile::tempdir().unwrap();
    let model = fixture("musicgen_tiny");
    let args =
        ["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--duration", "0.01", "--prompt", ""];
    let output = tonoscope(&[&args[..], &["--out", out.path().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn recordings_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wav");
    fs::write(&path, b"RIFF but not really").unwrap();
    says(&with(&["--prompt", "a", "--continue-from", path.to_str().unwrap()]), 1, &["x.wav", "not a WAV file"]);
}

#[test]
fn hook_points_that_do_not_exist() {
    says(&with(&["--prompt", "a", "--capture", "decoder.3.resid_post"]), 1, &["decoder.3.resid_post", "nearest"]);
    says(&with(&["--prompt", "a", "--capture", "decoder.*.resid_pots"]), 2, &["decoder.*.resid_post"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, "x").unwrap();
    let model = fixture("musicgen_tiny");
    let inside = file.join("out");
    let args = ["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--prompt", "a", "--out"];
    let output = tonoscope(&[&args[..], &[inside.to_str().unwrap()]].concat());
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["cannot make the folder"]);
    if Path::new("/dev/full").exists() {
        let output = tonoscope(&[&args[..], &["/dev/full"]].concat());
        says(&(output.status.code().unwrap(), stderr(&output)), 1, &["/dev/full"]);
    }
}

#[test]
fn devices_that_are_not_there() {
    let model = fixture("musicgen_tiny");
    let run = |device: &str| {
        let args = ["generate", "--model", model.to_str().unwrap(), "--prompt", "a", "--device", device];
        let out = tempfile::tempdir().unwrap();
        let output = tonoscope(&[&args[..], &["--out", out.path().to_str().unwrap()]].concat());
        (output.status.code().unwrap(), stderr(&output))
    };
    says(&run("abacus"), 2, &["abacus"]);
    says(&run("cuda"), 1, &["cuda", "features"]);
}
