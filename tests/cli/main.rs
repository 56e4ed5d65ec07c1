//! The program as a user runs it. A test of the package `tonoscope`, so that Cargo builds the program first.

mod bad_input;
mod generate;
mod help;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// Path of a fixture.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Runs `tonoscope` with `args`, away from the user's own cache of models.
fn tonoscope(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tonoscope"))
        .args(args)
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", std::env::temp_dir().join("tonoscope-tests-no-such-cache"))
        .env_remove("HF_HUB_CACHE")
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
