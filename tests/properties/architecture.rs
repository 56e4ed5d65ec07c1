//! What ARCHITECTURE.md says of `core`, read off its source: what is absent, and who may use whom.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What `core` does without, and why.
const ABSENT: &[(&str, &[&str])] = &[
    ("prints", &["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout", "stderr"]),
    ("reads an environment variable", &["std::env", "env::var", "env!", "option_env!"]),
    ("reads a clock", &["Instant", "SystemTime", "web_time"]),
    (
        "names a backend",
        &[
            "burn::backend",
            "burn_flex",
            "burn_wgpu",
            "burn_cuda",
            "cubecl",
            "Device::default",
            "Device::flex",
            "Device::wgpu",
            "Device::webgpu",
            "Device::vulkan",
            "Device::metal",
            "Device::cuda",
        ],
    ),
];

/// Module of `core` → modules that it may use. Those that stand alone use nothing but the standard library and Burn.
const USES: &[(&str, &[&str])] = &[
    ("audio", &[]),
    ("checkpoint", &[]),
    ("corpus", &[]),
    ("metrics", &[]),
    ("diffusion", &["checkpoint"]),
    ("hooks", &["checkpoint"]),
    ("captures", &["checkpoint", "hooks"]),
    ("nn", &["checkpoint", "hooks"]),
    ("models", &["audio", "checkpoint", "diffusion", "hooks", "metrics", "nn"]),
    ("concepts", &["hooks", "metrics", "models"]),
    ("musicologist", &["hooks"]),
    ("readout", &["checkpoint", "hooks", "metrics"]),
    ("probes", &["metrics", "readout"]),
    ("lens", &["checkpoint", "concepts", "hooks", "metrics", "models", "nn"]),
    ("training", &["checkpoint", "hooks", "models", "nn"]),
    ("interventions", &["checkpoint", "concepts", "hooks", "metrics", "models", "nn"]),
];

/// Every source file of `core`: the module it is of, its path, its code without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let mut files = vec![];
    collect(&root, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().iter().next().unwrap();
        Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let read = |path: PathBuf| (module(&path), code(&fs::read_to_string(&path).unwrap()), path);
    files.into_iter().map(read).map(|(module, code, path)| (module, path, code)).collect()
}

/// `source` without its comments.
fn code(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` has `text` as a whole word, not as a part of a longer name.
fn mentions(code: &str, text: &str) -> bool {
    code.match_indices(text).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_name);
        let after = code[at + text.len()..].chars().next().is_some_and(is_name);
        !before && (!after || !text.ends_with(is_name))
    })
}

/// Modules that `code` reaches through `crate::`.
fn used(code: &str) -> BTreeSet<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|&c| is_name(c)).collect::<String>();
    let mut modules = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        if code[..at].ends_with(is_name) {
            continue;
        }
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && is_name(c) => {
                    modules.insert(name(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    modules
}

#[test]
fn core_names_no_backend_prints_nothing_and_reads_neither_environment_nor_clock() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    for (_, path, code) in &sources {
        for (what, words) in ABSENT {
            if let Some(word) = words.iter().find(|word| mentions(code, word)) {
                panic!("{} {what}: `{word}`", path.display());
            }
        }
    }
}

#[test]
fn modules_of_core_use_only_what_is_below_them() {
    for (module, path, code) in sources() {
        let used = used(&code);
        if module == "lib" {
            continue;
        }
        let may = USES.iter().find(|(name, _)| *name == module);
        let (_, may) =
            may.unwrap_or_else(|| panic!("`{module}` is new: say in this test and in ARCHITECTURE.md what it may use"));
        for other in used {
            assert!(other == module || may.contains(&other.as_str()), "{} uses `{other}`", path.display());
        }
        assert!(!code.contains("super::super"), "{}: reach other modules through `crate::`", path.display());
    }
}

#[test]
fn no_two_modules_may_use_each_other() {
    for (index, (module, may)) in USES.iter().enumerate() {
        for other in *may {
            let below = USES[..index].iter().any(|(name, _)| name == other);
            assert!(below, "`{module}` may use `{other}`, which does not stand above it in the list");
        }
    }
}

#[test]
fn the_reader_sees_what_it_must() {
    assert!(mentions("fn f() { println!(\"x\"); }", "println!") && mentions("use std::time::Instant;", "Instant"));
    assert!(!mentions(&code("let x = 1; // println!(\"x\")\n/// Instant"), "println!"));
    assert!(!mentions("Instantiate and my_println!()", "Instant") && !mentions("my_println!()", "println!"));
    let found = used(
        "use crate::{\n    hooks::{Hooks, run::models},\n    nn::Linear,\n};\nlet x = crate::audio::read(my_crate::y);",
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["audio", "hooks", "nn"]);
}

/// A path need not be UTF-8: written into JSON as it is, it panics or fails after the work is done. `cli/src/json_path.rs` is
/// the way.
#[test]
fn no_path_goes_into_json_as_it_is() {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let mut files = vec![];
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/src"), &mut files);
    let mut found = 0;
    // The way itself, and tests, whose paths are UTF-8.
    let own = |file: &PathBuf| file.ends_with("json_path.rs") || file.ends_with("tests.rs");
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs") && !own(file)) {
        let text = fs::read_to_string(file).unwrap();
        let (mut written, mut before) = (false, "");
        for line in text.lines() {
            if line.trim_start().starts_with("#[derive(") {
                written = line.contains("Serialize");
            }
            if line.starts_with('}') {
                written = false;
            }
            let field = line.trim_end().ends_with("PathBuf,") || line.trim_end().ends_with("PathBuf>,");
            if written && field && line.contains(": ") {
                found += 1;
                let own = before.contains("json_path::") || before.contains("serde(skip");
                // Settings of a training are read, and never written.
                let read = file.ends_with("train/settings.rs");
                assert!(own || read, "{}: `{}` is written into JSON as it is", file.display(), line.trim());
            }
            let paths = [": args.out,", ": self.out}", "folder.path()}", ": args.out}", "folder.path(),"];
            let json = line.contains("json!(") && paths.iter().any(|path| line.contains(path));
            assert!(!json, "{}: `{}` writes a path into JSON as it is", file.display(), line.trim());
            before = line;
        }
    }
    assert!(found > 5, "{found} fields that are paths");
}
