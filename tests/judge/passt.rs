//! `PaSST` against hear21passt: `tests/reference/passt_tiny.py`.

use std::{path::Path, time::Instant};

use burn::tensor::Device;
use tonoscope_core::{
    checkpoint::{LoadError, Placement, SafetensorsFile, Weights},
    hooks::{Capture, Edit, EditTensors, Hooks, Reduce, Spec},
    models::passt::{MelConfig, MelFrontEnd, Passt, PasstConfig, PasstError},
};

use super::{Expected, fixture, read, relative_error};

/// One forward pass on the CPU; the reference's own 32-bit floor is 3e-7.
const BOUND: f32 = 1e-5;
/// The reference's front end in 32 bit against itself in 64: 3.8e-6 and 1.2e-5 on these signals, up to 1.9e-5 seen.
const BOUND_MEL_32: f32 = 2e-5;
/// The reference's front end in 64 bit, its result stored in 32.
const BOUND_MEL_64: f32 = 2e-7;

fn tiny(file: &str) -> Passt {
    let path = fixture("passt_tiny").join(file);
    Passt::open(&path, &PasstConfig::tiny(), Placement::plain(&Device::flex())).unwrap()
}

fn tiny_release_file() -> Passt {
    tiny("passt_tiny.pt")
}

fn expected() -> Expected {
    Expected::open("passt_tiny/reference.safetensors")
}

fn waves(expected: &Expected) -> Vec<Vec<f32>> {
    expected.values("waves", &[2, 16000]).chunks(16000).map(<[f32]>::to_vec).collect()
}

#[test]
fn the_front_end_matches_hear21passt() {
    let expected = expected();
    let tiny = MelFrontEnd::new(&MelConfig::passt(36));
    let got: Vec<f32> = waves(&expected).iter().flat_map(|wave| tiny.log_mel(wave)).collect();
    expected.assert_close("mel_f64", &[2, 36, 50], &got, BOUND_MEL_64);
    expected.assert_close("mel", &[2, 36, 50], &got, BOUND_MEL_32);

    let tone = |hertz: f64, t: f64| (std::f64::consts::TAU * hertz * t).sin();
    let seconds = (0..128_000).map(|sample| f64::from(sample) / 32_000.0);
    let tones: Vec<f32> = seconds.map(|t| (0.5 * tone(440.0, t) + 0.2 * tone(3000.0, t)) as f32).collect();
    let mel = MelFrontEnd::new(&MelConfig::passt(128)).log_mel(&tones);
    let got: Vec<f32> = mel.chunks(400).flat_map(|band| band.iter().step_by(7).copied()).collect();
    expected.assert_close("tones_mel_f64", &[128, 58], &got, BOUND_MEL_64);
    expected.assert_close("tones_mel", &[128, 58], &got, BOUND_MEL_32);
}

#[test]
fn every_block_matches_hear21passt() {
    let expected = expected();
    let passt = tiny_release_file();
    let capture = |points: &str| Capture { points: points.parse().unwrap(), reduce: Reduce::Everything };
    let spec = Spec {
        captures: ["encoder.*.*", "encoder.embed", "encoder.final_norm"].map(capture).to_vec(),
        ..Spec::default()
    };
    let mut hooks = Hooks::new(&spec, &passt.net().points(), &EditTensors::default()).unwrap();
    let output = passt.net().forward(&mut hooks, expected.tensor("mel", [2, 36, 50]).reshape([2, 1, 36, 50]));
    let cache = hooks.finish().unwrap();
    let mut compared = 0;
    for name in
        ["encoder.embed".to_owned(), "encoder.final_norm".to_owned()].into_iter().chain((0..3).flat_map(|layer| {
            ["self_attn_out", "mlp_post", "mlp_out", "resid_post"].map(|site| format!("encoder.{layer}.{site}"))
        }))
    {
        let captured = cache.get(&name).unwrap();
        let width = if name.ends_with("mlp_post") { 128 } else { 32 };
        let got = pollster::block_on(captured.values()).unwrap();
        expected.assert_close(&name, &[2, 14, width], &got, BOUND);
        compared += 1;
    }
    assert_eq!(compared, 14);
    expected.assert_close("features", &[2, 32], &read(output.features), BOUND);
    expected.assert_close("logits", &[2, 19], &read(output.logits), BOUND);
}

#[test]
fn clips_short_and_long_match_the_wrapper() {
    let expected = expected();
    let passt = tiny_release_file();
    let waves = waves(&expected);
    let long = expected.values("long", &[35200]);
    let clips = [waves[0].as_slice(), long.as_slice(), waves[1].as_slice()];
    let classified = pollster::block_on(passt.classify(&clips)).unwrap();
    let both = |of: fn(usize) -> usize| [&classified[of(0)], &classified[of(1)]];
    let short = both(|index| 2 * index);
    let logits: Vec<f32> = short.iter().flat_map(|clip| clip.logits.clone()).collect();
    let features: Vec<f32> = short.iter().flat_map(|clip| clip.features.clone()).collect();
    // The front end's 32-bit noise goes through the network.
    expected.assert_close("scene_logits", &[2, 19], &logits, BOUND_MEL_32);
    expected.assert_close("scene_features", &[2, 32], &features, BOUND_MEL_32);
    expected.assert_close("long_logits", &[19], &classified[1].logits, BOUND_MEL_32);
    expected.assert_close("long_features", &[32], &classified[1].features, BOUND_MEL_32);
    let sum: f64 = classified[1].softmax().iter().sum();
    assert!((sum - 1.0).abs() < 1e-12);
    let ranking = classified[1].ranking();
    assert!(ranking.windows(2).all(|pair| classified[1].logits[pair[0]] >= classified[1].logits[pair[1]]));
}

#[test]
fn a_clip_does_not_depend_on_the_others() {
    let expected = expected();
    let passt = tiny_release_file();
    let waves = waves(&expected);
    let together = pollster::block_on(passt.classify(&[&waves[0], &waves[1], &waves[0][..9000]])).unwrap();
    for (clip, wave) in [&waves[0], &waves[1], &waves[0][..9000].to_vec()].into_iter().enumerate() {
        let alone = pollster::block_on(passt.classify(&[wave])).unwrap();
        let error = relative_error(&together[clip].logits, &alone[0].logits);
        assert!(error < 1e-6, "clip {clip}: {error:.1e}");
    }
    assert!(pollster::block_on(passt.classify(&[])).unwrap().is_empty());
}

#[test]
fn the_file_formats_hold_the_same_model() {
    let expected = expected();
    let release = tiny_release_file();
    let safetensors = tiny("passt_tiny.safetensors");
    let wave = &waves(&expected)[0];
    let of = |passt: &Passt| pollster::block_on(passt.classify(&[wave])).unwrap();
    assert_eq!(of(&release), of(&safetensors));
}

#[test]
fn looking_changes_nothing() {
    let expected = expected();
    let passt = tiny_release_file();
    let mel = || expected.tensor("mel", [2, 36, 50]).reshape([2, 1, 36, 50]);
    let spec = Spec {
        captures: vec![Capture { points: "encoder.*.*".parse().unwrap(), reduce: Reduce::Everything }],
        edits: Vec::<Edit>::new(),
    };
    let mut hooks = Hooks::new(&spec, &passt.net().points(), &EditTensors::default()).unwrap();
    let seen = passt.net().forward(&mut hooks, mel());
    let unseen = passt.net().forward(&mut Hooks::none(), mel());
    assert_eq!(read(seen.logits), read(unseen.logits));
}

#[test]
fn audio_that_cannot_be_classified_is_an_error() {
    let passt = tiny_release_file();
    let shortest = vec![0.0; 4801];
    let message = |clip: &[f32]| pollster::block_on(passt.classify(&[&shortest, clip])).unwrap_err().to_string();
    assert_eq!(message(&[]), "clip 1 has 0 samples, `PaSST` needs at least 4801 (151 ms)");
    assert_eq!(message(&shortest[1..]), "clip 1 has 4800 samples, `PaSST` needs at least 4801 (151 ms)");
    let mut broken = vec![0.0; 5000];
    broken[77] = f32::NAN;
    assert_eq!(message(&broken), "clip 1 is not a number at sample 77");
    let infinite = vec![f32::INFINITY; 5000];
    let error = pollster::block_on(passt.classify(&[&infinite])).unwrap_err();
    assert!(matches!(error, PasstError::NotFinite { clip: 0, sample: 0 }));
    assert_eq!(pollster::block_on(passt.classify(&[&shortest])).unwrap().len(), 1);
}

#[test]
fn weights_of_another_size_are_named() {
    let path = fixture("passt_tiny/passt_tiny.safetensors");
    let placement = Placement::plain(&Device::flex());
    let error = Passt::open(&path, &PasstConfig::passt_s_swa_p16_128_ap476(), placement).unwrap_err();
    assert!(matches!(error, LoadError::Shape { key, .. } if key == "patch_embed.proj.weight"));
}

/// Real size, random weights: `tests/reference/passt_real.py FOLDER` writes what this reads.
#[test]
#[ignore = "needs 350 MB that tests/reference/passt_real.py writes to target/reference/passt_real"]
fn the_real_size_matches_hear21passt() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/reference/passt_real");
    let config = PasstConfig::passt_s_swa_p16_128_ap476();
    let passt = Passt::open(&folder.join("passt.pt"), &config, Placement::plain(&Device::flex())).unwrap();
    let file = SafetensorsFile::open(&folder.join("reference.safetensors")).unwrap();
    let expected = Expected(Weights::new(Box::new(file), Placement::plain(&Device::flex())));
    let wave = expected.values("wave", &[128_000]);
    let mel = expected.tensor("mel", [1, 128, 400]).reshape([1, 1, 128, 400]);
    let capture = Capture { points: "encoder.*.resid_post".parse().unwrap(), reduce: Reduce::Everything };
    let spec = Spec { captures: vec![capture], ..Spec::default() };
    let mut hooks = Hooks::new(&spec, &passt.net().points(), &EditTensors::default()).unwrap();
    let output = passt.net().forward(&mut hooks, mel);
    let cache = hooks.finish().unwrap();
    for layer in 0..12 {
        let name = format!("encoder.{layer}.resid_post");
        let got = pollster::block_on(cache.get(&name).unwrap().values()).unwrap();
        expected.assert_close(&name, &[1, 470, 768], &got, BOUND);
    }
    expected.assert_close("features", &[1, 768], &read(output.features), BOUND);
    expected.assert_close("logits", &[1, 527], &read(output.logits), BOUND);
    let start = Instant::now();
    let classified = pollster::block_on(passt.classify(&[&wave])).unwrap();
    println!("4 s classified in {:.2} s", start.elapsed().as_secs_f64());
    expected.assert_close("scene_logits", &[527], &classified[0].logits, BOUND_MEL_32);
}
