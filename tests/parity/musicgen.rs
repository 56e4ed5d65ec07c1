//! MusicGen against transformers and audiocraft: every hook point of a guided forward pass, greedy generation,
//! continuation, sliding windows, stereo, and both layouts of checkpoints.

use std::ops::ControlFlow;

use burn::tensor::{Tensor, TensorData};
use tonoscope_core::{
    checkpoint::Placement,
    hooks::{EditTensors, Hooks, Spec},
    models::musicgen::{
        Columns, DecoderState, Generate, Generation, MusicGen, MusicgenFiles, Prompt, Sampling, SequenceKey, Window,
    },
};
use tonoscope_tests::{Fixture, assert_close, capture_everything, devices, floats};

/// One layer after another in 32 bit; the reference against itself in 64 bit is at 3e-7.
const LAYER: f64 = 1e-5;
/// PARITY.md §8.
const AUDIO: f64 = 2e-5;

pub(super) fn load(fixture: &str, placement: &Placement) -> MusicGen {
    let fixtures = Fixture::open("musicgen_tiny").folder().parent().unwrap().to_owned();
    let files = MusicgenFiles::open(&fixtures.join(fixture), Some(&fixtures.join("t5_tiny"))).unwrap();
    files.load(placement.clone()).expect("the fixture fits")
}

/// The token ids of a fixture without their padding.
pub(super) fn prompts(fixture: &Fixture, name: &str) -> Vec<Prompt> {
    let (ids, shape) = fixture.ints(name);
    let unpadded = |ids: &[i64]| ids.iter().take_while(|&&id| id != 0).map(|&id| id as u32).collect();
    ids.chunks(shape[1]).map(|ids| Prompt { ids: unpadded(ids), key: SequenceKey::new("", 0), start: vec![] }).collect()
}

pub(super) fn greedy(frames: usize) -> Generate {
    let window = Window { frames: 1500, stride: 900 };
    Generate { frames, guidance: 3.0, sampling: Sampling::Greedy, window }
}

pub(super) fn generate(model: &MusicGen, prompts: &[Prompt], how: &Generate) -> Generation {
    let mut hooks = Hooks::none();
    pollster::block_on(model.generate(&mut hooks, prompts, how, &mut |_| ControlFlow::Continue(())))
        .expect("generation succeeds")
}

/// Codes `[prompt][codebook][frame]` of a fixture.
pub(super) fn codes(fixture: &Fixture, name: &str) -> Vec<Vec<Vec<u32>>> {
    let (codes, shape) = fixture.ints(name);
    let codes: Vec<u32> = codes.into_iter().map(|code| code as u32).collect();
    let rows = |codes: &[u32]| codes.chunks(shape[2]).map(<[u32]>::to_vec).collect();
    codes.chunks(shape[1] * shape[2]).map(rows).collect()
}

#[test]
fn every_hook_point_of_a_guided_pass_matches_transformers() {
    for name in ["musicgen_tiny", "musicgen_tiny_stereo"] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let model = load(name, &placement);
            let spec = Spec { captures: capture_everything(&model.points()), edits: vec![] };
            let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::default()).unwrap();
            let ids = fixture.int_tensor::<2>("input_ids", &placement.device);
            let (mask, shape) = fixture.ints("attention_mask");
            let mask: Vec<Vec<bool>> = mask.chunks(shape[1]).map(|row| row.iter().map(|&m| m == 1).collect()).collect();
            let text = model.encode_ids(&mut hooks, ids, mask);
            let input = fixture.int_tensor::<3>("decoder_input_ids", &placement.device);
            let mut state = DecoderState::new(model.decoder(), &mut hooks, &text, true, input.dims()[2]);
            model.decoder().forward(&mut hooks, &mut state, input, Columns::All);
            let mut worst = (0.0, String::new());
            for captured in pollster::block_on(tonoscope_tests::read(hooks.finish().unwrap())) {
                let (want, shape) = fixture.floats(&captured.name);
                // The reference counts rows; a capture counts branches and prompts.
                let rows = captured.shape[0] * captured.shape[1];
                assert_eq!([&[rows], &captured.shape[2..]].concat(), shape, "shape of `{}`", captured.name);
                let error = assert_close(&captured.name, &captured.values, &want, LAYER);
                if error > worst.0 {
                    worst = (error, captured.name);
                }
            }
            println!("{name} on {device}: at most {:.1e}, at {}", worst.0, worst.1);
        }
    }
}

#[test]
fn greedy_codes_and_audio_are_those_of_transformers() {
    for name in ["musicgen_tiny", "musicgen_tiny_stereo"] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let model = load(name, &placement);
            let prompts = prompts(&fixture, "input_ids");
            let made = generate(&model, &prompts, &greedy(20));
            assert_eq!(made.codes, codes(&fixture, "greedy.codes"), "{name} on {device}");
            let audio = model.decode_audio(&made.codes);
            println!("{name} on {device}: audio {:.1e}", fixture.assert_close("greedy.audio", audio, AUDIO));
            let unguided = generate(&model, &prompts, &Generate { guidance: 1.0, ..greedy(20) });
            assert_eq!(unguided.codes, codes(&fixture, "greedy_g1.codes"), "{name} on {device}, unguided");
        }
    }
}

#[test]
fn one_column_at_a_time_gives_the_logits_of_transformers() {
    let fixture = Fixture::open("musicgen_tiny");
    let (want, shape) = fixture.floats("greedy.logits");
    let delayed = fixture.int_tensor::<3>("greedy.delayed", &devices()[0].1.device);
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let mut hooks = Hooks::none();
        let ids: Vec<_> = prompts(&fixture, "input_ids").into_iter().map(|prompt| prompt.ids).collect();
        let text = model.encode_text(&mut hooks, &ids);
        let mut state = DecoderState::new(model.decoder(), &mut hooks, &text, true, shape[0]);
        let mut worst = 0.0f64;
        for (step, want) in want.chunks(shape[1..].iter().product()).enumerate() {
            let column = TensorData::new(tonoscope_tests::ints(delayed.clone().narrow(2, step, 1)), [2, 4, 1]);
            let column = Tensor::<3, burn::tensor::Int>::from_data(column, &placement.device);
            let both = Tensor::cat(vec![column.clone(), column], 0);
            let logits = model.decoder().forward(&mut hooks, &mut state, both, Columns::Last);
            let halves = logits.chunk(2, 0);
            let guided = halves[1].clone() + (halves[0].clone() - halves[1].clone()) * 3.0;
            worst = worst.max(assert_close(&format!("logits of step {step}"), &floats(guided), want, LAYER));
        }
        println!("{device}: logits at most {worst:.1e} over {} steps", shape[0]);
    }
}

#[test]
fn audiocrafts_layout_gives_the_same_model() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let model = load("musicgen_tiny_audiocraft", &placement);
        let made = generate(&model, &prompts(&fixture, "input_ids"), &greedy(20));
        assert_eq!(made.codes, codes(&fixture, "greedy.codes"), "{device}");
        fixture.assert_close("greedy.audio", model.decode_audio(&made.codes), AUDIO);
    }
}

#[test]
fn a_recording_is_continued_as_by_transformers() {
    for name in ["musicgen_tiny", "musicgen_tiny_stereo"] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let model = load(name, &placement);
            let wave = fixture.tensor::<3>("continue.audio_in", &placement.device);
            let start = tonoscope_tests::ints(model.audio_encoder().encode_channels(wave));
            let (want, shape) = fixture.ints("continue.prompt_codes");
            assert_eq!(start, want, "{name} on {device}");
            let start: Vec<Vec<u32>> =
                start.chunks(shape[2]).map(|row| row.iter().map(|&code| code as u32).collect()).collect();
            let mut prompts = prompts(&fixture, "continue.input_ids");
            prompts[0].start = start;
            let want = codes(&fixture, "continue.codes");
            let made = generate(&model, &prompts, &greedy(want[0][0].len()));
            assert_eq!(made.codes, want, "{name} on {device}");
            fixture.assert_close("continue.audio", model.decode_audio(&made.codes), AUDIO);
        }
    }
}

#[test]
fn what_is_longer_than_the_window_slides_as_in_audiocraft() {
    let fixture = Fixture::open_file("musicgen_tiny", "expected_long.safetensors");
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let how = Generate { window: Window { frames: 20, stride: 12 }, ..greedy(40) };
        let mut prompts = prompts(&fixture, "input_ids");
        assert_eq!(generate(&model, &prompts, &how).codes, codes(&fixture, "long.codes"), "{device}");
        for (prompt, start) in prompts.iter_mut().zip(codes(&fixture, "long_continue.prompt_codes")) {
            prompt.start = start;
        }
        assert_eq!(generate(&model, &prompts, &how).codes, codes(&fixture, "long_continue.codes"), "{device}");
    }
}

#[test]
fn a_recording_longer_than_the_window_is_continued_from_its_last_part() {
    let fixture = Fixture::open_file("musicgen_tiny", "expected_long.safetensors");
    let (device, placement) = devices().remove(0);
    let model = load("musicgen_tiny", &placement);
    let how = Generate { window: Window { frames: 20, stride: 12 }, ..greedy(40) };
    let whole = codes(&fixture, "long.codes");
    // The piece goes on as if it had never been interrupted: windows begin at frames 0, 12 and 24.
    for given in [1, 19, 20, 21, 31, 32, 33, 39] {
        let mut prompts = prompts(&fixture, "input_ids");
        for (prompt, whole) in prompts.iter_mut().zip(&whole) {
            prompt.start = whole.iter().map(|row| row[..given].to_vec()).collect();
        }
        assert_eq!(generate(&model, &prompts, &how).codes, whole, "{given} frames on {device}");
    }
}
