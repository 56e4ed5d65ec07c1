//! `tonoscope prompts template`

use std::fs;

use serde_json::Value;

use super::{says, stderr, stdout, tonoscope};

fn template(args: &[&str]) -> String {
    let output = tonoscope(&[&["prompts", "template"][..], args].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn refused(args: &[&str]) -> (i32, String) {
    let output = tonoscope(&[&["prompts", "template"][..], args].concat());
    assert_eq!(stdout(&output), "");
    (output.status.code().unwrap(), stderr(&output))
}

#[test]
fn prompts_are_in_the_published_order() {
    let one = template(&["--concepts", "guitar"]);
    let lines: Vec<&str> = one.lines().collect();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0], "Compose a emotional rock piece, with a guitar melody. Use a fast tempo.");
    assert_eq!(lines[99], "Compose a happy jazz piece, with a guitar melody. Use a medium to fast tempo.");
    let all = template(&["--prompts-per-concept", "2"]);
    assert_eq!(all.lines().count(), 20);
    assert_eq!(all, template(&["--prompts-per-concept", "2", "--concepts", "all"]));
    let first = "guitar\tCompose a emotional rock piece, with a guitar melody. Use a fast tempo.";
    assert_eq!(all.lines().next(), Some(first));
    let two = template(&["--concepts", "violin,jazz", "--prompts-per-concept", "1"]);
    let names: Vec<&str> = two.lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect();
    assert_eq!(names, ["violin", "jazz"]);
    let json: Value = serde_json::from_str(&template(&["--concept", "piano", "--json"])).unwrap();
    assert_eq!(json["concepts"][0]["prompts"].as_array().unwrap().len(), 100);
    assert_eq!((&json["concepts"][0]["label"], &json["concepts"][0]["index"]), (&"Piano".into(), &153.into()));
}

#[test]
fn templates_and_concepts_of_ones_own() {
    let own = ["--concepts", "piano", "--prompts-per-concept", "1", "--template"];
    let words = template(&[&own[..], &["[TEMPO], [MOOD]: [INSTRUMENTS] ([GENRE])"]].concat());
    assert_eq!(words, "fast, emotional: piano (rock)\n");
    says(&refused(&[&own[..], &["only [GENRE]"]].concat()), 1, &["template", "no slot `[INSTRUMENTS]`"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    let path = path.to_str().unwrap();
    let text = r#"
        template = "A [MOOD] [WHAT]."
        slots = [{ name = "MOOD", words = ["sad", "glad"] }, { name = "WHAT", words = ["song"] }]
        concepts = [
            { name = "oboe", slot = "WHAT", label = "Guitar", index = 141, relevant = ["Guitar"] },
            { name = "flute", slot = "WHAT", word = "flute solo", label = "Flute", relevant = ["Flute"] },
        ]"#;
    fs::write(path, text).unwrap();
    assert_eq!(
        template(&["--concepts", path, "--prompts-per-concept", "2"]),
        "oboe\tA sad oboe.\noboe\tA glad oboe.\nflute\tA sad flute solo.\nflute\tA glad flute solo.\n"
    );
    let one = template(&["--concepts", path, "--concepts", "flute", "--prompts-per-concept", "1"]);
    assert_eq!(one, "A sad flute solo.\n");
    says(
        &refused(&["--concepts", path]),
        2,
        &["oboe", "makes 2 prompts, 100 were asked for", "--prompts-per-concept 2"],
    );
    let disagreement = template(&["--concepts", path, "--disagreements"]);
    assert_eq!(disagreement, "oboe: published index 141 is `Electric guitar`, `Guitar` is 140\n");
    let json: Value = serde_json::from_str(&template(&["--concepts", path, "--disagreements", "--json"])).unwrap();
    assert_eq!((&json[0]["published"]["index"], &json[0]["by_label"]["index"]), (&141.into(), &140.into()));
    fs::write(path, text.replacen("Flute", "Flutes", 1)).unwrap();
    says(&refused(&["--concepts", path, "--disagreements"]), 1, &["flute", "`Flutes`", "nearest is `Flute`"]);
    fs::write(path, "template = 3").unwrap();
    says(&refused(&["--concepts", path]), 1, &["own.toml"]);
}

#[test]
fn the_published_indices_are_those_of_their_labels() {
    assert_eq!(template(&["--disagreements"]), "every published index is that of its label\n");
}

#[test]
fn concepts_that_do_not_exist() {
    says(&refused(&["--concepts", "guitr"]), 2, &["no concept is called `guitr`", "`guitar`"]);
    says(&refused(&["--concepts", "no/such.toml"]), 1, &["no/such.toml"]);
    says(&refused(&["--concepts", "guitar,guitar"]), 2, &["twice"]);
    says(&refused(&["--concepts", "guitar", "--prompts-per-concept", "0"]), 2, &["0 prompts"]);
    says(&refused(&["--concepts", "guitar", "--prompts-per-concept", "126"]), 2, &["makes 125 prompts"]);
}
