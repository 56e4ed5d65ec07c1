//! A run that was killed gives what it would have given.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{fixture, stderr, tonoscope};

/// Five pieces in three batches, with everything that a run can write.
const ARGS: &[&str] = &[
    "--prompt",
    "a",
    "--prompt",
    "Compose a groovy jazz piece, with a trumpet melody. Use a slow to medium tempo.",
    "--prompt",
    "a",
    "--prompt",
    "",
    "--prompt",
    "b",
    "--batch-size",
    "2",
    "--tokens",
    "--capture",
    "decoder.*.resid_post:mean_time,decoder.1.mlp_out,decoder.2.resid_mid:mean_prompts,encoder.final_norm:mean_prompts",
];

fn arguments(out: &Path, more: &[&str]) -> Vec<String> {
    let model = fixture("musicgen_tiny");
    let mut args = vec!["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--duration", "0.025"];
    args.extend(["--out", out.to_str().unwrap()]);
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

fn generate(out: &Path, more: &[&str]) -> std::process::Output {
    let args = arguments(out, more);
    tonoscope(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn succeeds(out: &Path, more: &[&str]) {
    let output = generate(out, more);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Every file below `folder` with its content; of `run.json` all but the times.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else if name == "run.json" {
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            record.as_object_mut().unwrap().remove("timings");
            all.insert(name, serde_json::to_vec(&record).unwrap());
        } else {
            all.insert(name, fs::read(path).unwrap());
        }
    }
    all
}

fn kept(folder: &Path) -> u64 {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
    record["timings"]["kept"].as_u64().unwrap()
}

fn assert_same(got: &Path, want: &BTreeMap<String, Vec<u8>>, when: &str) {
    let got = files(got);
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{when}");
    for (name, bytes) in &got {
        assert!(bytes == &want[name], "{when}: `{name}` is another");
    }
}

#[test]
fn killed_after_any_unit_the_result_is_the_same() {
    let whole = tempfile::tempdir().unwrap();
    succeeds(whole.path(), ARGS);
    let want = files(whole.path());
    let units = ["batch_0000", "batch_0001", "batch_0002"].map(|name| format!("units/{name}.unit"));
    assert!(units.iter().all(|unit| want.contains_key(unit)), "{:?}", want.keys());
    for finished in 0..=units.len() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("units")).unwrap();
        let is_there = |name: &str| match name.strip_prefix("piece_").and_then(|rest| rest[..4].parse::<usize>().ok()) {
            // The audio of a batch comes before its unit: of the one that was killed, its first piece is there.
            Some(piece) => piece <= 2 * finished,
            None => name == "units/key.json" || units[..finished].iter().any(|unit| unit == name),
        };
        for (name, bytes) in want.iter().filter(|(name, _)| is_there(name)) {
            fs::write(out.path().join(name), bytes).unwrap();
        }
        // Files that were being written.
        fs::write(out.path().join("units/.tonoscope-half"), b"x").unwrap();
        succeeds(out.path(), ARGS);
        assert_same(out.path(), &want, &format!("killed after {finished} units"));
        assert_eq!(kept(out.path()), (2 * finished as u64).min(5));
    }
}

#[test]
fn damage_is_repaired() {
    let out = tempfile::tempdir().unwrap();
    succeeds(out.path(), ARGS);
    let want = files(out.path());
    fs::remove_file(out.path().join("piece_0001.wav")).unwrap();
    fs::write(out.path().join("piece_0002.wav"), b"not what it was").unwrap();
    let unit = out.path().join("units/batch_0002.unit");
    let bytes = fs::read(&unit).unwrap();
    fs::write(&unit, &bytes[..bytes.len() / 2]).unwrap();
    succeeds(out.path(), ARGS);
    assert_same(out.path(), &want, "after damage");
    assert_eq!(kept(out.path()), 4);
}

#[test]
fn a_process_that_is_really_killed_loses_no_finished_piece() {
    let [killed, whole] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let args = ["--prompt", "a", "--prompt", "b", "--prompt", "c", "--batch-size", "1", "--tokens", "--duration", "1"];
    let args: Vec<&str> = args.to_vec();
    let run = |out: &Path| {
        // The last of two durations would be refused, so the one of `arguments` is left out.
        let mut all = arguments(out, &args);
        let at = all.iter().position(|arg| arg == "--duration").unwrap();
        all.drain(at..at + 2);
        all
    };
    let mut process = Command::new(env!("CARGO_BIN_EXE_tonoscope"))
        .args(run(killed.path()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = killed.path().join("units/batch_0000.unit");
    let started = Instant::now();
    while !first.exists() && process.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_mins(5), "no unit appeared");
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!killed.path().join("run.json").exists(), "it was killed too late for this test");
    for out in [killed.path(), whole.path()] {
        let output = tonoscope(&run(out).iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(kept(killed.path()) >= 1);
    assert_same(killed.path(), &files(whole.path()), "after a kill");
}

#[test]
fn other_settings_do_not_mix_and_overwrite_starts_anew() {
    let [out, fresh] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    succeeds(out.path(), ARGS);
    let before = files(out.path());
    let other = ["--prompt", "a", "--seed", "7"];
    let refused = generate(out.path(), &other);
    assert_eq!(refused.status.code(), Some(2));
    for part in ["is of another run", "`batch_size` is 2 there, 4 now", "hint:", "--overwrite"] {
        assert!(stderr(&refused).contains(part), "no `{part}` in: {}", stderr(&refused));
    }
    assert_same(out.path(), &before, "a refusal changes nothing");
    succeeds(out.path(), &[&other[..], &["--overwrite"]].concat());
    succeeds(fresh.path(), &other);
    assert_same(out.path(), &files(fresh.path()), "nothing of the first run is left");
}
