//! Oobleck against diffusers and stable-audio-tools, both ways.

use burn::tensor::Tensor;
use tonoscope_core::{
    checkpoint::{LoadError, Placement, SafetensorsFile, Weights},
    models::oobleck::{Oobleck, OobleckConfig, StableAudioToolsNames},
};
use tonoscope_tests::{Fixture, assert_close, devices, floats};

/// One layer after another in 32 bit; the reference is 1e-6 from itself in 64 bit.
const LAYER: f64 = 1e-5;
/// PARITY.md §8.
const AUDIO: f64 = 2e-5;
/// Products of other sizes add up in another order. With packed convolutions no bit may differ.
const TILED: f64 = 1e-6;

fn load(fixture: &Fixture, placement: &Placement) -> Oobleck {
    let weights = fixture.weights(placement.clone());
    let model = Oobleck::load(&fixture.config(None), &weights).expect("the fixture fits");
    weights.finish().expect("all tensors are used");
    model
}

#[test]
fn oobleck_decodes_as_diffusers() {
    let fixture = Fixture::open("oobleck_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let latents = fixture.tensor::<3>("latents", &placement.device);
        for (index, output) in model.decode_layers(latents.clone()).into_iter().enumerate() {
            let name = format!("decoder.{index}");
            println!("{device} {name} {:.1e}", fixture.assert_close(&name, output, LAYER));
        }
        println!("{device} audio {:.1e}", fixture.assert_close("audio", model.decode(latents), AUDIO));
    }
}

#[test]
fn oobleck_encodes_as_diffusers() {
    let fixture = Fixture::open("oobleck_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let wave = fixture.tensor::<3>("wave", &placement.device);
        for (index, output) in model.encode_layers(wave.clone()).into_iter().enumerate() {
            let name = format!("encoder.{index}");
            println!("{device} {name} {:.1e}", fixture.assert_close(&name, output, LAYER));
        }
        let latents = model.encode(wave);
        println!("{device} mean {:.1e}", fixture.assert_close("mean", latents.mean.clone(), LAYER));
        println!("{device} std {:.1e}", fixture.assert_close("std", latents.std.clone(), LAYER));
        let drawn = floats(latents.sample(latents.mean.ones_like()));
        let sum: Vec<f32> = floats(latents.mean).iter().zip(floats(latents.std)).map(|(a, b)| a + b).collect();
        assert_close("mean plus one deviation", &drawn, &sum, 1e-6);
    }
}

/// The largest difference, which must be none where convolutions are packed.
fn assert_same(device: &str, what: &str, got: &[f32], whole: &[f32]) {
    let error = assert_close(what, got, whole, TILED);
    if device == "cpu" {
        assert!(got == whole, "{what}: {error:.1e}, but not a bit may differ");
    }
    println!("{device} {what}: {error:.1e}");
}

#[test]
fn tiles_make_the_same_audio_and_latents() {
    let fixture = Fixture::open("oobleck_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let latents = fixture.tensor::<3>("latents", &placement.device);
        let length = latents.dims()[2];
        let audio = floats(model.decode(latents.clone()));
        for tile in [1, 3, 10, length - 1, usize::MAX] {
            let tiled = floats(model.decode_tiled(latents.clone(), tile));
            assert_same(device, &format!("audio, {tile} at a time"), &tiled, &audio);
        }
        for few in 1..3 {
            let few = latents.clone().narrow(2, 0, few);
            let what = format!("audio of {}, one at a time", few.dims()[2]);
            let tiled = floats(model.decode_tiled(few.clone(), 1));
            assert_same(device, &what, &tiled, &floats(model.decode(few)));
        }
        let wave = fixture.tensor::<3>("wave", &placement.device);
        let whole = model.encode(wave.clone());
        let (mean, std) = (floats(whole.mean), floats(whole.std));
        for tile in [3, 8, usize::MAX] {
            let tiled = model.encode_tiled(wave.clone(), tile);
            assert_same(device, &format!("mean, {tile} at a time"), &floats(tiled.mean), &mean);
            assert_same(device, &format!("deviation, {tile} at a time"), &floats(tiled.std), &std);
        }
    }
}

#[test]
fn a_row_is_decoded_the_same_in_every_batch() {
    let fixture = Fixture::open("oobleck_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let latents = fixture.tensor::<3>("latents", &placement.device);
        let both = floats(model.decode(latents.clone()));
        let apart = (0..2).flat_map(|row| floats(model.decode(latents.clone().narrow(0, row, 1))));
        assert_same(device, "rows apart", &apart.collect::<Vec<_>>(), &both);
    }
}

#[test]
fn both_layouts_are_the_same_autoencoder() {
    let fixture = Fixture::open("oobleck_tiny");
    let (_, placement) = devices().remove(1);
    let text = std::fs::read_to_string(fixture.folder().join("model_config.json")).unwrap();
    let config = OobleckConfig::from_stable_audio_tools(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(config, fixture.config(None));
    let open = || SafetensorsFile::open(&fixture.folder().join("stable_audio_tools.safetensors")).unwrap();
    let named = StableAudioToolsNames::new(open(), "pretransform.model.", &config);
    let weights = Weights::new(Box::new(named), placement.clone());
    let model = Oobleck::load(&config, &weights).expect("the same tensors");
    weights.finish().expect("all tensors are used");
    let latents = fixture.tensor::<3>("latents", &placement.device);
    let expected = floats(load(&fixture, &placement).decode(latents.clone()));
    assert_eq!(floats(model.decode(latents)), expected);

    // Another prefix hides everything, and what is not of the autoencoder is left over.
    let hidden = Weights::new(Box::new(StableAudioToolsNames::new(open(), "model.", &config)), placement.clone());
    assert!(matches!(Oobleck::load(&config, &hidden), Err(LoadError::Missing { .. })));
    let deeper = OobleckConfig { downsampling_ratios: vec![2, 4, 4, 2], channel_multiples: vec![1, 2, 4, 4], ..config };
    let named = StableAudioToolsNames::new(open(), "pretransform.model.", &deeper);
    assert!(Oobleck::load(&deeper, &Weights::new(Box::new(named), placement)).is_err());
}

#[test]
fn what_does_not_fit_is_named() {
    let fixture = Fixture::open("oobleck_tiny");
    let (_, placement) = devices().remove(0);
    let weights = fixture.weights(placement);
    let config: OobleckConfig = fixture.config(None);
    let wider = OobleckConfig { decoder_channels: 8, ..config.clone() };
    let error = Oobleck::load(&wider, &weights).expect_err("another shape");
    assert!(matches!(&error, LoadError::Shape { key, .. } if key.starts_with("decoder.conv1.")), "{error}");
    let odd = OobleckConfig { downsampling_ratios: vec![2, 3, 4], ..config };
    let error = Oobleck::load(&odd, &weights).expect_err("not built");
    assert!(error.to_string().contains("downsampling_ratios"), "{error}");
}

#[test]
fn random_weights_decode_to_finite_audio_in_any_tile() {
    let (_, placement) = devices().remove(1);
    let config = OobleckConfig {
        encoder_hidden_size: 32,
        decoder_channels: 32,
        decoder_input_channels: 16,
        downsampling_ratios: vec![2, 8],
        channel_multiples: vec![1, 3],
        ..OobleckConfig::stable_audio_open()
    };
    let model = Oobleck::load(&config, &Weights::random(3, placement.clone())).expect("random weights fit");
    let wave = (0..2 * 1000).map(|index| (index as f32 * 0.37).sin()).collect::<Vec<_>>();
    let wave = Tensor::<1>::from_floats(wave.as_slice(), &placement.device).reshape([1, 2, 1000]);
    let latents = model.encode(wave).mean;
    assert_eq!(latents.dims(), [1, 16, 62]);
    let audio = floats(model.decode(latents.clone()));
    assert_eq!(audio.len(), 2 * 62 * 16);
    assert_eq!(floats(model.decode_tiled(latents, 9)), audio);
    assert!(audio.iter().all(|value| value.is_finite()) && audio.iter().any(|value| *value != 0.0));
}
