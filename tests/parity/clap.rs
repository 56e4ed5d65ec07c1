//! CLAP against transformers, intermediate by intermediate: `tests/reference/clap_tiny.py`.

use std::fs;

use burn::tensor::Tensor;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::{LoadError, Placement},
    hooks::{EditTensors, HookPoint, Hooks, Spec},
    models::clap::{
        CHECKED_TEXTS, Clap, ClapConfig, ClapError, ClapFiles, FeatureConfig, FrontEnd, Padding, Tower, Truncation,
    },
};
use tonoscope_tests::{
    Fixture, OnHost, assert_close, capture_everything, claps::clap_with, devices, floats, relative_error,
};

/// One layer after another in 32 bit; the reference against itself in 64 bit is at 7e-7 after all of them.
const LAYER: f64 = 1e-5;
/// The front end: both sides in 64 bit until the spectra, which the reference stores in 32.
const MEL: f64 = 1e-6;

fn load(fixture: &Fixture, placement: &Placement) -> Clap {
    ClapFiles::open(fixture.folder()).unwrap().load(placement.clone()).expect("the fixture fits")
}

fn flex() -> Placement {
    devices().remove(0).1
}

fn waves(fixture: &Fixture) -> Vec<Vec<f32>> {
    let names = fixture.names().into_iter().filter(|name| name.starts_with("wave."));
    names.map(|name| fixture.floats(&name).0).collect()
}

fn embed(clap: &Clap, waves: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let clips: Vec<&[f32]> = waves.iter().map(Vec::as_slice).collect();
    pollster::block_on(clap.embed_audio(&clips)).unwrap()
}

#[test]
fn clap_front_ends_match_transformers() {
    for name in ["clap_tiny", "clap_fused_tiny"] {
        let fixture = Fixture::open(name);
        let features = ClapFiles::open(fixture.folder()).unwrap().features;
        let front_end = FrontEnd::new(&features);
        let waves = waves(&fixture);
        let heard: Vec<_> = waves.iter().map(|wave| front_end.features(wave)).collect();
        let mel: Vec<f32> = heard.iter().flat_map(|of| of.mel.clone()).collect();
        let error = assert_close("audio.mel", &mel, &fixture.floats("audio.mel").0, MEL);
        let longer: Vec<i64> = heard.iter().map(|of| i64::from(of.is_longer)).collect();
        println!("{name}: {error:.1e}, longer: {longer:?}");
        if features.truncation == Truncation::Fusion {
            assert_eq!(longer, fixture.ints("audio.is_longer").0);
            for (padding, name) in [(Padding::Repeat, "mel.repeat"), (Padding::Pad, "mel.pad")] {
                let heard = FrontEnd::new(&FeatureConfig { padding, ..features.clone() }).features(&waves[0]);
                let (want, _) = fixture.floats(name);
                assert_close(name, &heard.mel[..want.len()], &want, MEL);
            }
        }
    }
}

#[test]
fn other_rates_match_torchaudio() {
    let fixture = Fixture::open("clap_tiny");
    for (from, to) in [(16_000, 48_000), (44_100, 48_000), (48_000, 8_000)] {
        let wave = Waveform::new(vec![fixture.floats(&format!("rate.{from}.in")).0], from).unwrap();
        let out = wave.resample_sinc(to).unwrap();
        let name = format!("rate.{from}.{to}");
        let error = assert_close(&name, &out.channels()[0], &fixture.floats(&name).0, 1e-6);
        // Where torchaudio computes its kernel in 32 bit.
        let narrow = format!("{name}.f32");
        let narrow = assert_close(&narrow, &out.channels()[0], &fixture.floats(&narrow).0, 1e-5);
        println!("{from} to {to}: {error:.1e}, {narrow:.1e}");
    }
}

#[test]
fn the_front_end_of_the_real_model_matches_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/reference/frontend_refs.npz");
    let Ok(file) = fs::read(path) else {
        eprintln!("SKIPPED the_front_end_of_the_real_model_matches_transformers: there is no {path}");
        return;
    };
    let heard = FrontEnd::new(&FeatureConfig::larger_general()).features(&numpy_floats(&file, "x48"));
    let error = assert_close("clap_mel", &heard.mel, &numpy_floats(&file, "clap_mel"), MEL);
    println!("4 s at real size: {error:.1e}");
}

/// An array of 32-bit floats in an uncompressed `.npz` file.
fn numpy_floats(file: &[u8], name: &str) -> Vec<f32> {
    let find = |needle: &[u8], from: usize| {
        from + file[from..].windows(needle.len()).position(|window| window == needle).expect("it is in the file")
    };
    let start = find(b"\x93NUMPY\x01\x00", find(format!("{name}.npy").as_bytes(), 0));
    let header = usize::from(u16::from_le_bytes([file[start + 8], file[start + 9]]));
    let text = std::str::from_utf8(&file[start + 10..start + 10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let len: usize = shape.split(',').filter_map(|len| len.trim().parse::<usize>().ok()).product();
    let data = &file[start + 10 + header..][..4 * len];
    data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn hooks(points: &[HookPoint]) -> Hooks<'static> {
    let spec = Spec { captures: capture_everything(points), edits: vec![] };
    Hooks::new(&spec, points, &EditTensors::default()).unwrap()
}

/// Compares what was captured with what the reference has under the same name; says how many there were.
fn compare(fixture: &Fixture, prefix: &str, captured: Vec<OnHost>, device: &str) -> usize {
    let known = fixture.names();
    let (mut worst, mut compared) = ((0.0, String::new()), 0);
    for OnHost { name, shape, values } in captured {
        let name = format!("{prefix}{name}");
        if !known.contains(&name) {
            continue;
        }
        let (want, expected) = fixture.floats(&name);
        assert_eq!(shape[1..], expected, "shape of `{name}`");
        let error = assert_close(&format!("{name} on {device}"), &values, &want, LAYER);
        compared += 1;
        if error > worst.0 {
            worst = (error, name);
        }
    }
    println!("{device}: {compared} points, at most {:.1e}, at {}", worst.0, worst.1);
    compared
}

/// Tokens row by row, as the reference keeps them.
fn row_by_row(clap: &Clap, mut captured: OnHost) -> OnHost {
    let layers = clap.config().audio_config.depths.iter().sum::<usize>();
    let layer = match captured.name.split('.').nth(1).unwrap() {
        "embed" => 0,
        "final_norm" => layers - 1,
        layer => layer.parse().unwrap(),
    };
    let order = clap.audio().order(layer);
    let [.., rows, tokens, width] = captured.shape[..] else { panic!("{:?}", captured.shape) };
    assert_eq!(tokens, order.len());
    let mut values = vec![f32::NAN; captured.values.len()];
    for row in 0..rows {
        for (from, to) in order.iter().enumerate() {
            let at = |token: usize| (row * tokens + token) * width;
            values[at(*to)..at(*to) + width].copy_from_slice(&captured.values[at(from)..at(from) + width]);
        }
    }
    captured.values = values;
    captured
}

#[test]
fn every_part_of_the_audio_tower_matches_transformers() {
    for (name, points) in [("clap_tiny", 23), ("clap_fused_tiny", 11)] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let clap = load(&fixture, &placement);
            let mel: Tensor<4> = fixture.tensor("audio.mel", &placement.device);
            let longer: Vec<bool> = match name {
                "clap_tiny" => vec![false; mel.dims()[0]],
                _ => fixture.ints("audio.is_longer").0.iter().map(|&longer| longer == 1).collect(),
            };
            let normal = clap.audio().normalised(mel.clone());
            fixture.assert_close("audio.normalised", normal.clone(), LAYER);
            fixture.assert_close("audio.image", clap.audio().picture(normal), LAYER);
            let mut hooks = hooks(&clap.audio().points());
            let pooled = clap.audio().forward(&mut hooks, mel, &longer);
            let captured = pollster::block_on(tonoscope_tests::read(hooks.finish().unwrap()));
            let captured = captured.into_iter().map(|of| row_by_row(&clap, of)).collect();
            assert_eq!(compare(&fixture, "", captured, device), points, "compared points");
            fixture.assert_close("audio.pooled", pooled.clone(), LAYER);
            fixture.assert_close("audio.projected", clap.project_audio(pooled), LAYER);
        }
    }
}

#[test]
fn every_part_of_the_text_tower_matches_transformers() {
    let fixture = Fixture::open("clap_tiny");
    let (ids, shape) = fixture.ints("text.ids");
    let texts: Vec<Vec<u32>> =
        ids.chunks(shape[1]).map(|row| row.iter().map(|&id| id as u32).filter(|&id| id != 1).collect()).collect();
    assert!(texts[0].len() < texts[1].len(), "one text is padded");
    for (device, placement) in devices() {
        let clap = load(&fixture, &placement);
        let mut hooks = hooks(&clap.text().points());
        let states = clap.text().forward(&mut hooks, &texts, shape[1]);
        let captured = pollster::block_on(tonoscope_tests::read(hooks.finish().unwrap()));
        assert_eq!(compare(&fixture, "text.", captured, device), 1 + 2 * 12, "compared points");
        fixture.assert_close("text.pooled", states.pooled.clone(), LAYER);
        fixture.assert_close("text.projected", clap.project_text(states.pooled), LAYER);
        let embedded = pollster::block_on(clap.embed_text(&texts)).unwrap().concat();
        assert_close("text.embedding", &embedded, &fixture.floats("text.embedding").0, LAYER);
    }
}

#[test]
fn sound_and_text_in_are_the_vectors_and_scores_of_transformers() {
    for name in ["clap_tiny", "clap_fused_tiny"] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let clap = load(&fixture, &placement);
            let embedded = embed(&clap, &waves(&fixture));
            let error = assert_close(name, &embedded.concat(), &fixture.floats("audio.embedding").0, LAYER);
            println!("{name} on {device}: {error:.1e}");
        }
    }
    let fixture = Fixture::open("clap_tiny");
    let files = ClapFiles::open(fixture.folder()).unwrap();
    let tokenizer = files.tokenizer().unwrap();
    let texts: Vec<String> = serde_json::from_str(&fixture.metadata("texts")).unwrap();
    let ids: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let clap = files.load(flex()).unwrap();
    let texts = pollster::block_on(clap.embed_text(&ids)).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let logits: Vec<f32> = embed(&clap, &waves(&fixture))
        .iter()
        .flat_map(|sound| texts.iter().map(|text| (clap.logit_scale() * dot(sound, text)) as f32).collect::<Vec<_>>())
        .collect();
    assert_close("logits_per_audio", &logits, &fixture.floats("logits_per_audio").0, LAYER);
}

#[test]
fn pickled_weights_are_the_same_weights() {
    let fixture = Fixture::open("clap_tiny");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "pytorch_model.bin"] {
        fs::copy(fixture.folder().join(name), folder.path().join(name)).unwrap();
    }
    let pickled = ClapFiles::open(folder.path()).unwrap().load(flex()).unwrap();
    let waves = waves(&fixture);
    assert_eq!(embed(&pickled, &waves), embed(&load(&fixture, &flex()), &waves));
}

#[test]
fn a_clip_or_text_does_not_depend_on_the_others() {
    for name in ["clap_tiny", "clap_fused_tiny"] {
        let fixture = Fixture::open(name);
        let clap = load(&fixture, &flex());
        let waves = waves(&fixture);
        let together = embed(&clap, &waves);
        for (wave, together) in waves.iter().zip(&together) {
            let error = relative_error(&embed(&clap, std::slice::from_ref(wave))[0], together);
            assert!(error < 1e-6, "{error:.1e}");
        }
        let texts = [vec![0, 9, 8, 2], vec![0; 40]];
        let together = pollster::block_on(clap.embed_text(&texts)).unwrap();
        let alone = pollster::block_on(clap.embed_text(&texts[..1])).unwrap();
        let error = relative_error(&alone[0], &together[0]);
        assert!(error < 1e-6, "{error:.1e}");
        assert!(embed(&clap, &[]).is_empty());
    }
}

#[test]
fn towers_that_tell_nothing_apart_are_refused() {
    let checked = |prefix: &str, value: f32| {
        let folder = tempfile::tempdir().unwrap();
        clap_with(folder.path(), prefix, value);
        let files = ClapFiles::open(folder.path()).unwrap();
        let tokenizer = files.tokenizer().unwrap();
        let texts: Vec<_> = CHECKED_TEXTS.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
        let clap = files.load(flex()).unwrap();
        [pollster::block_on(clap.check_audio()), pollster::block_on(clap.check_text(&texts))]
    };
    let tower = |result: &Result<(), ClapError>| match result {
        Ok(()) => None,
        Err(ClapError::Degenerate { tower, .. }) => Some(*tower),
        Err(error) => panic!("{error}"),
    };
    for (prefix, value, expected) in [
        // Nothing is changed: every scale is known.
        ("logit_scale_t", 1.0, [None, None]),
        ("audio_projection.linear1.weight", 0.0, [Some(Tower::Audio), None]),
        ("audio_model.audio_encoder.layers.0.blocks.0.attention", f32::NAN, [Some(Tower::Audio), None]),
        ("text_model.pooler", 0.0, [None, Some(Tower::Text)]),
        ("text_projection.linear2", 0.0, [None, Some(Tower::Text)]),
    ] {
        let results = checked(prefix, value);
        assert_eq!([tower(&results[0]), tower(&results[1])], expected, "{prefix} {value}: {results:?}");
    }
}

#[test]
fn what_is_no_sound_or_no_text_is_an_error() {
    let clap = load(&Fixture::open("clap_tiny"), &flex());
    let audio = |clips: &[&[f32]]| pollster::block_on(clap.embed_audio(clips)).unwrap_err().to_string();
    assert_eq!(audio(&[&[0.1], &[]]), "clip 1 has no samples");
    assert_eq!(audio(&[&[0.1, f32::NAN]]), "clip 0 is not a number at sample 1");
    let error = pollster::block_on(clap.embed_text(&[vec![0, 2], vec![]])).unwrap_err();
    assert_eq!(error.to_string(), "text 1 is empty");
    let folder = tempfile::tempdir().unwrap();
    clap_with(folder.path(), "audio_projection.linear2", f32::NAN);
    let broken = ClapFiles::open(folder.path()).unwrap().load(flex()).unwrap();
    let error = pollster::block_on(broken.embed_audio(&[&[0.1; 100]])).unwrap_err();
    assert!(matches!(error, ClapError::Overflow { input: 0 }), "{error}");
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let fixture = Fixture::open("clap_tiny");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture.folder()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let refused = |file: &str, old: &str, new: &str| {
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "`{old}`");
        fs::write(&path, text.replacen(old, new, 1)).unwrap();
        let error = ClapFiles::open(folder.path()).and_then(|files| files.load(flex())).map(|_| ()).unwrap_err();
        fs::write(&path, text).unwrap();
        error
    };
    let config = |file: &str, old: &str, new: &str, part: &str| match refused(file, old, new) {
        LoadError::Config { reason, .. } => assert!(reason.contains(part), "{reason}"),
        error => panic!("{error}"),
    };
    config("config.json", "\"model_type\": \"clap\"", "\"model_type\": \"clip\"", "`clip`");
    config("config.json", "\"spec_size\": 64", "\"spec_size\": 60", "16 mel bins");
    config("config.json", "\"gelu\"", "\"gelu_new\"", "gelu_new");
    config("preprocessor_config.json", "rand_trunc", "fusion", "four spectrograms");
    config("preprocessor_config.json", "\"feature_size\": 16", "\"feature_size\": 17", "16 bands");
    config("preprocessor_config.json", "\"hop_length\": 32", "\"hop_length\": 16", "501 frames");
    config("preprocessor_config.json", "\"hop_length\": 32", "\"hop_length\": 0", "no frames");
    config("preprocessor_config.json", "\"padding\": \"repeatpad\"", "\"padding\": \"mirror\"", "mirror");
    let error = refused(
        "config.json",
        "\"projection_dim\": 24,\n  \"projection_hidden_act\"",
        "\"projection_dim\": 25,\n  \"projection_hidden_act\"",
    );
    assert!(matches!(error, LoadError::Shape { .. }), "{error}");
    assert!(matches!(
        refused("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
        LoadError::Unused { .. }
    ));
}

#[test]
fn configurations_of_real_models_are_understood() {
    // What is left out of a published configuration has transformers' value.
    let config: ClapConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, ClapConfig::default());
    let fixture = Fixture::open("clap_fused_tiny");
    let config: ClapConfig = fixture.config(None);
    assert!(config.audio_config.enable_fusion);
    assert_eq!(config.audio_config.frames(), 64);
    let clap = load(&fixture, &flex());
    let (mel, _) = clap.spectrograms(&[&[0.5; 100]]);
    assert_eq!((mel.dims(), floats(mel).len()), ([1, 4, 63, 64], 4 * 63 * 64));
}
