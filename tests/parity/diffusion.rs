//! Schedules and samplers against k-diffusion and diffusers, with recorded noise and a model of two small matrices.

use std::{collections::BTreeMap, ops::ControlFlow};

use burn::tensor::{DType, Device, Tensor, TensorData, activation::tanh};
use serde::Deserialize;
use tonoscope_core::{
    checkpoint::SafetensorsFile,
    diffusion::{
        BrownianNoise, Noise, NoiseKey, Observed, RecordedNoise, Sampler, SamplerSettings, Schedule, SolverType, sample,
    },
};
use tonoscope_tests::{Fixture, assert_close, devices, floats};

/// Both sides in 64 bit: coefficients of a handful of operations each, over eight steps.
const DOUBLE: f64 = 1e-13;
/// In 32 bit; k-diffusion's own is 4e-6 from its 64 bit.
const SINGLE: f64 = 1e-5;
/// Steps of the fixture and its levels.
const STEPS: usize = 8;
const LEVELS: [f64; 2] = [0.3, 500.0];

#[derive(Deserialize)]
struct Case {
    sampler: Sampler,
    schedule: Schedule,
    settings: Settings,
}

#[derive(Deserialize)]
struct Settings {
    eta: Option<f64>,
    s_noise: Option<f64>,
    solver_type: Option<SolverType>,
}

impl Case {
    fn how(&self) -> SamplerSettings {
        let default = SamplerSettings { sampler: self.sampler, ..SamplerSettings::default() };
        SamplerSettings {
            eta: self.settings.eta.unwrap_or(default.eta),
            s_noise: self.settings.s_noise.unwrap_or(default.s_noise),
            solver_type: self.settings.solver_type.unwrap_or(default.solver_type),
            ..default
        }
    }
}

/// `x / (s² + 1) − s / √(s² + 1) · w2 tanh(w1 x / √(s² + 1) + b)`, over channels.
struct Toy {
    w1: Tensor<2>,
    b: Tensor<2>,
    w2: Tensor<2>,
}

impl Toy {
    fn new(fixture: &Fixture, dtype: DType, device: &Device) -> Self {
        let matrix = |name: &str| fixture.tensor::<2>(name, device).cast(dtype);
        Self { w1: matrix("toy.w1"), b: matrix("toy.b"), w2: matrix("toy.w2") }
    }

    fn denoise(&self, x: Tensor<3>, sigma: f64) -> Tensor<3> {
        let root = (sigma * sigma + 1.0).sqrt();
        let hidden = tanh(self.w1.clone().unsqueeze().matmul(x.clone() / root) + self.b.clone().unsqueeze());
        x / (root * root) - self.w2.clone().unsqueeze().matmul(hidden) * (sigma / root)
    }
}

fn recorded(fixture: &Fixture, steps: usize) -> RecordedNoise {
    let file = SafetensorsFile::open(&fixture.folder().join("expected.safetensors")).unwrap();
    RecordedNoise::load(&file, 3, 5, steps).expect("noise of the fixture")
}

/// Everything that a sampling passes, as the fixture has it: all `x`, all estimates, the result.
fn trajectory(toy: &Toy, noise: &mut dyn Noise, sigmas: &[f64], how: &SamplerSettings) -> [Vec<f64>; 3] {
    let device = toy.w1.device();
    let x = noise.initial(&device).cast(toy.w1.dtype()) * sigmas[0];
    let (mut xs, mut estimates) = (vec![], vec![]);
    let mut observe = |observed: &Observed| {
        assert_eq!((observed.index, observed.sigma), (xs.len(), sigmas[xs.len()]));
        xs.push(observed.x.clone());
        estimates.push(observed.denoised.clone());
        ControlFlow::Continue(())
    };
    let mut denoise = |_: usize, x: Tensor<3>, sigma: f64| toy.denoise(x, sigma);
    let last = sample(&mut denoise, noise, x, sigmas, how, &mut observe).continue_value().expect("nobody stops it");
    [doubles(Tensor::cat(xs, 0)), doubles(Tensor::cat(estimates, 0)), doubles(last)]
}

fn doubles(tensor: Tensor<3>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().unwrap()
}

fn distance(name: &str, got: &[f64], want: &[f64], bound: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "length of `{name}`");
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let scale = largest(&mut want.iter().map(|value| value.abs()));
    let error = largest(&mut got.iter().zip(want).map(|(got, want)| (got - want).abs())) / scale;
    assert!(error <= bound, "`{name}` differs by {error:.1e}; the bound is {bound:.0e}");
    error
}

#[test]
fn schedules_are_those_of_k_diffusion() {
    let fixture = Fixture::open("samplers");
    for (name, schedule) in [
        ("karras", Schedule::Karras { rho: 7.0 }),
        ("exponential", Schedule::Polyexponential { rho: 1.0 }),
        ("bent", Schedule::Polyexponential { rho: 1.3 }),
    ] {
        let name = format!("sigmas.{name}");
        let sigmas = schedule.sigmas(50, 0.03, 80.0);
        let want = fixture.doubles(&name).0;
        // Relative to each level, not to the largest alone.
        for (got, want) in sigmas.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-13 * want, "{name}: {got} {want}");
        }
        assert_eq!(sigmas.len(), want.len());
    }
}

#[test]
fn samplers_are_those_of_k_diffusion_step_by_step() {
    let fixture = Fixture::open("samplers");
    let cases: BTreeMap<String, Case> = serde_json::from_str(&fixture.metadata("cases")).unwrap();
    assert_eq!(cases.len(), 10);
    for (device, placement) in devices() {
        let on = &placement.device;
        let double = (device == "flex").then_some((DType::F64, DOUBLE));
        for (dtype, bound) in [(DType::F32, SINGLE)].into_iter().chain(double) {
            let toy = Toy::new(&fixture, dtype, on);
            for (name, case) in &cases {
                let sigmas = case.schedule.sigmas(STEPS, LEVELS[0], LEVELS[1]);
                let how = case.how();
                let mut noise = recorded(&fixture, how.noises(STEPS));
                let got = trajectory(&toy, &mut noise, &sigmas, &how);
                let mut largest = 0f64;
                for (part, got) in ["x", "denoised", "last"].into_iter().zip(&got) {
                    let name = format!("{name}.{part}");
                    let (want, shape) = fixture.doubles(&name);
                    // Late steps are as exact as early ones, which are a thousand times larger.
                    let per_step = if part == "last" { want.len() } else { want.len() / shape[0] };
                    for (step, (got, want)) in got.chunks(per_step).zip(want.chunks(per_step)).enumerate() {
                        largest = largest.max(distance(&format!("{device} {name} {step}"), got, want, bound));
                    }
                    assert_eq!(got.len(), want.len());
                }
                println!("{device} {dtype:?} {name} {largest:.1e}");
            }
        }
    }
}

#[test]
fn the_published_sampler_is_that_of_diffusers() {
    let fixture = Fixture::open("samplers");
    for (device, placement) in devices() {
        let toy = Toy::new(&fixture, DType::F32, &placement.device);
        for (name, solver_type) in [("midpoint", SolverType::Midpoint), ("heun", SolverType::Heun)] {
            let how = SamplerSettings { solver_type, ..SamplerSettings::default() };
            let sigmas = Schedule::Polyexponential { rho: 1.0 }.sigmas(STEPS, LEVELS[0], LEVELS[1]);
            let [mut xs, _, last] = trajectory(&toy, &mut recorded(&fixture, STEPS - 1), &sigmas, &how);
            xs.extend(last);
            let name = format!("diffusers_{name}.x");
            let (want, shape) = fixture.doubles(&name);
            let per_step = want.len() / shape[0];
            for (step, (got, want)) in xs.chunks(per_step).zip(want.chunks(per_step)).enumerate() {
                // Its coefficients are of 32 bit too.
                println!("{device} {name} {step} {:.1e}", distance(&format!("{name} {step}"), got, want, 3e-5));
            }
            assert_eq!(xs.len(), want.len());
        }
    }
}

#[test]
fn a_trajectory_is_the_same_bit_for_bit_in_every_batch_and_order() {
    let fixture = Fixture::open("samplers");
    let keys = [NoiseKey::new(4, "piano", 0), NoiseKey::new(4, "piano", 1), NoiseKey::new(4, "violin", 0)];
    let sigmas = Schedule::Polyexponential { rho: 1.0 }.sigmas(12, 0.3, 500.0);
    for (device, placement) in devices() {
        let toy = Toy::new(&fixture, DType::F32, &placement.device);
        for sampler in Sampler::ALL {
            let how = SamplerSettings { sampler, ..SamplerSettings::default() };
            let run = |keys: &[NoiseKey]| {
                let [xs, estimates, last] = trajectory(&toy, &mut BrownianNoise::new(keys, 3, 5), &sigmas, &how);
                let rows = keys.len();
                // From `[step, row, …]` to one trajectory per row.
                let of = |row: usize| -> Vec<f64> {
                    let rows =
                        [&xs, &estimates, &last].into_iter().flat_map(|all| all.chunks(15).skip(row).step_by(rows));
                    rows.flatten().copied().collect()
                };
                (0..rows).map(of).collect::<Vec<_>>()
            };
            let together = run(&keys);
            assert!(together[0] != together[1] && together[0] != together[2], "{device} {sampler}");
            let backwards = run(&[keys[2], keys[1], keys[0]]);
            for (row, key) in keys.iter().enumerate() {
                assert!(run(&[*key])[0] == together[row], "{device} {sampler}: row {row} alone");
                assert!(backwards[2 - row] == together[row], "{device} {sampler}: row {row} in another order");
            }
        }
    }
}

#[test]
fn a_finer_schedule_follows_the_same_path() {
    let (_, placement) = devices().remove(0);
    let key = NoiseKey::new(0, "path", 0);
    let mut noise = BrownianNoise::new(&[key], 2, 7);
    let mut between = |from: f64, to: f64| floats(noise.between(0, from, to, &placement.device));
    let (whole, first, second) = (between(90.0, 10.0), between(90.0, 35.0), between(35.0, 10.0));
    let sum: Vec<f32> =
        first.iter().zip(&second).map(|(a, b)| (a * 55f32.sqrt() + b * 25f32.sqrt()) / 80f32.sqrt()).collect();
    // The grid of levels is a millionth of an octave wide.
    assert_close("two steps", &sum, &whole, 1e-5);
}

#[test]
fn a_sampling_can_be_stopped() {
    let fixture = Fixture::open("samplers");
    let (_, placement) = devices().remove(0);
    let toy = Toy::new(&fixture, DType::F32, &placement.device);
    let sigmas = Schedule::Karras { rho: 7.0 }.sigmas(5, 0.3, 500.0);
    let x = Tensor::from_data(TensorData::new(vec![1f32; 30], [2, 3, 5]), &placement.device);
    let mut steps = 0;
    let mut observe = |observed: &Observed| {
        steps = observed.index;
        if observed.index == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut denoise = |_: usize, x: Tensor<3>, sigma: f64| toy.denoise(x, sigma);
    let mut noise = recorded(&fixture, STEPS - 1);
    let end = sample(&mut denoise, &mut noise, x, &sigmas, &SamplerSettings::default(), &mut observe);
    assert!(end.is_break());
    assert_eq!(steps, 2);
}
