//! The program as a user runs it. A test of the package `tonoscope`, so that Cargo builds the program first.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod archives;
mod bad_input;
mod built_in;
mod checkpoints;
mod classify;
mod concepts;
mod concepts_embed;
mod diffuse;
mod dtypes;
mod edits;
mod embed;
mod embed_generated;
mod generate;
mod gpu_counts;
mod help;
mod intervene;
mod killed;
mod lens;
mod llm_server;
mod nano;
mod notes;
mod phrases;
mod pipeline;
mod probe;
mod probe_activations;
mod prompt_files;
mod prompts;
mod prompts_llm;
mod prompts_offline;
mod report;
mod resume;
mod runs;
mod terminal;
mod train;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Path of a fixture.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A file of the folder of real inputs that lies beside the repository; says so where there is none.
fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.is_file() {
        eprintln!("SKIPPED: `{}` is not there", path.display());
    }
    path.is_file().then_some(path)
}

/// Runs `tonoscope` with `args`, away from the user's own cache of models.
fn tonoscope(args: &[&str]) -> Output {
    tonoscope_with(args, &[])
}

/// The same with more variables in its environment.
fn tonoscope_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    command(args).envs(variables.iter().copied()).output().expect("the program starts")
}

/// The program with `args`, not started yet.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tonoscope"));
    command
        .args(args)
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", std::env::temp_dir().join("tonoscope-tests-no-such-cache"))
        .env_remove("HF_HUB_CACHE");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of a table, by the names of its columns.
fn rows(table: impl AsRef<Path>) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(table).unwrap().deserialize().collect::<Result<_, _>>().unwrap()
}

/// Checks the status and message of a run that failed.
#[track_caller]
fn says(result: &(i32, String), status: i32, parts: &[&str]) {
    assert_eq!(result.0, status, "{}", result.1);
    for part in parts {
        assert!(result.1.contains(part), "no `{part}` in: {}", result.1);
    }
    assert!(!result.1.contains("panicked"), "{}", result.1);
}
