//! Activation patching: put one prompt's activations into a run of another, layer by layer, and count the codes that change.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let run = |prompt: &str| model.generate(prompt).seconds(0.5).greedy();
    let clean = run("a slow piano melody").run()?;
    let (_, other) = run("fast drums").capture("decoder.*.resid_post").run_with_cache()?;

    for layer in 0..model.layers() {
        let point = format!("decoder.{layer}.resid_post");
        let patched = run("a slow piano melody").patch(point.as_str(), other.get(&point)?).run()?;
        let changed = differences(clean.codes(), patched.codes());
        println!("{point}: {:.0} % of the codes change", 100.0 * changed);
    }
    Ok(())
}

/// Share of the codes that differ.
fn differences(a: &[Vec<u32>], b: &[Vec<u32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.filter(|(a, b)| a != b).count() as f64 / a.iter().map(Vec::len).sum::<usize>() as f64
}
