//! Ablate every head of the decoder, one at a time, and rank the heads by how many codes change.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let run = || model.generate("a slow piano melody").seconds(0.5).greedy();
    let clean = run().run()?;

    let mut ranking = vec![];
    for layer in 0..model.layers() {
        for head in 0..model.heads() {
            let point = format!("decoder.{layer}.self_attn.z");
            let ablated = run().edit(Edit::zero(point.as_str()).heads([head])).run()?;
            let pairs = clean.codes().iter().flatten().zip(ablated.codes().iter().flatten());
            ranking.push((pairs.filter(|(a, b)| a != b).count(), layer, head));
        }
    }
    ranking.sort_unstable_by(|a, b| b.cmp(a));
    for (changed, layer, head) in ranking.iter().take(5) {
        println!("layer {layer}, head {head}: {changed} codes change");
    }
    Ok(())
}
