//! A prompt gives the same tokens whatever batch it is in.

use std::ops::ControlFlow;

use tonoscope_core::{
    hooks::{Capture, EditTensors, Hooks, Reduce, Site, Spec},
    models::musicgen::{Generate, GenerateError, MusicGen, MusicgenFiles, Prompt, Sampling, SequenceKey, Step, Window},
};
use tonoscope_tests::{Fixture, devices, floats};

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

#[test]
fn who_listens_hears_every_frame_once_and_in_order() {
    for name in ["musicgen_tiny", "musicgen_tiny_stereo"] {
        let fixture = Fixture::open(name);
        let (_, placement) = devices().remove(0);
        let files = MusicgenFiles::open(fixture.folder(), None).unwrap();
        let tokenizer = files.tokenizer().unwrap();
        let model = files.load(placement).unwrap();
        let points = model.points();
        let capture = |reduce| Capture { points: "decoder.1.resid_post".parse().unwrap(), reduce };
        let spec = Spec { captures: vec![capture(Reduce::Everything), capture(Reduce::MeanTime)], edits: vec![] };
        // The second goes over three windows, each of which begins with codes of the one before.
        for window in [Window { frames: 1500, stride: 900 }, Window { frames: 10, stride: 6 }] {
            let how = Generate { frames: 20, guidance: 3.0, sampling: Sampling::Greedy, window };
            let prompts = PROMPTS[..2].iter().map(|text| Prompt {
                ids: tokenizer.encode(text).unwrap(),
                key: SequenceKey::new(text, 0),
                start: vec![],
            });
            let prompts: Vec<Prompt> = prompts.collect();
            let mut hooks = Hooks::new(&spec, &points, &EditTensors::default()).unwrap();
            let (text, sequences) = model.sequences(&mut hooks, &prompts);
            let codebooks = model.config().decoder.num_codebooks;
            let mut heard = vec![vec![vec![]; codebooks]; 2];
            let (mut steps, mut streams) = (vec![], vec![]);
            let made = pollster::block_on(model.generate_heard(
                &mut hooks,
                &text,
                &sequences,
                &how,
                async |step: Step<'_>| {
                    steps.push(step.progress.done);
                    for (heard, frame) in heard.iter_mut().zip(step.frame.into_iter().flatten()) {
                        heard.iter_mut().zip(frame).for_each(|(row, token)| row.push(token));
                    }
                    let latest = step.hooks.latest(Site::RESID_POST.of(1)).expect("it is recorded");
                    assert_eq!(latest.dims(), [4, 1, 1, model.config().decoder.hidden_size]);
                    streams.push(floats(latest));
                    ControlFlow::Continue(())
                },
            ));
            assert_eq!(heard, made.unwrap().codes, "{name}");
            assert_eq!(steps, (1..=steps.len()).collect::<Vec<_>>());
            // What was heard is what is kept: `[branch, prompt, step, feature]`.
            let cache = hooks.finish().unwrap();
            let kept = pollster::block_on(cache.get(Site::RESID_POST.of(1)).unwrap().values()).unwrap();
            let width = model.config().decoder.hidden_size;
            let of_row = kept.len() / 4;
            if window.frames > how.frames {
                for (step, stream) in streams.iter().enumerate() {
                    for row in 0..4 {
                        let kept = &kept[row * of_row + step * width..][..width];
                        assert_eq!(&stream[row * width..][..width], kept, "step {step} of row {row}");
                    }
                }
            }
        }
    }
}

#[test]
fn who_listens_may_stop_the_run() {
    let fixture = Fixture::open("musicgen_tiny");
    let (_, placement) = devices().remove(0);
    let files = MusicgenFiles::open(fixture.folder(), None).unwrap();
    let tokenizer = files.tokenizer().unwrap();
    let model = files.load(placement).unwrap();
    let prompt =
        Prompt { ids: tokenizer.encode(PROMPTS[0]).unwrap(), key: SequenceKey::new(PROMPTS[0], 0), start: vec![] };
    let window = Window { frames: 1500, stride: 900 };
    let how = Generate { frames: 24, guidance: 3.0, sampling: Sampling::Greedy, window };
    let mut hooks = Hooks::none();
    let (text, sequences) = model.sequences(&mut hooks, &[prompt]);
    let mut steps = 0;
    let stopped = pollster::block_on(model.generate_heard(&mut hooks, &text, &sequences, &how, async |_: Step<'_>| {
        steps += 1;
        if steps == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    assert!(matches!(stopped, Err(GenerateError::Cancelled)));
    assert_eq!(steps, 5);
}
