//! Stable Audio against diffusers, k-diffusion and stable-audio-tools.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor};
use tonoscope_core::{
    checkpoint::Placement,
    diffusion::{Noise, Observed, Sampler, SamplerSettings, Schedule},
    hooks::{Component, EditTensors, Hooks, Site, Spec},
    models::stable_audio::{Conditioning, InitialScale, Layout, SampleRequest, StableAudio, StableAudioFiles},
};
use tonoscope_tests::{Fixture, assert_close, capture_everything, devices, floats};

/// PARITY.md §8: one forward pass, a whole sampler run, audio.
const LAYER: f64 = 1e-5;
const RUN: f64 = 3e-5;
const AUDIO: f64 = 2e-5;

/// The text encoder that stable-audio-tools' layout lacks.
fn t5() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join("t5_tiny")
}

fn files(fixture: &Fixture) -> StableAudioFiles {
    StableAudioFiles::open(fixture.folder(), Some(&t5())).unwrap()
}

/// The model of a fixture, and what it makes of the fixture's prompts; with the negative prompt or without.
fn load(fixture: &Fixture, placement: &Placement) -> (StableAudio, [Conditioning; 2]) {
    let files = files(fixture);
    let tokenizer = files.tokenizer().unwrap();
    let model = files.load(placement.clone()).unwrap();
    let prompts: Vec<String> = note(fixture, "prompts");
    let prompts: Vec<_> = prompts.iter().map(|prompt| tokenizer.encode(prompt).unwrap()).collect();
    let negative = tokenizer.encode(&fixture.metadata("negative")).unwrap();
    let seconds: Vec<(f32, f32)> = note(fixture, "seconds");
    let conditions =
        [None, Some(&negative)].map(|negative| model.condition_each(&mut Hooks::none(), &prompts, negative, &seconds));
    (model, conditions)
}

fn note<T: serde::de::DeserializeOwned>(fixture: &Fixture, key: &str) -> T {
    serde_json::from_str(&fixture.metadata(key)).unwrap()
}

fn request(fixture: &Fixture, sampler: Sampler, guidance: f64, rescale: f64) -> SampleRequest {
    SampleRequest {
        steps: note(fixture, "steps"),
        sigma_min: note(fixture, "sigma_min"),
        sigma_max: note(fixture, "sigma_max"),
        schedule: Schedule::Polyexponential { rho: 1.0 },
        sampler: SamplerSettings { sampler, ..SamplerSettings::default() },
        guidance,
        rescale,
        latent_length: 7,
        initial: InitialScale::Sigma,
    }
}

/// The noise that the reference took.
struct Given {
    initial: Tensor<3>,
    steps: Tensor<4>,
}

impl Given {
    fn of(fixture: &Fixture, device: &Device) -> Self {
        Self { initial: fixture.tensor("noise.initial", device), steps: fixture.tensor("noise.steps", device) }
    }
}

impl Noise for Given {
    fn initial(&mut self, _: &Device) -> Tensor<3> {
        self.initial.clone()
    }

    fn between(&mut self, step: usize, _: f64, _: f64, _: &Device) -> Tensor<3> {
        let [_, batch, channels, length] = self.steps.dims();
        self.steps.clone().narrow(0, step, 1).reshape([batch, channels, length])
    }
}

#[test]
fn conditions_are_the_references() {
    for name in ["stable_audio_tiny", "stable_audio_tiny_sat"] {
        let fixture = Fixture::open(name);
        for (device, placement) in devices() {
            let (_, [plain, negative]) = load(&fixture, &placement);
            println!("{name} on {device}");
            fixture.assert_close("cond.cross", plain.cross, LAYER);
            fixture.assert_close("cond.global", plain.global, LAYER);
            fixture.assert_close("cond.negative", negative.negative.unwrap(), LAYER);
        }
    }
}

#[test]
fn texts_are_tokenized_as_by_the_reference() {
    let fixture = Fixture::open("stable_audio_tiny");
    let files = files(&fixture);
    assert_eq!(files.layout, Layout::Diffusers);
    let tokenizer = files.tokenizer().unwrap();
    let mut texts: Vec<String> = note(&fixture, "prompts");
    texts.push(fixture.metadata("long"));
    let (ids, shape) = fixture.ints("input_ids");
    assert_eq!(shape[1], files.config.text_tokens);
    for (text, expected) in texts.iter().zip(ids.chunks(shape[1])) {
        let (mut got, cut) = tokenizer.encode_truncated(text).unwrap();
        assert_eq!(cut > 0, *text == texts[2]);
        assert_eq!(tokenizer.encode(text).is_err(), cut > 0);
        got.resize(shape[1], 0);
        let expected: Vec<u32> = expected.iter().map(|&id| id as u32).collect();
        assert_eq!(got, expected, "{text}");
    }
    assert_eq!(tokenizer.encode_truncated("  ").unwrap(), (vec![], 0));
}

#[test]
fn everything_inside_a_step_is_the_references() {
    let fixture = Fixture::open("stable_audio_tiny");
    for (device, placement) in devices() {
        let (model, [plain, _]) = load(&fixture, &placement);
        let points: Vec<_> = model.points().into_iter().filter(|point| point.component == Component::DIT).collect();
        let spec = Spec { captures: capture_everything(&points), edits: vec![] };
        let mut hooks = Hooks::new(&spec, &points, &EditTensors::new()).unwrap();
        let request = request(&fixture, Sampler::Dpmpp2m, note(&fixture, "guidance"), 0.0);
        let x = fixture.tensor("step.x", &placement.device);
        let estimate = model.estimate(&mut hooks, &plain, &request, x, note(&fixture, "sigma"));
        fixture.assert_close("step.x0", estimate, LAYER);
        let mut worst: f64 = 0.0;
        let mut compared = 0;
        for captured in hooks.finish().unwrap().entries {
            let point = captured.point;
            let shape = captured.shape();
            let tensor = captured.tensor.clone();
            let [branches, prompts, _, units, feature] = tensor.dims();
            let heads = units / captured.positions;
            let tensor: Tensor<4> = tensor.reshape([branches * prompts, heads, captured.positions, feature]);
            if point.site == Site::X0 {
                assert_eq!(captured.axes, ["branch", "prompt", "step", "position", "feature"]);
                assert_eq!(shape, [1, 2, 1, 7, 6], "one row per prompt, after guidance");
                let latents = tensor.reshape([2, 7, 6]).swap_dims(1, 2);
                fixture.assert_close("step.x0", latents, LAYER);
                compared += 1;
                continue;
            }
            // The reference has heads after positions, but for patterns.
            let name = point.to_string();
            let tensor = if point.site.head_axis() == Some(2) { tensor.swap_dims(1, 2) } else { tensor };
            let (want, want_shape) = fixture.floats(&name);
            let numbers: usize = want_shape.iter().product();
            assert_eq!(shape.iter().product::<usize>(), numbers, "{name}: {shape:?} and {want_shape:?}");
            worst = worst.max(assert_close(&name, &floats(tensor), &want, LAYER));
            compared += 1;
        }
        let of_dit = fixture.names().into_iter().filter(|name| name.starts_with("dit.")).count();
        assert_eq!(compared, of_dit + 1, "every recorded tensor was compared, and x0");
        println!("{device}: {compared} tensors, at most {worst:.1e}");
    }
}

#[test]
fn estimates_with_every_kind_of_guidance_are_the_references() {
    for name in ["stable_audio_tiny", "stable_audio_tiny_sat"] {
        let fixture = Fixture::open(name);
        let (guidance, rescale): (f64, f64) = (note(&fixture, "guidance"), note(&fixture, "rescale"));
        for (device, placement) in devices() {
            let (model, [plain, negative]) = load(&fixture, &placement);
            let x: Tensor<3> = fixture.tensor("step.x", &placement.device);
            for (expected, conditions, guidance, rescale) in [
                ("step.x0", &plain, guidance, 0.0),
                ("step.x0_rescale", &plain, guidance, rescale),
                ("step.x0_negative", &negative, guidance, 0.0),
                ("step.x0_unguided", &plain, 1.0, 0.0),
            ] {
                let request = request(&fixture, Sampler::Dpmpp2m, guidance, rescale);
                let sigma = note(&fixture, "sigma");
                let got = model.estimate(&mut Hooks::none(), conditions, &request, x.clone(), sigma);
                let error = fixture.assert_close(expected, got, LAYER);
                println!("{name} on {device}: {expected} {error:.1e}");
            }
        }
    }
}

/// Follows a run and compares every step; returns the latents at its end.
fn follow(
    fixture: &Fixture,
    model: &StableAudio,
    conditions: &Conditioning,
    request: &SampleRequest,
    name: &str,
) -> Tensor<3> {
    let device = model.device();
    let (mut xs, mut estimates) = (vec![], vec![]);
    let mut observe = |observed: &Observed| {
        assert_eq!(observed.index, xs.len());
        xs.push(observed.x.clone());
        estimates.push(observed.denoised.clone());
        ControlFlow::Continue(())
    };
    let mut noise = Given::of(fixture, &device);
    let end = model.sample(&mut Hooks::none(), conditions, request, &mut noise, &mut observe);
    let ControlFlow::Continue(end) = end else { panic!("nobody stopped it") };
    assert_eq!(xs.len(), request.steps);
    let each = |name: &str, got: &[Tensor<3>]| {
        let (want, shape) = fixture.floats(name);
        let numbers = shape[1..].iter().product();
        assert_eq!(shape[0], got.len());
        for (step, (got, want)) in got.iter().zip(want.chunks(numbers)).enumerate() {
            assert_close(&format!("{name} at step {step}"), &floats(got.clone()), want, RUN);
        }
    };
    if name == "diffusers" {
        // diffusers tells of the latents after each step.
        xs.remove(0);
        xs.push(end.clone());
    }
    each(&format!("run.{name}.x"), &xs);
    if fixture.names().contains(&format!("run.{name}.denoised")) {
        each(&format!("run.{name}.denoised"), &estimates);
    }
    let error = fixture.assert_close(&format!("run.{name}.end"), end.clone(), RUN);
    println!("{name}: {error:.1e}");
    end
}

#[test]
fn whole_runs_are_those_of_k_diffusion_diffusers_and_stable_audio_tools() {
    for name in ["stable_audio_tiny", "stable_audio_tiny_sat"] {
        let fixture = Fixture::open(name);
        let tools = name.ends_with("_sat");
        let (guidance, rescale): (f64, f64) = (note(&fixture, "guidance"), note(&fixture, "rescale"));
        for (device, placement) in devices() {
            println!("{name} on {device}");
            let (model, [plain, negative]) = load(&fixture, &placement);
            let of = |sampler, guidance, rescale| request(&fixture, sampler, guidance, rescale);
            let second = of(Sampler::Dpmpp2mSde, guidance, 0.0);
            let end = follow(&fixture, &model, &plain, &second, "2m_sde");
            let audio = model.decode(end.clone(), None);
            assert_eq!(audio.dims(), [2, 2, 7 * model.config().downsampling()]);
            let error = fixture.assert_close("run.2m_sde.audio", audio, 3.0 * AUDIO);
            println!("audio: {error:.1e}");
            // Of the reference's own latents; a decoder of random weights magnifies how far the run's are from them.
            let latents = fixture.tensor("run.2m_sde.end", &placement.device);
            let error = fixture.assert_close("run.2m_sde.audio", model.decode(latents, Some(3)), AUDIO);
            println!("audio of the same latents: {error:.1e}");
            if tools {
                follow(&fixture, &model, &plain, &of(Sampler::Dpmpp3mSde, guidance, 0.0), "3m_sde");
                follow(&fixture, &model, &plain, &of(Sampler::Dpmpp2m, guidance, 0.0), "2m");
            } else {
                follow(&fixture, &model, &negative, &of(Sampler::Dpmpp3mSde, guidance, rescale), "3m_sde");
                follow(&fixture, &model, &plain, &of(Sampler::Dpmpp2m, 1.0, 0.0), "2m");
                let diffusers = SampleRequest { initial: InitialScale::SigmaAndData, ..second };
                follow(&fixture, &model, &plain, &diffusers, "diffusers");
            }
        }
    }
}

#[test]
fn a_pickled_checkpoint_is_the_same_model() {
    let expected = Fixture::open("stable_audio_tiny_sat");
    let folder = expected.folder().with_file_name("stable_audio_tiny_ckpt");
    let (_, placement) = devices().remove(0);
    let files = StableAudioFiles::open(&folder, Some(&t5())).unwrap();
    assert_eq!(files.layout, Layout::StableAudioTools);
    let model = files.load(placement.clone()).unwrap();
    let (same, [plain, _]) = load(&expected, &placement);
    let request = request(&expected, Sampler::Dpmpp2m, 6.0, 0.0);
    let x: Tensor<3> = expected.tensor("step.x", &placement.device);
    let of = |model: &StableAudio| {
        floats(model.estimate(&mut Hooks::none(), &plain, &request, x.clone(), note(&expected, "sigma")))
    };
    assert_eq!(of(&model), of(&same));
}

#[test]
fn other_models_in_the_same_layouts_are_refused() {
    let copy = |from: &Path, file: &str, change: &dyn Fn(String) -> String| {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = folder.path().join(path.file_name().unwrap());
            if path.is_dir() {
                std::fs::create_dir(&to).unwrap();
                for inner in std::fs::read_dir(&path).unwrap() {
                    let inner = inner.unwrap().path();
                    std::fs::copy(&inner, to.join(inner.file_name().unwrap())).unwrap();
                }
            } else {
                std::fs::copy(&path, &to).unwrap();
            }
        }
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text, "{file}");
        std::fs::write(&path, changed).unwrap();
        folder
    };
    let refused = |folder: &Path| {
        let Err(error) = StableAudioFiles::open(folder, Some(&t5())) else { panic!("it was opened") };
        error.to_string()
    };
    for (name, file, old, new, expected) in [
        ("stable_audio_tiny_sat", "model_config.json", "\"dit\"", "\"adp_1d\"", "expected `dit`"),
        (
            "stable_audio_tiny_sat",
            "model_config.json",
            "\"io_channels\": 6,",
            "\"io_channels\": 6, \"patch_size\": 2,",
            "patch_size",
        ),
        ("stable_audio_tiny_sat", "model_config.json", "\"diffusion_cond\"", "\"diffusion_uncond\"", "diffusion_cond"),
        ("stable_audio_tiny_sat", "model_config.json", "\"num_heads\": 4", "\"num_heads\": 0", "0 heads"),
        (
            "stable_audio_tiny",
            "transformer/config.json",
            "\"num_attention_heads\": 4",
            "\"num_attention_heads\": 3",
            "share",
        ),
        ("stable_audio_tiny", "scheduler/scheduler_config.json", "v_prediction", "epsilon", "v_prediction"),
        (
            "stable_audio_tiny",
            "projection_model/config.json",
            "\"conditioning_dim\": 24",
            "\"conditioning_dim\": 25",
            "24 and 25",
        ),
        (
            "stable_audio_tiny",
            "tokenizer/tokenizer_config.json",
            "\"model_max_length\": 33",
            "\"model_max_length\": 0",
            "no tokens",
        ),
    ] {
        let from = Fixture::open(name);
        let folder = copy(from.folder(), file, &|text| text.replacen(old, new, 1));
        let message = refused(folder.path());
        assert!(message.contains(expected), "{message}");
    }
    let from = Fixture::open("stable_audio_tiny_sat");
    let Err(error) = StableAudioFiles::open(from.folder(), None) else { panic!("it has no text encoder") };
    assert!(error.to_string().contains("t5-base"), "{error}");
}
