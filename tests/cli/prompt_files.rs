//! Prompt files: all commands read the same prompts from the same file.

use std::{fs, path::Path};

use serde_json::Value;

use super::{fixture, lens::Place, rows, says, stderr, stdout, tonoscope};

const PROMPTS: [&str; 2] = ["A happy rock piece with a guitar.", "An \u{e9}tude for piano, 4.5 minutes long."];

/// The prompts in every form in which files have them.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let [one, two] = PROMPTS;
    let text = format!("{one}\n{two}\n");
    let wide = |unit: fn(u16) -> [u8; 2]| format!("\u{feff}{text}").encode_utf16().flat_map(unit).collect();
    vec![
        ("plain", text.clone().into()),
        ("BOM, CRLF and blank lines", format!("\u{feff}{one}\r\n\r\n  {two}\r\n").into()),
        ("UTF-16, little-endian", wide(u16::to_le_bytes)),
        ("UTF-16, big-endian", wide(u16::to_be_bytes)),
        ("numbers with full stops", format!("1. {one}\n2. {two}").into()),
        ("numbers with brackets", format!("1) {one}\n2) {two}").into()),
        ("a template's concepts", format!("guitar\t{one}\npiano\t{two}\n").into()),
    ]
}

fn json(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

/// What `field` says in each of a list of objects.
fn texts(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_command_reads_the_same_prompts() {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = path("prompts.txt");
    let models = ["musicgen_tiny", "clap_tiny"].map(|name| fixture(name).to_str().unwrap().to_owned());
    for (name, bytes) in forms() {
        fs::write(&file, bytes).unwrap();
        let args =
            ["generate", "--device", "cpu", "--model", &models[0], "--duration", "0.01", "--json", "--overwrite"];
        let report = json(&tonoscope(&[&args[..], &["--prompts", &file, "--out", &path("generated")]].concat()));
        assert_eq!(texts(&report["pieces"], "prompt"), PROMPTS, "generate: {name}");
        let concepts: Vec<_> = report["pieces"].as_array().unwrap().iter().map(|piece| &piece["concept"]).collect();
        let of_template = name == "a template's concepts";
        assert_eq!(
            concepts,
            if of_template { ["guitar", "piano"].map(Value::from) } else { [Value::Null, Value::Null] }
                .iter()
                .collect::<Vec<_>>()
        );
        let annotations = path("annotations.json");
        let args = ["prompts", "annotate", &file, "--offline", "--out", &annotations];
        assert!(tonoscope(&args).status.success());
        let annotated = serde_json::from_slice(&fs::read(&annotations).unwrap()).unwrap();
        assert_eq!(texts(&annotated, "prompt"), PROMPTS, "annotate: {name}");
        let args = ["embed", "--device", "cpu", "--model", &models[1], "--texts", &file, "--json"];
        assert_eq!(texts(&json(&tonoscope(&args))["texts"], "text"), PROMPTS, "embed: {name}");
        let args = ["--prompts", &file, "--audio", "0", "--layers", "3", "--no-judge", "--overwrite"];
        place.done("lens", "lens", &args);
        let plan: Value = serde_json::from_slice(&fs::read(place.path("lens/units/key.json")).unwrap()).unwrap();
        assert_eq!(texts(&plan["prompts"], "text"), PROMPTS, "lens: {name}");
        let from = format!("{file}=Guitar");
        let args = ["--from", &from, "--to", "piano", "--prompts-per-concept", "2", "--dry-run"];
        let said = place.done("intervene", "pairs", &args);
        assert!(said.contains('2'), "{said}");
    }
}

#[test]
fn diffusion_reads_the_same_prompts() {
    let place = Place::diffusion();
    let file = place.path("prompts.txt");
    for (name, bytes) in forms() {
        fs::write(&file, bytes).unwrap();
        let args = ["--steps", "2", "--samples", "1", "--snapshots", "1", "--prompts", &file, "--overwrite"];
        place.done("diffuse", "out", &args);
        let table = rows(Path::new(&place.path("out")).join("audio_info.csv"));
        assert_eq!(table.iter().map(|row| row["prompt"].as_str()).collect::<Vec<_>>(), PROMPTS, "diffuse: {name}");
    }
}

#[test]
fn a_file_that_is_no_text_is_refused_with_its_line() {
    let place = Place::diffusion();
    let file = place.path("prompts.txt");
    let args = ["--prompts", file.as_str()];
    for (bytes, part) in [
        (&b"a\nb\nc\xff"[..], "line 3 is not text: its byte at index 5 is not UTF-8"),
        (b"a\0\n\0", "line 1 is not text: it holds a NUL"),
        (b"guitar\ta piece\na piece", "line 1 has a tab and line 2 has none"),
    ] {
        fs::write(&file, bytes).unwrap();
        says(&place.fails("diffuse", &args), 1, &["prompts.txt", part]);
    }
}

#[test]
fn words_that_the_model_cannot_read_are_told_and_refused_with_strict() {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::diffusion());
    let out = folder.path().join("out");
    let args = ["generate", "--device", "cpu", "--duration", "0.1", "--json", "--prompt", "a calm \u{7434} piece"];
    let args = [&args[..], &["--prompt", "a calm piece", "--out", out.to_str().unwrap()]].concat();
    let output = tonoscope(&args);
    let told = stderr(&output);
    assert!(told.contains("prompt 0, `a calm \u{7434} piece`: 1 of "), "{told}");
    assert!(told.contains("cannot read all words of 1 prompts"), "{told}");
    let pieces = &json(&output)["pieces"];
    assert_eq!((&pieces[0]["unknown_tokens"], &pieces[1]["unknown_tokens"]), (&1.into(), &Value::Null));
    let refused = |args: &[&str]| {
        let output = tonoscope(&[args, &["--strict"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("tokens are unknown") && stderr(&output).contains("hint:"),
            "{}",
            stderr(&output)
        );
    };
    refused(&args);
    refused(&["embed", "--device", "cpu", "--text", "\u{592a}\u{9f13}", "--json"]);
    refused(&["lens", "--device", "cpu", "--prompt", "\u{592a}\u{9f13}", "--no-judge", "--dry-run"]);
    let file = place.path("own.txt");
    fs::write(&file, "\u{592a}\u{9f13}").unwrap();
    let from = format!("{file}=Guitar");
    refused(&[
        "intervene",
        "--device",
        "cpu",
        "--from",
        &from,
        "--to",
        "piano",
        "--prompts-per-concept",
        "1",
        "--dry-run",
    ]);
    refused(&["diffuse", "--device", "cpu", "--prompt", "\u{592a}\u{9f13}", "--dry-run"]);
}
