//! Models inside the program: they need no folder, neither to read nor to write.

use std::fs;

use super::{command, fixture, stderr, stdout};

/// Runs where neither a home nor a cache can exist.
fn without_a_home(args: &[&str]) -> std::process::Output {
    let mut command = command(args);
    command.env("HOME", "/dev/null").env("HF_HOME", "/dev/null/hf").env("XDG_CACHE_HOME", "/dev/null/cache");
    command.output().unwrap()
}

#[test]
fn built_in_models_need_no_folder_that_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (music, diffused) = (path("music"), path("diffused"));
    let sound = format!("{music}/piece_0000.wav");
    let runs: [&[&str]; 6] = [
        &["generate", "--device", "cpu", "--prompt", "a", "--duration", "0.2", "--out", &music],
        &["classify", &sound, "--device", "cpu"],
        &["embed", &sound, "--text", "a piano", "--device", "cpu"],
        &[
            "diffuse",
            "--device",
            "cpu",
            "--prompt",
            "a",
            "--samples",
            "1",
            "--steps",
            "2",
            "--snapshots",
            "1",
            "--latent-length",
            "8",
            "--seconds-total",
            "0.3",
            "--out",
            &diffused,
        ],
        &["models", "verify", "musicgen-nano"],
        &["points", "--model", "stable-audio-nano"],
    ];
    for args in runs {
        let output = without_a_home(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    }
    let run = fs::read_to_string(format!("{music}/run.json")).unwrap();
    assert!(run.contains("\"model.safetensors\""), "{run}");
}

#[test]
fn built_in_models_write_nothing_into_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let args = ["generate", "--device", "cpu", "--prompt", "a", "--duration", "0.1", "--out", out.to_str().unwrap()];
    let cache = folder.path().join("hf");
    let mut command = command(&args);
    let output = command.env("HF_HOME", &cache).output().unwrap();
    assert!(output.status.success() && !cache.exists(), "{}", stderr(&output));
    // A folder of the user's is read from disk as ever.
    let model = fixture("musicgen_tiny");
    let output = without_a_home(&["models", "verify", model.to_str().unwrap()]);
    assert!(output.status.success() && stdout(&output).contains("well-formed"), "{}", stderr(&output));
}
