//! Hooks in the diffusion transformer: they change nothing unless they are asked to, and then what they are asked to.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use tonoscope_core::{
    checkpoint::{Placement, SafetensorsFile},
    diffusion::{BrownianNoise, NoiseKey, Observed, RecordedNoise, Sampler, SamplerSettings, Schedule},
    hooks::{
        Axis, Branch, Cache, Capture, Change, Component, Edit, EditTensors, HookError, HookPoint, Hooks, Reduce, Scope,
        Selector, Site, Spec, Value,
    },
    models::stable_audio::{InitialScale, SampleRequest, StableAudio, StableAudioFiles},
};
use tonoscope_tests::{Fixture, assert_close, capture_everything, devices, floats};

const STEPS: usize = 3;
const LENGTH: usize = 5;
const PROMPTS: [&[u32]; 2] = [&[48, 50, 73, 94, 90, 120, 1], &[48, 50, 86, 56, 91, 1]];

fn load(placement: &Placement) -> StableAudio {
    let fixture = Fixture::open("stable_audio_tiny");
    StableAudioFiles::open(fixture.folder(), None).unwrap().load(placement.clone()).unwrap()
}

fn request(guidance: f64) -> SampleRequest {
    SampleRequest {
        steps: STEPS,
        sigma_min: 0.3,
        sigma_max: 500.0,
        schedule: Schedule::Polyexponential { rho: 1.0 },
        sampler: SamplerSettings { sampler: Sampler::Dpmpp3mSde, ..SamplerSettings::default() },
        guidance,
        rescale: 0.0,
        latent_length: LENGTH,
        initial: InitialScale::Sigma,
    }
}

fn noise(rows: &[usize]) -> BrownianNoise {
    let keys: Vec<NoiseKey> = rows.iter().map(|row| NoiseKey::new(1, &row.to_string(), 0)).collect();
    BrownianNoise::new(&keys, 6, LENGTH)
}

/// Bits of the latents of `rows` of the prompts, and what was captured.
fn run(
    model: &StableAudio,
    rows: &[usize],
    spec: &Spec,
    tensors: &EditTensors,
) -> Result<(Vec<u32>, Cache), HookError> {
    let mut hooks = Hooks::new(spec, &model.points(), tensors)?;
    let prompts: Vec<_> = rows.iter().map(|&row| PROMPTS[row].to_vec()).collect();
    let conditions = model.condition(&mut hooks, &prompts, None, 0.0, 10.0);
    let mut watch = |_: &Observed| ControlFlow::Continue(());
    let end = model.sample(&mut hooks, &conditions, &request(6.0), &mut noise(rows), &mut watch);
    let cache = hooks.finish()?;
    let ControlFlow::Continue(end) = end else { panic!("hooks that did not fail do not stop a run") };
    Ok((bits(end), cache))
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    floats(tensor).into_iter().map(f32::to_bits).collect()
}

fn edit(points: &str, scope: Scope, change: Change) -> Spec {
    Spec { captures: vec![], edits: vec![Edit { points: points.parse().unwrap(), scope, change }] }
}

fn value(axes: &[Axis]) -> Value {
    Value { tensor: "v".to_owned(), axes: axes.to_vec() }
}

#[test]
fn capturing_everything_changes_no_bit() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let plain = run(&model, &[0, 1], &Spec::default(), &EditTensors::new()).unwrap().0;
        let spec = Spec { captures: capture_everything(&model.points()), edits: vec![] };
        let (watched, cache) = run(&model, &[0, 1], &spec, &EditTensors::new()).unwrap();
        assert_eq!(watched, plain, "{device}");
        let shape = |point: &str| cache.get(point).unwrap().shape();
        assert_eq!(shape("dit.1.resid_post"), [2, 2, STEPS, LENGTH + 1, 64], "{device}");
        assert_eq!(shape("dit.0.self_attn.pattern"), [2, 2, STEPS, 4, LENGTH + 1, LENGTH + 1], "{device}");
        assert_eq!(shape("dit.0.cross_attn.k"), [2, 2, STEPS, 2, 35, 16], "{device}");
        assert_eq!(shape("dit.x0"), [1, 2, STEPS, LENGTH, 6], "{device}");
        // Each point alone, so that no other one makes the unconditional half compute.
        for point in model.points().into_iter().filter(|point| point.component == Component::DIT) {
            let spec = Spec { captures: capture_everything(&[point]), edits: vec![] };
            assert_eq!(run(&model, &[0, 1], &spec, &EditTensors::new()).unwrap().0, plain, "{point} on {device}");
        }
    }
}

#[test]
fn patching_a_run_with_its_own_activations_changes_no_bit() {
    let (device, placement) = devices().remove(0);
    let model = load(&placement);
    let plain = run(&model, &[0, 1], &Spec::default(), &EditTensors::new()).unwrap().0;
    for point in model.points().into_iter().filter(|point| point.component == Component::DIT) {
        let captures = vec![Capture { points: Selector::point(point), reduce: Reduce::Everything }];
        let cache = run(&model, &[0, 1], &Spec { captures, edits: vec![] }, &EditTensors::new()).unwrap().1;
        let captured = cache.get(point).unwrap();
        let [branches, prompts, steps, units, features] = captured.tensor.dims();
        let heads = units / captured.positions;
        let mut tensors = EditTensors::new();
        let mut edits = vec![];
        // A tensor of an edit has five axes at most: one edit for each step.
        for step in 0..steps {
            let of_step = captured.tensor.clone().narrow(2, step, 1);
            let mut shape = vec![];
            let mut axes = vec![];
            for (axis, len) in [
                (Axis::Branch, branches),
                (Axis::Prompt, prompts),
                (Axis::Head, heads),
                (Axis::Position, captured.positions),
                (Axis::Feature, features),
            ] {
                // x0 has one branch, which no axis stands for.
                if axis != Axis::Branch || len == 2 {
                    axes.push(axis);
                    shape.push(len);
                }
            }
            let padded: Vec<usize> = std::iter::repeat_n(1, 5 - shape.len()).chain(shape).collect();
            let tensor: Tensor<5> = of_step.reshape([padded[0], padded[1], padded[2], padded[3], padded[4]]);
            tensors.insert(format!("v{step}"), tensor);
            edits.push(Edit {
                points: Selector::point(point),
                scope: Scope { steps: Some(step..step + 1), ..Scope::default() },
                change: Change::Replace { value: Value { tensor: format!("v{step}"), axes } },
            });
        }
        let patched = run(&model, &[0, 1], &Spec { captures: vec![], edits }, &tensors).unwrap().0;
        assert_eq!(patched, plain, "{point} on {device}");
    }
}

#[test]
fn an_edit_touches_what_its_scope_names_and_nothing_else() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let point = HookPoint::dit(1, Site::SELF_ATTN_Z);
    let captures = vec![Capture { points: Selector::point(point), reduce: Reduce::Everything }];
    let before =
        run(&model, &[0, 1], &Spec { captures: captures.clone(), edits: vec![] }, &EditTensors::new()).unwrap().1;
    let scope = Scope {
        steps: Some(0..1),
        prompts: Some(vec![1]),
        branch: Some(Branch::Uncond),
        heads: Some(vec![0, 2, 3]),
        positions: Some(1..4),
    };
    let spec = Spec { captures, ..edit("dit.1.self_attn.z", scope, Change::Zero) };
    let after = run(&model, &[0, 1], &spec, &EditTensors::new()).unwrap().1;
    let of = |cache: &Cache| {
        let captured = &cache.entries[0];
        assert_eq!(captured.axes, ["branch", "prompt", "step", "head", "position", "feature"]);
        assert_eq!(captured.shape(), [2, 2, STEPS, 4, LENGTH + 1, 16]);
        floats(captured.tensor.clone())
    };
    let (before, after) = (of(&before), of(&after));
    let size = 16;
    let mut touched = 0;
    for (index, (old, new)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
        let position = index % (LENGTH + 1);
        let head = index / (LENGTH + 1) % 4;
        let step = index / (LENGTH + 1) / 4 % STEPS;
        let row = index / (LENGTH + 1) / 4 / STEPS % 2;
        let branch = index / (LENGTH + 1) / 4 / STEPS / 2;
        let meant = (branch, row, step) == (1, 1, 0) && [0, 2, 3].contains(&head) && (1..4).contains(&position);
        if meant {
            assert!(new.iter().all(|&value| value == 0.0), "{branch} {row} {step} {head} {position}");
            touched += 1;
        } else if step == 0 {
            assert_eq!(new, old, "{branch} {row} {step} {head} {position}");
        }
    }
    assert_eq!(touched, 9);
    assert!(before.iter().all(|&value| value != 0.0));
}

#[test]
fn edits_of_prompts_mean_those_of_the_run_in_any_batch_and_in_every_sample() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let scope = Scope { prompts: Some(vec![1]), ..Scope::default() };
    let spec = edit("dit.0.mlp_out", scope, Change::Zero);
    let (plain, _) = run(&model, &[0, 1], &Spec::default(), &EditTensors::new()).unwrap();
    let (whole, _) = run(&model, &[0, 1], &spec, &EditTensors::new()).unwrap();
    let half = 6 * LENGTH;
    assert!(whole[..half] == plain[..half] && whole[half..] != plain[half..]);
    // One prompt after another, each with two samples, of which the first has the noise of the whole.
    for prompt in 0..2 {
        let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
        hooks.begin_batch([prompt], 2).unwrap();
        let ids = [PROMPTS[prompt].to_vec()];
        let conditions = model.condition(&mut hooks, &ids, None, 0.0, 10.0).repeat(2);
        let keys = [NoiseKey::new(1, &prompt.to_string(), 0), NoiseKey::new(1, "another", 0)];
        let mut noise = BrownianNoise::new(&keys, 6, LENGTH);
        let mut watch = |_: &Observed| ControlFlow::Continue(());
        let end = model.sample(&mut hooks, &conditions, &request(6.0), &mut noise, &mut watch);
        hooks.finish().unwrap();
        let ControlFlow::Continue(end) = end else { panic!("nobody stopped it") };
        assert_eq!(bits(end)[..half], whole[prompt * half..(prompt + 1) * half], "prompt {prompt}");
    }
    let beyond = Scope { prompts: Some(vec![2]), ..Scope::default() };
    let spec = edit("dit.0.mlp_out", beyond, Change::Zero);
    let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
    let error = hooks.begin_batch([0], 2).unwrap_err();
    assert!(matches!(error, HookError::NoPrompt { prompt: 2, prompts: 2, .. }), "{error}");
    let Err(error) = run(&model, &[0, 1], &spec, &EditTensors::new()) else { panic!("there are two prompts") };
    assert!(matches!(error, HookError::NoPrompt { .. }), "{error}");
}

#[test]
fn values_of_an_edit_reach_their_heads_and_positions() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let point = HookPoint::dit(0, Site::CROSS_ATTN_Q);
    let captures = vec![Capture { points: Selector::point(point), reduce: Reduce::Everything }];
    let positions = LENGTH + 1;
    let number = |head: usize, position: usize| (head * 100 + position) as f32;
    let numbers: Vec<f32> =
        (0..4).flat_map(|head| (0..positions).map(move |position| number(head, position))).collect();
    let tensor = Tensor::<1>::from_floats(numbers.as_slice(), &placement.device).reshape([1, 1, 4, positions, 1]);
    let change = Change::Replace { value: value(&[Axis::Head, Axis::Position, Axis::Feature]) };
    let scope = Scope { heads: Some(vec![1, 3]), ..Scope::default() };
    let spec = Spec { captures, ..edit("dit.0.cross_attn.q", scope, change) };
    let cache = run(&model, &[0], &spec, &EditTensors::from([("v".to_owned(), tensor)])).unwrap().1;
    let got = floats(cache.entries[0].tensor.clone());
    for (index, features) in got.chunks(16).enumerate() {
        let (position, head) = (index % positions, index / positions % 4);
        let is_number = features.iter().all(|&value| value == number(head, position));
        assert_eq!(is_number, head % 2 == 1, "head {head}, position {position}");
    }
}

#[test]
fn an_edit_of_the_estimate_goes_into_the_sampler() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let last = STEPS - 1;
        let scope = |steps| Scope { steps: Some(steps), ..Scope::default() };
        let zeroed =
            |steps| run(&model, &[0], &edit("dit.x0", scope(steps), Change::Zero), &EditTensors::new()).unwrap().0;
        assert!(zeroed(last..STEPS).iter().all(|&bits| f32::from_bits(bits) == 0.0), "{device}");
        let plain = run(&model, &[0], &Spec::default(), &EditTensors::new()).unwrap().0;
        let early = zeroed(0..1);
        assert_ne!(early, plain, "{device}");
        assert!(early.iter().any(|&bits| f32::from_bits(bits) != 0.0), "{device}");
        // A position alone: the last step takes the estimate as it is.
        let one = Scope { positions: Some(2..3), ..scope(last..STEPS) };
        let one = run(&model, &[0], &edit("dit.x0", one, Change::Zero), &EditTensors::new()).unwrap().0;
        for (index, (one, plain)) in one.iter().zip(&plain).enumerate() {
            if index % LENGTH == 2 {
                assert_eq!(f32::from_bits(*one), 0.0, "{device}");
            } else {
                assert_eq!(one, plain, "{device}");
            }
        }
    }
}

#[test]
fn reducers_are_what_they_say() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let point = HookPoint::dit(1, Site::SELF_ATTN_K);
    let capture = |reduce| Capture { points: Selector::point(point), reduce };
    let all = [Reduce::Everything, Reduce::MeanPrompts, Reduce::MeanTime, Reduce::LastStep, Reduce::MeanPositions]
        .map(capture);
    let spec = Spec { captures: all.to_vec(), edits: vec![] };
    let cache = run(&model, &[0, 1], &spec, &EditTensors::new()).unwrap().1;
    let of = |reduce| cache.entries.iter().find(|entry| entry.reduce == reduce).unwrap();
    let everything = of(Reduce::Everything).tensor.clone();
    let positions = LENGTH + 1;
    assert_eq!(everything.dims(), [2, 2, STEPS, 4 * positions, 16]);
    let near = |reduce, want: Tensor<5>| {
        let got = of(reduce).tensor.clone();
        assert_eq!(got.dims(), want.dims(), "{reduce:?}");
        assert_close(&format!("{reduce:?}"), &floats(got), &floats(want), 1e-6);
    };
    near(Reduce::MeanPrompts, everything.clone().mean_dim(1));
    near(Reduce::MeanTime, everything.clone().mean_dim(2));
    near(Reduce::LastStep, everything.clone().narrow(2, STEPS - 1, 1));
    let apart: Tensor<4> = everything.reshape([2 * 2 * STEPS, 4, positions, 16]);
    near(Reduce::MeanPositions, apart.mean_dim(2).reshape([2, 2, STEPS, 4, 16]));
    assert_eq!(of(Reduce::MeanPositions).shape(), [2, 2, STEPS, 4, 16]);
    assert_eq!(of(Reduce::MeanPositions).name(), "dit.1.self_attn.k:mean_positions");
}

#[test]
fn a_trajectory_does_not_depend_on_its_neighbours() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let of = |rows: &[usize]| run(&model, rows, &Spec::default(), &EditTensors::new()).unwrap().0;
        let (together, reversed) = (of(&[0, 1]), of(&[1, 0]));
        let row = 6 * LENGTH;
        for index in 0..2 {
            let alone = of(&[index]);
            assert_eq!(alone, together[index * row..(index + 1) * row], "prompt {index} on {device}");
            assert_eq!(alone, reversed[(1 - index) * row..(2 - index) * row], "prompt {index} on {device}");
        }
        // Samples of one prompt share its text.
        let ids = PROMPTS[0].to_vec();
        let mut hooks = Hooks::none();
        let shared = model.condition(&mut hooks, std::slice::from_ref(&ids), None, 0.0, 10.0).repeat(3);
        assert_eq!(shared.rows(), 3);
        let keys: Vec<NoiseKey> = (0..3).map(|sample| NoiseKey::new(1, "0", sample)).collect();
        let mut noise = BrownianNoise::new(&keys, 6, LENGTH);
        let mut watch = |_: &Observed| ControlFlow::Continue(());
        let end = model.sample(&mut hooks, &shared, &request(6.0), &mut noise, &mut watch);
        let ControlFlow::Continue(end) = end else { panic!("nobody stopped it") };
        assert_eq!(bits(end)[..row], of(&[0]), "{device}");
    }
}

#[test]
fn what_is_computed_in_portions_is_the_same_under_hooks_and_in_any_batch() {
    // Long enough that neither the pattern nor the hidden units fit one portion.
    const LONG: usize = 2100;
    let step = SampleRequest { latent_length: LONG, ..request(6.0) };
    for (device, placement) in devices().into_iter().filter(|(name, _)| *name != "webgpu") {
        let model = load(&placement);
        let numbers: Vec<f32> = (0..2 * 6 * LONG).map(|index| (index as f32 * 0.7).sin()).collect();
        let x = Tensor::<1>::from_floats(numbers.as_slice(), &placement.device).reshape([2, 6, LONG]);
        let of = |rows: std::ops::Range<usize>, captures: Vec<Capture>| {
            let prompts: Vec<_> = PROMPTS[rows.clone()].iter().map(|ids| ids.to_vec()).collect();
            let spec = Spec { captures, edits: vec![] };
            let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
            let conditions = model.condition(&mut Hooks::none(), &prompts, None, 0.0, 10.0);
            let x = x.clone().narrow(0, rows.start, rows.len());
            let estimate = bits(model.estimate(&mut hooks, &conditions, &step, x, 3.7));
            hooks.finish().unwrap();
            estimate
        };
        let plain = of(0..2, vec![]);
        for point in [
            HookPoint::dit(1, Site::SELF_ATTN_PATTERN),
            HookPoint::dit(0, Site::CROSS_ATTN_PATTERN),
            HookPoint::dit(0, Site::MLP_POST),
        ] {
            assert!(of(0..2, capture_everything(&[point])) == plain, "{point} on {device}");
        }
        assert!(of(0..1, vec![]) == plain[..6 * LONG] && of(1..2, vec![]) == plain[6 * LONG..], "{device}");
    }
}

#[test]
fn impossible_specs_are_refused_and_failures_stop_the_run() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let refused = |spec: &Spec, tensors: &EditTensors| match run(&model, &[0], spec, tensors) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{spec:?} was carried out"),
    };
    let message = refused(&edit("dit.2.mlp_out", Scope::default(), Change::Zero), &EditTensors::new());
    assert!(message.contains("dit.2.mlp_out"), "{message}");
    let beyond = Scope { heads: Some(vec![4]), ..Scope::default() };
    let message = refused(&edit("dit.0.self_attn.q", beyond, Change::Zero), &EditTensors::new());
    assert!(message.contains("a head beyond the 4"), "{message}");
    // Tokens of a text are positions.
    let steps = Scope { steps: Some(0..1), ..Scope::default() };
    let message = refused(&edit("encoder.0.mlp_out", steps, Change::Zero), &EditTensors::new());
    assert!(message.contains("no steps"), "{message}");
    let short = EditTensors::from([("v".to_owned(), Tensor::ones([1, 1, 1, 2, 64], &placement.device))]);
    let change = Change::Replace { value: value(&[Axis::Position, Axis::Feature]) };
    let message = refused(&edit("dit.0.mlp_out", Scope::default(), change), &short);
    assert!(message.contains("a position beyond the 2"), "{message}");
    assert!("dit.final_norm".parse::<Selector>().is_err());
    assert!("decoder.x0".parse::<Selector>().is_err());
    assert!("decoder.x0".parse::<HookPoint>().is_err());
    let capture: Capture = "decoder.0.mlp_out:mean_positions".parse().unwrap();
    let spec = Spec { captures: vec![capture], edits: vec![] };
    assert!(Hooks::check_spec(&spec, &HookPoint::all(Component::DECODER, 1)).is_err());

    // The run ends with the step in which the hooks failed.
    let mut steps = 0;
    let beyond = Scope { heads: Some(vec![9]), steps: Some(1..2), ..Scope::default() };
    let spec = edit("dit.0.self_attn.q", beyond, Change::Zero);
    let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
    let conditions = model.condition(&mut hooks, &[PROMPTS[0].to_vec()], None, 0.0, 10.0);
    let mut watch = |_: &Observed| {
        steps += 1;
        ControlFlow::Continue(())
    };
    let end = model.sample(&mut hooks, &conditions, &request(6.0), &mut noise(&[0]), &mut watch);
    assert!(end.is_break() && hooks.check().is_err());
    assert_eq!(steps, 1);
}

#[test]
fn recorded_noise_serves_the_model() {
    let fixture = Fixture::open("stable_audio_tiny");
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let (initial, shape) = fixture.floats("noise.initial");
    let (steps, step_shape) = fixture.floats("noise.steps");
    let tensors = [("initial", shape, initial), ("steps", step_shape, steps)];
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name.to_owned(), shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let file = SafetensorsFile::from_bytes("noise", bytes).unwrap();
    let request = SampleRequest { steps: 6, latent_length: 7, ..request(6.0) };
    let request = SampleRequest { sampler: SamplerSettings::default(), ..request };
    let mut noise = RecordedNoise::load(&file, 6, 7, request.sampler.noises(6)).unwrap();
    let prompts: Vec<String> = serde_json::from_str(&fixture.metadata("prompts")).unwrap();
    let tokenizer = StableAudioFiles::open(fixture.folder(), None).unwrap().tokenizer().unwrap();
    let ids: Vec<_> = prompts.iter().map(|prompt| tokenizer.encode(prompt).unwrap()).collect();
    let seconds: Vec<(f32, f32)> = serde_json::from_str(&fixture.metadata("seconds")).unwrap();
    let conditions = model.condition_each(&mut Hooks::none(), &ids, None, &seconds);
    let mut watch = |_: &Observed| ControlFlow::Continue(());
    let end = model.sample(&mut Hooks::none(), &conditions, &request, &mut noise, &mut watch);
    let ControlFlow::Continue(end) = end else { panic!("nobody stopped it") };
    fixture.assert_close("run.2m_sde.end", end, 3e-5);
}
