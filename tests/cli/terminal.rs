//! What reaches the terminal, and what happens when nobody reads.

use std::{fs, process::Stdio};

use super::{command, fixture, says, stderr, stdout, tonoscope};

/// A title for the window, a cleared screen, and the one-letter form of the latter.
const OBEYED: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}2J";

#[track_caller]
fn assert_plain(output: &std::process::Output) {
    for text in [stdout(output), stderr(output)] {
        assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{text:?}");
    }
}

#[test]
fn text_of_files_reaches_the_terminal_without_its_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let model = path("model");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(fixture("musicgen_tiny")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join("model").join(entry.file_name())).unwrap();
    }
    let config = folder.path().join("model/config.json");
    let mut changed: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    changed["decoder"]["activation_function"] = OBEYED.into();
    fs::write(&config, changed.to_string()).unwrap();
    let output = tonoscope(&["generate", "--device", "cpu", "--model", &model, "--prompt", "a", "--out", &path("out")]);
    assert_eq!(output.status.code(), Some(1));
    assert_plain(&output);
    assert!(stderr(&output).contains("\\u001b]0;PWNED\\u0007"), "{}", stderr(&output));
    fs::write(path("prompts.txt"), format!("{OBEYED}{}", "a ".repeat(700))).unwrap();
    let args = ["generate", "--device", "cpu", "--prompts", &path("prompts.txt"), "--out", &path("out")];
    assert_plain(&tonoscope(&args));
    assert_plain(&tonoscope(&["generate", "--no-such-option", OBEYED]));
    // Results as well, and JSON means the same as before.
    fs::write(path("own.toml"), format!("template = \"a [WHAT] {}\"\nslots = [{{ name = \"WHAT\", words = [\"x\"] }}]\nconcepts = [{{ name = \"oboe\", slot = \"WHAT\", label = \"Guitar\", relevant = [\"Guitar\"] }}]\n", "\\u001b[2J")).unwrap();
    let args = ["prompts", "template", "--prompts-per-concept", "1", "--concepts", &path("own.toml")];
    let output = tonoscope(&args);
    assert_plain(&output);
    assert!(stdout(&output).contains("\\u001b[2J"), "{} {}", stdout(&output), stderr(&output));
    let output = tonoscope(&[&args[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["concepts"][0]["prompts"][0], "a oboe \u{1b}[2J");
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_named() {
    use std::os::unix::ffi::OsStrExt;
    let foreign = std::ffi::OsStr::from_bytes(b"caf\xe9.wav");
    let run = |args: &[&std::ffi::OsStr]| command(&[]).args(args).output().unwrap();
    let [generate, prompt, classify, device, cpu] =
        ["generate", "--prompt", "classify", "--device", "cpu"].map(std::ffi::OsStr::new);
    let output = run(&[generate, prompt, foreign]);
    says(&(output.status.code().unwrap(), stderr(&output)), 2, &["invalid UTF-8", "`caf\u{fffd}.wav`"]);
    let output = run(&[classify, foreign, device, cpu]);
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["`caf\u{fffd}.wav`"]);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [
        &["points"][..],
        &["--help"],
        &["prompts", "template", "--prompts-per-concept", "100"],
        &["prompts", "template", "--json"],
        &["models", "list"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).lines().all(|line| line.starts_with("note: ")), "{args:?}: {}", stderr(&output));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["points"]).stdout(full).output().unwrap();
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["cannot write the results", "No space left"]);
}

#[test]
fn a_machine_without_a_desktop_sees_no_foreign_errors() {
    let mut command = command(&["devices"]);
    let output = command.env_remove("XDG_RUNTIME_DIR").env_remove("WAYLAND_DISPLAY").output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("XDG_RUNTIME_DIR"), "{}", stderr(&output));
}
