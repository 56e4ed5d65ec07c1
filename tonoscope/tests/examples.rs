//! Every program in `examples` runs.

use std::{fs, path::Path, process::Command};

/// Cargo builds the examples before the tests of a package, beside the folder of the tests.
#[test]
fn every_example_is_short_and_runs() {
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    let mut run = vec![];
    for source in sources {
        let path = source.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 40, "`{name}` has {lines} lines");
        let program = programs.join(&name);
        assert!(
            program.exists(),
            "`{}` is not built: run `cargo test`, or `cargo build --examples`",
            program.display()
        );
        let output = Command::new(program).current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{name}`: {text}");
        run.push(name);
    }
    assert_eq!(run.len(), 11, "{run:?}");
}
