//! `prompts generate` and `prompts annotate` with a language model that misbehaves in every way that is known of.

mod annotate;
mod generate;
mod key;
mod reasoning;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::{
    command,
    llm_server::{FakeModel, Reply, a_prompt, annotated},
    stderr, stdout,
};

/// Nobody else has this text, so that it can be looked for everywhere.
const KEY: &str = "sk-test-4f7a9c0de51b";

/// A folder, a model, and what was said so far.
struct Run {
    folder: tempfile::TempDir,
    model: FakeModel,
}

impl Run {
    fn new(model: FakeModel) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), model }
    }

    /// The same with `count` prompts to annotate.
    fn with_prompts(model: FakeModel, count: usize) -> Self {
        let run = Self::new(model);
        let lines: Vec<String> = (0..count).map(|index| format!("{}. {}  ", index + 1, a_prompt(index))).collect();
        fs::write(run.path("prompts.txt"), lines.join("\n")).unwrap();
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let url = self.model.url();
        let rest = ["--base-url", &url, "--backoff", "0.01"];
        let mut command = command(&[&["prompts"][..], args, &rest].concat());
        command.current_dir(self.folder.path()).env("OPENAI_API_KEY", KEY).env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        for text in [stdout(&output), stderr(&output)] {
            assert!(!text.contains(KEY) && !text.contains("panicked"), "{text}");
        }
        output
    }

    fn annotate(&self, args: &[&str]) -> Output {
        self.run(&[&["annotate", "prompts.txt", "--out", "annotations.json"][..], args].concat())
    }

    fn generate(&self, args: &[&str]) -> Output {
        self.run(&[&["generate", "--out", "prompts.txt"][..], args].concat())
    }

    fn annotations(&self) -> Vec<Value> {
        serde_json::from_slice(&fs::read(self.path("annotations.json")).unwrap()).unwrap()
    }

    fn requests(&self) -> usize {
        self.model.log().len()
    }

    /// All `count` prompts are annotated rightly, and the key is in no file.
    #[track_caller]
    fn assert_annotated(&self, count: usize) {
        let expected: Vec<Value> = (0..count).map(|index| annotated(&a_prompt(index))).collect();
        assert_eq!(self.annotations(), expected);
        assert_no_key(self.folder.path());
    }
}

#[track_caller]
fn assert_no_key(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_key(&path);
        } else {
            assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(KEY), "{}", path.display());
        }
    }
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

#[track_caller]
fn failed(output: &Output, status: i32, parts: &[&str]) {
    crate::says(&(output.status.code().unwrap(), stderr(output)), status, parts);
}

fn changed(change: impl Fn(String) -> String + Send + 'static) -> Reply {
    Reply::Changed(Box::new(change))
}

/// The right answer with its list of annotations changed.
fn with_list(change: impl Fn(&mut Vec<Value>) + Send + 'static) -> Reply {
    changed(move |right| {
        let mut right: Value = serde_json::from_str(&right).unwrap();
        change(right["annotations"].as_array_mut().unwrap());
        right.to_string()
    })
}
