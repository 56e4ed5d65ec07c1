//! The program as a user runs it.

mod bad_input;
mod generate;
mod help;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// Path of a fixture.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Runs `tonoscope` in this process with `args`, away from the user's own cache of models.
fn tonoscope(args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", std::env::temp_dir().join("tonoscope-tests-no-such-cache"))
        .env_remove("HF_HUB_CACHE")
        .output()
        .expect("the program starts")
}

/// The program lies beside the folder of this test binary: both are built by `cargo test --workspace`.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let folder = here.parent().and_then(|deps| deps.parent()).expect("target/release/deps");
    folder.join(format!("tonoscope{}", std::env::consts::EXE_SUFFIX))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
