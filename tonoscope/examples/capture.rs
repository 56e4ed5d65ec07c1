//! Record the residual stream after every layer, averaged over time, and keep it in a safetensors file.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let prompts = ["a slow piano melody", "fast drums", "a happy guitar tune"];
    let (_, cache) =
        model.generate_all(prompts).seconds(0.5).capture("decoder.*.resid_post:mean_time").run_with_cache()?;
    cache.save("captures.safetensors")?;
    for captured in &cache.entries {
        println!("{} {:?}", captured.name(), captured.named_dims());
    }
    Ok(())
}
