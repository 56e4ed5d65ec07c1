//! Steering: add the difference between the mean activations of two kinds of prompts, more and more of it.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let point = "decoder.3.resid_post";
    // `[branch, prompt, step, head, feature]`; the mean of the branch that sees the prompt.
    let mean = |prompts: [&str; 2]| -> tonoscope::Result<Tensor<1>> {
        let run = model.generate_all(prompts).seconds(0.5).capture(format!("{point}:mean_time"));
        let (_, cache) = run.run_with_cache()?;
        Ok(cache.get(point)?.tensor.clone().narrow(0, 0, 1).mean_dim(1).reshape([model.width()]))
    };
    let direction = mean(["happy music", "a cheerful tune"])? - mean(["sad music", "a gloomy tune"])?;

    for strength in [0.0, 2.0, 8.0] {
        let music = model
            .generate("a piano melody")
            .seconds(0.5)
            .edit(Edit::add(point, "happy").strength(strength))
            .tensor("happy", direction.clone())
            .run()?;
        music.save(format!("steered_{strength}.wav"))?;
    }
    Ok(())
}
