//! The same at musicgen-small's real size, with random weights: `just parity FOLDER`.

use std::ops::ControlFlow;

use tonoscope_core::{
    checkpoint::{SafetensorsFile, Source},
    hooks::Hooks,
    models::musicgen::{Generate, MusicgenFiles, Prompt, Sampling, SequenceKey, Window},
};
use tonoscope_tests::{devices, floats, relative_error};

fn ints(file: &SafetensorsFile, name: &str) -> (Vec<u32>, Vec<usize>) {
    let raw = file.read(name).unwrap();
    let of = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap()) as u32;
    (raw.bytes.chunks(8).map(of).collect(), raw.shape)
}

#[test]
#[ignore = "needs the folder that tests/reference/real_size.py writes, and minutes"]
fn real_size_greedy_codes_and_audio_are_those_of_transformers() {
    let folder = std::env::var("TONOSCOPE_REAL_SIZE").expect("TONOSCOPE_REAL_SIZE names the folder");
    let folder = std::path::Path::new(&folder);
    let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
    let (ids, shape) = ints(&expected, "input_ids");
    let prompts: Vec<Prompt> = ids
        .chunks(shape[1])
        .map(|ids| Prompt {
            ids: ids.iter().copied().take_while(|&id| id != 0).collect(),
            key: SequenceKey::new("", 0),
            start: vec![],
        })
        .collect();
    let (codes, shape) = ints(&expected, "greedy.codes");
    let audio = expected.read("greedy.audio").unwrap();
    let audio: Vec<f32> = audio.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    // A GPU in software would take hours.
    for (device, placement) in devices().into_iter().filter(|(name, _)| *name != "webgpu") {
        let model = MusicgenFiles::open(folder, None).unwrap().load(placement).unwrap();
        let window = Window { frames: 1500, stride: 900 };
        let how = Generate { frames: shape[2], guidance: 3.0, sampling: Sampling::Greedy, window };
        let mut hooks = Hooks::none();
        let made = pollster::block_on(model.generate(&mut hooks, &prompts, &how, &mut |_| ControlFlow::Continue(())));
        let made = made.unwrap();
        let got: Vec<u32> = made.codes.iter().flatten().flatten().copied().collect();
        assert_eq!(got, codes, "{device}");
        let error = relative_error(&floats(model.decode_audio(&made.codes)), &audio);
        println!("{device}: {} frames of {} prompts identical, audio {error:.1e}", shape[2], prompts.len());
        assert!(error < 2e-5, "{error}");
    }
}
