//! Stable Audio Open at its real size, with random weights: `just parity-stable-audio FOLDER`.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    checkpoint::{Placement, SafetensorsFile, Source, Weights},
    diffusion::{SamplerSettings, Schedule},
    hooks::Hooks,
    models::{
        oobleck::Oobleck,
        stable_audio::{InitialScale, SampleRequest, StableAudioFiles},
    },
};
use tonoscope_tests::{devices, floats, relative_error};

/// PARITY.md §8: one forward pass.
const LAYER: f64 = 1e-5;

/// The folder, and what the reference makes of some inputs.
struct Real {
    folder: PathBuf,
    expected: SafetensorsFile,
    notes: BTreeMap<String, String>,
}

impl Real {
    fn open() -> Self {
        let folder =
            PathBuf::from(std::env::var("TONOSCOPE_REAL_SIZE_SAO").expect("TONOSCOPE_REAL_SIZE_SAO names the folder"));
        let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
        let notes = expected.metadata();
        Self { folder, expected, notes }
    }

    fn values(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let raw = self.expected.read(name).unwrap();
        let values = raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (values.collect(), raw.shape.clone())
    }

    fn tensor(&self, name: &str, device: &Device) -> Tensor<3> {
        let (values, shape) = self.values(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Checks `got` against what was expected as `name`.
    fn near(&self, device: &str, name: &str, got: Tensor<3>, bound: f64) {
        let error = relative_error(&floats(got), &self.values(name).0);
        println!("{device}: {name} {error:.1e}");
        assert!(error < bound, "{name} on {device}: {error:.1e}, not below {bound:.1e}");
    }
}

/// All devices but a GPU in software, which would take hours.
fn fast_devices() -> impl Iterator<Item = (&'static str, Placement)> {
    devices().into_iter().filter(|(name, _)| *name != "webgpu")
}

#[test]
#[ignore = "needs the folder that tests/reference/stable_audio_real.py writes, and minutes"]
fn real_stable_audio_takes_the_step_of_diffusers() {
    let real = Real::open();
    for (device, placement) in fast_devices() {
        let files = StableAudioFiles::open(&real.folder, None).unwrap();
        let model = files.load(placement.clone()).unwrap();
        let ids: Vec<u32> = serde_json::from_str(&real.notes["ids"]).unwrap();
        let condition = model.condition(&mut Hooks::none(), &[ids], None, 0.0, 10.0);
        real.near(device, "cond.cross", condition.cross.clone(), LAYER);
        real.near(device, "cond.global", condition.global.clone(), LAYER);
        let names = real.expected.names();
        for length in names.into_iter().filter_map(|name| name.strip_suffix(".x")?.parse::<usize>().ok()) {
            let x = real.tensor(&format!("{length}.x"), &placement.device);
            let request = SampleRequest {
                steps: 1,
                sigma_min: 0.3,
                sigma_max: 500.0,
                schedule: Schedule::Polyexponential { rho: 1.0 },
                sampler: SamplerSettings::default(),
                guidance: 6.0,
                rescale: 0.0,
                latent_length: length,
                initial: InitialScale::Sigma,
            };
            let start = Instant::now();
            let got = model.estimate(&mut Hooks::none(), &condition, &request, x, 3.7);
            real.near(device, &format!("{length}.x0"), got, LAYER);
            println!("{device}: a step of {length} latents took {:.1} s", start.elapsed().as_secs_f64());
        }
    }
}

#[test]
#[ignore = "needs the folder that tests/reference/stable_audio_real.py writes, and a minute"]
fn real_stable_audio_hears_and_sounds_as_near_to_64_bits_as_diffusers() {
    let real = Real::open();
    let errors: BTreeMap<String, f64> = serde_json::from_str(&real.notes["vae_errors"]).unwrap();
    for (device, placement) in fast_devices() {
        let config = StableAudioFiles::open(&real.folder, None).unwrap().config.vae;
        let file = SafetensorsFile::open(&real.folder.join("vae/diffusion_pytorch_model.safetensors")).unwrap();
        let model = Oobleck::load(&config, &Weights::new(Box::new(file), placement.clone())).unwrap();
        // Both round 32 bits, each in its own order: neither is the nearer one by right.
        let bound = |name: &str| 2.0 * errors[name];
        let sound = model.decode(real.tensor("vae.latents", &placement.device));
        real.near(device, "vae.audio", sound, bound("vae.audio"));
        let heard = model.encode(real.tensor("vae.wave", &placement.device));
        real.near(device, "vae.mean", heard.mean, bound("vae.mean"));
    }
}
