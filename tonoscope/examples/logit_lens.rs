//! Logit lens: what each layer would have chosen along the codes of the whole model.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let music = model.generate("a slow piano melody").seconds(0.5).seed(1).run()?;

    println!("layer  entropy  KL to the last layer  rank of the chosen code");
    for (layer, reading) in model.logit_lens(&music)?.iter().enumerate() {
        let tokens: Vec<_> = reading.tokens.iter().flatten().collect();
        let mean =
            |of: fn(&TokenReading) -> f64| tokens.iter().map(|token| of(token)).sum::<f64>() / tokens.len() as f64;
        println!(
            "{layer:>5}  {:>7.2}  {:>20.2}  {:>23.1}",
            mean(|token| token.entropy),
            mean(|token| token.kl),
            mean(|token| token.rank as f64)
        );
    }
    Ok(())
}
