//! Load a model, record a layer, zero a head, change a layer by a closure, and write WAV files.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?; // a built-in name, a Hub id, or a folder
    let plain = model.generate("a slow piano melody").seconds(1.0).seed(42).run()?;
    plain.save("plain.wav")?;

    let (changed, cache) = model
        .generate("a slow piano melody")
        .seconds(1.0)
        .seed(42)
        .capture("decoder.*.resid_post")
        .edit(Edit::zero("decoder.3.self_attn.z").heads([1]))
        .hook("decoder.5.mlp_out", |x, at| if at.step > 20 { x * 1.5 } else { x })
        .run_with_cache()?;
    changed.save("changed.wav")?;
    println!("{:?}", cache.get("decoder.5.resid_post")?.named_dims()); // branch, prompt, step, feature
    Ok(())
}
