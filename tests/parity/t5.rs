//! T5 against transformers, every hook point.

use burn::tensor::TensorData;
use tonoscope_core::{
    checkpoint::{Placement, SafetensorsFile, Weights},
    hooks::{EditTensors, Hooks, Spec},
    models::t5::{T5Config, T5Encoder, T5Tokenizer},
};
use tonoscope_tests::{Fixture, assert_close, capture_everything, devices};

/// One layer after another in 32 bit; the reference against itself in 64 bit is at 3e-7.
const LAYER: f64 = 1e-5;

fn compare(fixture: &Fixture, config: &T5Config, weights: &Weights, name: &str, placement: &Placement) {
    let model = T5Encoder::load(config, weights).expect("the fixture fits");
    let spec = Spec { captures: capture_everything(&model.points()), edits: vec![] };
    let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::default()).unwrap();
    let ids = fixture.int_tensor::<2>("input_ids", &placement.device);
    let mask = fixture.int_tensor::<2>("attention_mask", &placement.device);
    model.forward(&mut hooks, ids, mask);
    let mut worst = (0.0, String::new());
    for captured in pollster::block_on(tonoscope_tests::read(hooks.finish().unwrap())) {
        let (want, shape) = fixture.floats(&captured.name);
        // One guidance branch: the first axis of a capture is 1 long.
        assert_eq!(captured.shape[1..], shape, "shape of `{}`", captured.name);
        let error = assert_close(&captured.name, &captured.values, &want, LAYER);
        if error > worst.0 {
            worst = (error, captured.name);
        }
    }
    println!("{name}: at most {:.1e}, at {}", worst.0, worst.1);
}

#[test]
fn t5_relu_matches_transformers() {
    let fixture = Fixture::open("musicgen_tiny");
    for (name, placement) in devices() {
        let weights = fixture.weights(placement.clone()).sub("text_encoder");
        compare(&fixture, &fixture.config(Some("text_encoder")), &weights, name, &placement);
    }
}

#[test]
fn t5_gated_matches_transformers() {
    let fixture = Fixture::open("t5_gated_tiny");
    for (name, placement) in devices() {
        let weights = fixture.weights(placement.clone());
        compare(&fixture, &fixture.config(None), &weights, name, &placement);
        weights.finish().expect("every tensor is used");
    }
}

#[test]
fn a_whole_t5_gives_the_same_encoder_under_either_name_of_its_table() {
    let fixture = Fixture::open("t5_gated_tiny");
    let config: T5Config = fixture.config(None);
    let bytes = std::fs::read(fixture.folder().join("model.safetensors")).unwrap();
    // Older files name the tied table after the encoder alone.
    let renamed = replace(&bytes, b"\"shared.weight\"", b"\"encoder.embed_tokens.weight\"");
    let (_, placement) = devices().remove(0);
    let source = SafetensorsFile::from_bytes("renamed", renamed).unwrap();
    let weights = Weights::new(Box::new(source), placement.clone());
    compare(&fixture, &config, &weights, "renamed", &placement);
    weights.finish().expect("every tensor is used");
}

/// Replaces a key in the header of a safetensors file.
fn replace(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(file[8..8 + len].to_vec()).unwrap();
    let [old, new] = [old, new].map(|key| std::str::from_utf8(key).unwrap());
    assert!(header.contains(old));
    let header = header.replace(old, new);
    let mut result = (header.len() as u64).to_le_bytes().to_vec();
    result.extend(header.as_bytes());
    result.extend(&file[8 + len..]);
    result
}

#[test]
fn the_real_tokenizer_gives_the_published_ids() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/t5_tokenizer.json");
    let Ok(json) = std::fs::read(path) else {
        eprintln!("SKIPPED the_real_tokenizer_gives_the_published_ids: there is no {path}");
        return;
    };
    let tokenizer = T5Tokenizer::from_bytes(&json, 512, 32128).unwrap();
    let ids = tokenizer.encode("Compose a happy rock piece").unwrap();
    assert_eq!(ids, [2570, 2748, 15, 3, 9, 1095, 2480, 1466, 1]);
    assert!(tokenizer.encode(" ").unwrap().is_empty());
    let error = tokenizer.encode(&"la ".repeat(600)).unwrap_err().to_string();
    assert!(error.contains("602 tokens") && error.contains("512"), "{error}");
}

#[test]
fn buckets_reach_the_table() {
    // Padding the sequence changes no row of the tokens before it beyond rounding.
    let fixture = Fixture::open("t5_gated_tiny");
    let (_, placement) = devices().remove(0);
    let model = T5Encoder::load(&fixture.config(None), &fixture.weights(placement.clone())).unwrap();
    let run = |tokens: usize, padding: usize| {
        let ids: Vec<i64> =
            (0..tokens + padding).map(|index| if index < tokens { 5 + index as i64 } else { 0 }).collect();
        let mask: Vec<i64> = (0..tokens + padding).map(|index| i64::from(index < tokens)).collect();
        let place = |values: Vec<i64>| {
            burn::tensor::Tensor::from_data(TensorData::new(values, [1, tokens + padding]), &placement.device)
        };
        let output = model.forward(&mut Hooks::none(), place(ids), place(mask));
        tonoscope_tests::floats(output.narrow(1, 0, tokens))
    };
    assert_close("padded", &run(20, 12), &run(20, 0), 1e-6);
}
