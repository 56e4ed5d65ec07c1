//! A prompt gives the same tokens whatever batch it is in.

use std::ops::ControlFlow;

use tonoscope_core::{
    hooks::Hooks,
    models::musicgen::{Generate, MusicGen, MusicgenFiles, Prompt, Sampling, SequenceKey, Window},
};
use tonoscope_tests::{Fixture, devices};

const PROMPTS: [&str; 4] = [
    "Compose a happy rock piece.",
    "Compose a groovy jazz piece, with a trumpet melody. Use a slow to medium tempo.",
    "",
    "Compose a happy rock piece, with a guitar melody. Use a fast tempo.",
];

fn run(model: &MusicGen, prompts: &[Prompt], sampling: Sampling) -> Vec<Vec<Vec<u32>>> {
    let window = Window { frames: 1500, stride: 900 };
    let how = Generate { frames: 24, guidance: 3.0, sampling, window };
    let mut hooks = Hooks::none();
    pollster::block_on(model.generate(&mut hooks, prompts, &how, &mut |_| ControlFlow::Continue(()))).unwrap().codes
}

#[test]
fn a_prompts_tokens_do_not_depend_on_its_neighbours() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let files = MusicgenFiles::open(fixture.folder(), None).unwrap();
        let tokenizer = files.tokenizer().unwrap();
        let model = files.load(placement).unwrap();
        let prompt = |text: &str, sample| Prompt {
            ids: tokenizer.encode(text).unwrap(),
            key: SequenceKey::new(text, sample),
            start: vec![],
        };
        let sampling = Sampling::Random { temperature: 1.0, top_k: 20, top_p: 0.0, seed: 42 };
        let batch: Vec<Prompt> = PROMPTS.iter().map(|text| prompt(text, 0)).collect();
        let together = run(&model, &batch, sampling);
        for (prompt, together) in batch.iter().zip(&together) {
            assert_eq!(&run(&model, std::slice::from_ref(prompt), sampling)[0], together, "{device}");
        }
        let reversed: Vec<Prompt> = batch.iter().rev().cloned().collect();
        let reversed = run(&model, &reversed, sampling);
        assert!(together.iter().eq(reversed.iter().rev()), "{device}");
        let again = run(&model, &[prompt(PROMPTS[0], 1)], sampling);
        assert_ne!(again[0], together[0], "another sample of a prompt is another piece");
        let other = Sampling::Random { temperature: 1.0, top_k: 20, top_p: 0.0, seed: 43 };
        assert_ne!(run(&model, &batch[..1], other)[0], together[0], "another seed is another piece");
    }
}
