//! Closed-loop steering: at every step a probe reads the stream, and steers the less the surer it is.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::{core::probes::Features, prelude::*};

fn main() -> tonoscope::Result<()> {
    let model = MusicGen::from_pretrained("musicgen-nano")?;
    let (point, width) = ("decoder.3.resid_post", model.width());
    let prompts = ["happy music", "a cheerful tune", "sad music", "a gloomy tune"];
    let run = model.generate_all(prompts).seconds(0.5).capture(format!("{point}:mean_time"));
    let (_, cache) = run.run_with_cache()?;
    let rows = &values(&cache.get(point)?.tensor)?[..prompts.len() * width]; // the branch that sees the prompt
    let probe = LinearProbe::fit(Features::new(rows, width), &[1, 1, 0, 0], Probe::Ridge { alpha: 1.0 })?;
    let plane = (0..width).map(|feature| (probe.weights[width + feature] * probe.scale[feature]) as f32);
    let direction = Tensor::<1>::from_data(plane.collect::<Vec<_>>().as_slice(), &model.core().device());
    let direction = (direction.clone() / direction.powi_scalar(2).sum().sqrt()).reshape([1, 1, 1, width]);

    let mut sure = vec![];
    let steer = |x: Tensor<4>, at: &At<'_>| -> tonoscope::Result<Tensor<4>> {
        let stream = values(&x.clone().narrow(0, at.branch(Branch::Cond).start, 1))?;
        let happy = probe.probabilities(&stream)[1];
        sure.push(happy);
        Ok(x + direction.clone() * (20.0 * (1.0 - happy)))
    };
    let music = model.generate("a piano melody").seconds(0.5).hook(point, steer).run()?;
    music.save("closed_loop.wav")?;
    println!("happiness from {:.2} to {:.2} over {} steps", sure[0], sure[sure.len() - 1], sure.len());
    Ok(())
}
