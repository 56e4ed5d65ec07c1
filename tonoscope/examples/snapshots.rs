//! Listen to a diffusion model while it denoises, and ask CLAP how near each estimate is to two texts.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::{cosine, prelude::*};

fn main() -> tonoscope::Result<()> {
    let model = StableAudio::from_pretrained("stable-audio-nano")?;
    let clap = Clap::from_pretrained("clap-nano")?;
    let texts = clap.embed_text(&["a piano melody", "fast drums"])?;
    let made = model
        .generate("a slow piano melody")
        .seconds(1.0)
        .latent_length(64)
        .steps(10)
        .snapshots([2, 5, 9])
        .seed(1)
        .run()?;

    let vectors = clap.embed_audio(made.snapshots())?;
    for (snapshot, vector) in made.snapshots().iter().zip(&vectors) {
        snapshot.audio.save(format!("step_{}.wav", snapshot.step))?;
        let [piano, drums] = [0, 1].map(|text: usize| cosine(vector, &texts[text]));
        println!("step {}: piano {piano:.3}, drums {drums:.3}", snapshot.step);
    }
    Ok(())
}
