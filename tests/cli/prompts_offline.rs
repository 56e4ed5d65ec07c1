//! Prompts and annotations without a language model, and how good they are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use super::{command, stderr, stdout};

/// Runs `tonoscope prompts` in `folder` with neither key nor server in its environment.
fn prompts(folder: &tempfile::TempDir, args: &[&str]) -> Output {
    let mut command = command(&[&["prompts"][..], args].concat());
    command.current_dir(folder.path()).env_remove("OPENAI_API_KEY").env_remove("OPENAI_BASE_URL").output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

/// The published annotations, if the folder of shared data is there.
fn published() -> Option<PathBuf> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = folders.map(|folder| folder.join("shared/data/annotations.json")).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: there is no shared/data/annotations.json");
    }
    found
}

#[test]
fn without_a_key_prompts_and_annotations_are_made_offline() {
    let folder = tempfile::tempdir().unwrap();
    let output = prompts(&folder, &["generate", "--out", "prompts.txt"]);
    assert_eq!(done(&output), "prompts.txt: 1000 prompts\n");
    assert!(stderr(&output).contains("no `OPENAI_API_KEY`"));
    let text = fs::read_to_string(folder.path().join("prompts.txt")).unwrap();
    let texts: BTreeSet<&str> = text.lines().map(|line| line.split_once(". ").unwrap().1).collect();
    assert_eq!((text.lines().count(), texts.len()), (1000, 1000));
    assert_eq!(text.lines().filter(|line| line.starts_with("1. ")).count(), 4);
    // Asked for by name there is nothing to note, and another seed makes others.
    let output = prompts(&folder, &["generate", "--out", "other.txt", "--offline", "--seed", "9", "--json"]);
    assert_eq!(
        (serde_json::from_str::<Value>(&done(&output)).unwrap()["how"]["seed"].as_u64(), stderr(&output)),
        (Some(9), String::new())
    );
    assert_ne!(fs::read_to_string(folder.path().join("other.txt")).unwrap(), text);

    done(&prompts(&folder, &["annotate", "prompts.txt", "--out", "annotations.json"]));
    let annotations: Vec<Value> =
        serde_json::from_slice(&fs::read(folder.path().join("annotations.json")).unwrap()).unwrap();
    assert_eq!(annotations.len(), 1000);
    for (annotation, line) in annotations.iter().zip(text.lines()) {
        assert!(line.ends_with(annotation["prompt"].as_str().unwrap()), "{line}");
    }
    let mean = annotations.iter().map(|one| one["aspects"].as_array().unwrap().len()).sum::<usize>() as f64 / 1000.0;
    assert!((3.0..9.0).contains(&mean), "{mean} aspects per prompt");
    let chosen =
        prompts(&folder, &["annotate", "prompts.txt", "--out", "few.json", "--offline", "--aspects", "organ,flute"]);
    done(&chosen);
    let few = fs::read_to_string(folder.path().join("few.json")).unwrap();
    assert!(few.contains("\"organ\"") && !few.contains("\"guitar\""));
}

#[test]
fn what_cannot_be_done_offline_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prompts.txt"), "1. A song.\n").unwrap();
    fs::write(folder.path().join("own.json"), "{}").unwrap();
    let fails = |args: &[&str], status: i32, parts: &[&str]| {
        let output = prompts(&folder, args);
        super::says(&(output.status.code().unwrap(), stderr(&output)), status, parts);
    };
    let annotate = ["annotate", "prompts.txt", "--out", "a.json"];
    let with = |args: &[&'static str]| [&annotate[..], args].concat();
    fails(&with(&["--aspects", "theremin"]), 2, &["knows the aspect `theremin`", "train-annotator"]);
    fails(&with(&["--aspects", "organ,Organ"]), 2, &["`Organ` is no aspect of its own"]);
    fails(&with(&["--annotator", "own.json"]), 1, &["`own.json` is no annotator"]);
    fails(&with(&["--batch", "0"]), 2, &["--batch"]);
    fails(&with(&["--offline", "--max-requests", "3"]), 2, &["--max-requests"]);
    fails(&["annotate", "nowhere.txt", "--out", "a.json"], 1, &["cannot read `nowhere.txt`"]);
    fails(&["generate", "--out", "p.txt", "--count", "0"], 2, &["--count"]);
    fails(&["generate", "--out", "p.txt", "--examples", "prompts.txt"], 2, &["--examples"]);
    fails(&["train-annotator", "prompts.txt"], 1, &["annotations cannot be read"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn held_out_prompts_are_annotated_as_well_as_a_language_model_agrees_with_itself() {
    let Some(annotations) = published() else { return };
    let folder = tempfile::tempdir().unwrap();
    let args = ["train-annotator", annotations.to_str().unwrap(), "--out", "own.json", "--json"];
    let measured: Value = serde_json::from_str(&done(&prompts(&folder, &args))).unwrap();
    let held_out = &measured["held_out"];
    assert_eq!(held_out["prompts"], 1000);
    let folds: Vec<f64> = held_out["folds"].as_array().unwrap().iter().map(|f1| f1.as_f64().unwrap()).collect();
    // Each fold learns from 800 prompts and is measured on the other 200.
    assert!(folds.len() == 5 && folds.iter().all(|f1| *f1 >= 0.82), "{folds:?}");
    let micro = |of: &str| held_out[of]["micro_f1"].as_f64().unwrap();
    assert!(micro("learnt") >= 0.84 && micro("rules") >= 0.78 && micro("learnt") > micro("rules") + 0.02, "{held_out}");
    assert!(held_out["learnt"]["same_bpm"].as_u64().unwrap() >= 995);
    // The weights that are built in are those that all prompts give, and a user's own do the same work.
    let own = fs::read_to_string(folder.path().join("own.json")).unwrap();
    let built_in = include_str!("../../data/annotator.json");
    assert!(own.len() < 100_000, "{} bytes", own.len());
    assert_eq!(own.lines().count(), built_in.lines().count());
    fs::write(folder.path().join("prompts.txt"), "A warm duet of flute and harp at 70 BPM.\nHard techno, 140 BPM.\n")
        .unwrap();
    let annotate = |out: &str, more: &[&str]| {
        done(&prompts(&folder, &[&["annotate", "prompts.txt", "--out", out, "--offline"][..], more].concat()));
        fs::read_to_string(folder.path().join(out)).unwrap()
    };
    assert_eq!(annotate("a.json", &["--annotator", "own.json"]), annotate("b.json", &[]));
}
