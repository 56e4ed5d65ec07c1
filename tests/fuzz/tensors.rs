//! safetensors files and what our own ones hold: edits, means, translators, probes, noise, states of trainings.

use std::collections::BTreeMap;

use burn::tensor::Device;
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::{
    checkpoint::{SafetensorsFile, Source, read_numbers},
    diffusion::RecordedNoise,
    hooks::{Branch, EditFile},
    interventions::MeanActivations,
    lens::{Origin, TranslatorFile},
    readout::{LinearProbe, Probe, Readout},
    training::{Parameters, TrainState},
};
use tonoscope_tests::fuzz::{check_repaired, safetensors};

use super::fixture;

/// A file of floats counted up.
fn file(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let stored: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|&(name, shape)| {
            let values = (0..shape.iter().product::<usize>()).flat_map(|index| (index as f32).to_le_bytes());
            (name, shape, values.collect())
        })
        .collect();
    let views =
        stored.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    let metadata = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

#[test]
fn checkpoints() {
    let mut all = vec![file(&[("a", &[2, 3]), ("b", &[0]), ("c", &[])], &[("format", "pt")])];
    for (dtype, size) in [(Dtype::F64, 8), (Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::BOOL, 1), (Dtype::I64, 8)] {
        let bytes = vec![1; 6 * size];
        let view = TensorView::new(dtype, vec![3, 2], &bytes).unwrap();
        all.push(safetensors::serialize([("t", view)], None).unwrap());
    }
    check_repaired("safetensors", &all, safetensors, |bytes| {
        let content = bytes.to_vec();
        let len = content.len() as u64;
        let piece = move |range: std::ops::Range<u64>| {
            let piece = content.get(range.start as usize..range.end as usize);
            piece.map(<[u8]>::to_vec).ok_or_else(|| std::io::Error::other("beyond the end"))
        };
        for file in [SafetensorsFile::from_bytes("x", bytes.to_vec()), SafetensorsFile::from_reader("x", len, piece)]
            .into_iter()
            .flatten()
        {
            for name in file.names() {
                drop(file.shape(&name));
                drop(file.read(&name));
                drop(read_numbers(&file, &name));
            }
            drop(file.metadata());
        }
    });
}

#[test]
fn edits() {
    let edits = r#"[{"points": "decoder.1.mlp_out", "scope": {"branch": "cond", "prompts": [0, 2],
        "steps": {"start": 0, "end": 3}}, "change": {"do": "add", "value": {"tensor": "v", "axes": ["feature"]},
        "scale": 1.5}}, {"points": "decoder.*.resid_post", "change": {"do": "zero"}}]"#;
    let all = [
        file(&[("v", &[4])], &[("tonoscope.edits", edits)]),
        file(&[("v", &[1, 2, 2])], &[("tonoscope.edits", edits)]),
    ];
    check_repaired("edits", &all, safetensors, |bytes| {
        if let Ok(edits) = EditFile::from_bytes("x", bytes.to_vec()) {
            drop(edits.to_bytes());
        }
    });
}

#[test]
fn translators() {
    let origin = Origin { layers: 3, width: 2, model: "m".to_owned(), positions: 5, alpha: 0.5 };
    let layers = (1..3).map(|layer| (layer, (vec![0.5; 4], vec![0.0; 2]))).collect();
    let seed = TranslatorFile { origin, layers }.to_bytes().unwrap();
    check_repaired("translators", &[seed], safetensors, |bytes| drop(TranslatorFile::from_bytes("x", bytes.to_vec())));
}

#[test]
fn readouts() {
    let probe = |kind| LinearProbe {
        kind,
        mean: vec![0.1, 0.2],
        scale: vec![1.0, 0.0],
        weights: vec![0.0, 0.0, 1.0, 2.0],
        intercept: vec![0.0, 1.0],
    };
    let probes = BTreeMap::from([
        ("decoder.0.resid_post".parse().unwrap(), probe(Probe::Logistic { c: 0.1 })),
        ("decoder.10.resid_post:mean_time".parse().unwrap(), probe(Probe::Ridge { alpha: 2.0 })),
    ]);
    let labels = vec!["guitar".to_owned(), "piano".to_owned()];
    let seed = Readout { labels, branch: Branch::Cond, per_frame: false, rows: 12, probes }.to_bytes().unwrap();
    check_repaired("readouts", &[seed], safetensors, |bytes| {
        if let Ok(readout) = Readout::from_bytes("x", bytes.to_vec()) {
            for probe in readout.probes.values() {
                drop(probe.scores(&vec![0.5; probe.width()]));
            }
        }
    });
}

#[test]
fn means() {
    let key = serde_json::json!({"model": "m", "frames": 3});
    let tensors: [(&str, &[usize]); 2] =
        [("decoder.0.resid_post", &[2, 1, 3, 1, 2]), ("decoder.1.self_attn.q", &[1, 1, 2, 2, 2])];
    let seed = file(&tensors, &[("tonoscope.means", &key.to_string())]);
    let shapes = tensors.iter().map(|(name, shape)| (name.parse().unwrap(), (*shape).try_into().unwrap())).collect();
    let device = Device::default();
    check_repaired("means", &[seed], safetensors, |bytes| {
        drop(MeanActivations::from_bytes("x", bytes.to_vec(), &key, &shapes, &device));
    });
}

#[test]
fn recorded_noise() {
    let all = [
        file(&[("initial", &[3, 1, 2]), ("steps", &[2, 3, 1, 2])], &[]),
        file(&[("initial", &[1, 1, 2])], &[]),
        file(&[("initial", &[2, 1, 2]), ("steps", &[0, 2, 1, 2])], &[]),
    ];
    check_repaired("recorded_noise", &all, safetensors, |bytes| {
        let Ok(file) = SafetensorsFile::from_bytes("x", bytes.to_vec()) else { return };
        for steps in [0, 2] {
            if let Ok(noise) = RecordedNoise::load(&file, 1, 2, steps)
                && noise.batch() > 0
            {
                drop(noise.rows(0..1));
            }
        }
    });
}

#[test]
fn training_states() {
    let device = Device::default();
    let names = BTreeMap::from([("a.weight".to_owned(), vec![2, 2]), ("a.bias".to_owned(), vec![2])]);
    let parameters = || Parameters::random(&names, |_| true, |_, _| None, 1, &device).unwrap();
    let seed = pollster::block_on(parameters().to_bytes(TrainState { step: 3, seed: 1 })).unwrap();
    let mut restored = parameters();
    let restored = std::cell::RefCell::new(&mut restored);
    check_repaired("training_states", &[seed], safetensors, |bytes| drop(restored.borrow_mut().restore(bytes)));
}

#[test]
fn generated_tensors() {
    let seed = fixture("musicgen_tiny/expected_long.safetensors");
    check_repaired("generated_tensors", &[seed], safetensors, |bytes| {
        if let Ok(file) = SafetensorsFile::from_bytes("x", bytes.to_vec()) {
            drop(file.names().iter().map(|name| read_numbers(&file, name).is_ok()).collect::<Vec<_>>());
        }
    });
}
