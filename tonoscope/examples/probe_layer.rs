//! Probe every layer: how well can drums be told from piano by its activations?
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::{
    core::probes::{Features, Folds, cross_validate},
    prelude::*,
};

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let words = ["slow", "fast", "quiet", "loud"];
    let prompts = ["piano", "drums"].map(|what| words.map(|how| format!("{how} {what}"))).concat();
    let labels: Vec<usize> = (0..prompts.len()).map(|prompt| usize::from(prompt >= words.len())).collect();
    let run = model.generate_all(&prompts).seconds(0.3).capture("decoder.*.resid_post:mean_time");
    let (_, cache) = run.run_with_cache()?;

    let folds = Folds::stratified(&labels, None, words.len(), 0)?;
    for captured in &cache.entries {
        let values = values(&captured.tensor)?; // branch, prompt, feature; the first branch sees the prompt
        let features = Features::new(&values[..prompts.len() * model.width()], model.width());
        let report = cross_validate(features, &labels, &folds, Probe::Ridge { alpha: 1.0 })?;
        println!("{}: balanced accuracy {:.2}", captured.name(), report.balanced_accuracy.mean);
    }
    Ok(())
}
