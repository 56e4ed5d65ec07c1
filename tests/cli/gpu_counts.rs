//! How much a step asks of a GPU, counted by a layer between the program and a Vulkan driver. Counts are the same on every
//! driver, one in software too, so that a change that doubles them fails here.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

/// Counts of one step, or a message that the test was skipped.
fn counts(what: &str) -> Option<BTreeMap<String, u64>> {
    let devices = super::tonoscope(&["devices"]);
    if !String::from_utf8_lossy(&devices.stdout).contains("webgpu") {
        eprintln!("SKIPPED: no Vulkan driver on this machine (Debian: apt-get install mesa-vulkan-drivers)");
        return None;
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/gpu/per_step.sh");
    let program = env!("CARGO_BIN_EXE_tonoscope");
    let output = match Command::new("bash").arg(script).args([what, program]).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: no bash on this machine: {error}");
            return None;
        }
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        eprintln!(
            "SKIPPED: the counting layer does not compile (Debian: apt-get install gcc libvulkan-dev): {complaints}"
        );
        return None;
    }
    assert!(output.status.success(), "{complaints}");
    let text = String::from_utf8_lossy(&output.stdout);
    eprint!("{text}");
    let pair = |line: &str| Some((line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.parse().ok()?));
    Some(text.lines().filter_map(pair).collect())
}

/// Asserts that every count is at most what `most` says.
fn at_most(counts: &BTreeMap<String, u64>, most: &[(&str, u64)]) {
    for (name, most) in most {
        let found = counts.get(*name).copied().unwrap_or(0);
        assert!(found <= *most, "{name}: {found} a step, expected at most {most}");
    }
    assert!(counts.get("CmdDispatch").is_some_and(|found| *found > 0), "nothing was counted: {counts:?}");
}

#[test]
fn a_decode_step_asks_a_gpu_for_few_things() {
    let Some(counts) = counts("decode") else { return };
    // Six layers of eleven kernels, four around them, and the codec's share of a frame.
    let most = [("CmdDispatch", 85), ("CmdCopyBuffer", 3), ("QueueSubmit", 4), ("CreateBuffer", 3)];
    at_most(&counts, &most);
    at_most(&counts, &[("CreateComputePipelines", 0)]);
}

#[test]
fn a_denoising_step_asks_a_gpu_for_few_things() {
    let Some(counts) = counts("denoise") else { return };
    at_most(&counts, &[("CmdDispatch", 120), ("QueueSubmit", 5), ("CreateComputePipelines", 0)]);
}
