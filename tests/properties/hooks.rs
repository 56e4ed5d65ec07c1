//! Hooks change nothing unless they are asked to, and then exactly what they are asked to.

use std::{collections::BTreeMap, ops::ControlFlow};

use burn::tensor::{DType, Tensor, TensorData};
use proptest::prelude::*;
use tonoscope_core::{
    checkpoint::Placement,
    hooks::{
        Axis, Branch, Cache, Capture, Change, Component, Edit, EditFile, EditTensors, HookError, HookPoint, Hooks,
        Reduce, Scope, Selector, Site, Spec, Value,
    },
    models::musicgen::{
        Columns, DecoderState, Generate, GenerateError, MusicGen, MusicgenFiles, Prompt, Sampling, SequenceKey, Window,
    },
};
use tonoscope_tests::{Fixture, capture_everything, devices, floats};

const FRAMES: usize = 6;

fn load(placement: &Placement) -> MusicGen {
    let fixture = Fixture::open("musicgen_tiny");
    MusicgenFiles::open(fixture.folder(), None).unwrap().load(placement.clone()).unwrap()
}

fn prompts() -> Vec<Prompt> {
    let prompt = |ids: Vec<u32>| Prompt { ids, key: SequenceKey::new("", 0), start: vec![] };
    vec![prompt(vec![9, 8, 7, 1]), prompt(vec![5, 6, 20, 21, 22, 1])]
}

type Codes = Vec<Vec<Vec<u32>>>;

fn generate(model: &MusicGen, spec: &Spec, tensors: &EditTensors) -> Result<(Codes, Cache), HookError> {
    let mut hooks = Hooks::new(spec, &model.points(), tensors)?;
    let window = Window { frames: 1500, stride: 900 };
    let how = Generate { frames: FRAMES, guidance: 3.0, sampling: Sampling::Greedy, window };
    let prompts = prompts();
    let codes = pollster::block_on(model.generate(&mut hooks, &prompts, &how, &mut |_| ControlFlow::Continue(())))
        .expect("a run without NaN")
        .codes;
    Ok((codes, hooks.finish()?))
}

/// Logits of all columns of one guided pass, bit for bit.
fn logits(model: &MusicGen, hooks: &mut Hooks) -> Vec<u32> {
    let ids: Vec<Vec<u32>> = prompts().into_iter().map(|prompt| prompt.ids).collect();
    let text = model.encode_text(hooks, &ids);
    let mut state = DecoderState::new(model.decoder(), hooks, &text, true, 5);
    let codes: Vec<i64> = (0..4 * 4 * 5).map(|index| index * 37 % 65).collect();
    let codes = Tensor::from_data(TensorData::new(codes, [4, 4, 5]), &model.device());
    let logits = model.decoder().forward(hooks, &mut state, codes, Columns::All);
    hooks.check().unwrap();
    floats(logits).into_iter().map(f32::to_bits).collect()
}

fn edit(points: &str, change: Change) -> Edit {
    Edit { points: points.parse().unwrap(), scope: Scope::default(), change }
}

fn value(axes: &[Axis]) -> Value {
    Value { tensor: "v".to_owned(), axes: axes.to_vec() }
}

#[test]
fn capturing_everything_changes_no_bit() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let plain = logits(&model, &mut Hooks::none());
        let spec = Spec { captures: capture_everything(&model.points()), edits: vec![] };
        let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
        assert_eq!(logits(&model, &mut hooks), plain, "{device}");
    }
}

#[test]
fn a_scale_of_zero_changes_no_bit() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let tensors = EditTensors::from([("v".to_owned(), Tensor::ones([1, 1, 1, 1, 32], &placement.device))]);
        let edits = vec![edit("decoder.*.mlp_out", Change::Add { value: value(&[Axis::Feature]), scale: 0.0 })];
        let mut hooks = Hooks::new(&Spec { captures: vec![], edits }, &model.points(), &tensors).unwrap();
        assert_eq!(logits(&model, &mut hooks), logits(&model, &mut Hooks::none()), "{device}");
    }
}

#[test]
fn patching_a_run_with_its_own_activations_changes_nothing() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let plain = generate(&model, &Spec::default(), &EditTensors::new()).unwrap().0;
        for point in model
            .points()
            .into_iter()
            .filter(|point| point.component == Component::DECODER && point.site != Site::LOGITS)
        {
            let captures = vec![Capture { points: Selector::point(point), reduce: Reduce::Everything }];
            let (codes, cache) = generate(&model, &Spec { captures, edits: vec![] }, &EditTensors::new()).unwrap();
            assert_eq!(codes, plain, "capturing {point} on {device}");
            let (value, tensor) = cache.get(point).unwrap().value("v").unwrap();
            let tensors = EditTensors::from([("v".to_owned(), tensor)]);
            let edits = vec![edit(&point.to_string(), Change::Replace { value })];
            let captures = capture_everything(&[HookPoint::decoder(None, Site::LOGITS)]);
            let clean = generate(&model, &Spec { captures: captures.clone(), edits: vec![] }, &EditTensors::new());
            let patched = generate(&model, &Spec { captures, edits }, &tensors).unwrap();
            let bits = |cache: &Cache| -> Vec<u32> {
                floats(cache.entries[0].tensor.clone()).into_iter().map(f32::to_bits).collect()
            };
            assert_eq!(patched.0, plain, "patching {point} on {device}");
            assert_eq!(bits(&patched.1), bits(&clean.unwrap().1), "patching {point} on {device}");
        }
    }
}

#[test]
fn an_edit_touches_what_its_scope_names_and_nothing_else() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let point: HookPoint = "decoder.1.self_attn.z".parse().unwrap();
    let capture = || vec![Capture { points: Selector::point(point), reduce: Reduce::Everything }];
    let before = generate(&model, &Spec { captures: capture(), edits: vec![] }, &EditTensors::new()).unwrap().1;
    let scope = Scope {
        steps: Some(2..4),
        prompts: Some(vec![1]),
        branch: Some(Branch::Uncond),
        heads: Some(vec![0, 2]),
        positions: None,
    };
    let edits = vec![Edit { points: Selector::point(point), scope, change: Change::Zero }];
    let after = generate(&model, &Spec { captures: capture(), edits }, &EditTensors::new()).unwrap().1;
    let [before, after] = [&before, &after].map(|cache| cache.get(point).unwrap().clone());
    let shape = after.tensor.dims();
    let [before, after] = [before, after].map(|captured| floats(captured.tensor));
    let mut zeroed = 0;
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        let head = index / shape[4] % shape[3];
        let step = index / (shape[4] * shape[3]) % shape[2];
        let row = index / (shape[4] * shape[3] * shape[2]) % shape[1];
        let branch = index / (shape[4] * shape[3] * shape[2] * shape[1]);
        if branch == 1 && row == 1 && (2..4).contains(&step) && [0, 2].contains(&head) {
            assert_eq!(*after, 0.0);
            zeroed += 1;
        } else if step <= 2 || row == 0 {
            // Later steps of the row hear the change.
            assert_eq!(before, after, "branch {branch}, row {row}, step {step}, head {head}");
        }
    }
    assert_eq!(zeroed, 2 * 2 * shape[4]);
}

#[test]
fn changes_do_what_they_say() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let direction: Vec<f32> = (0..32).map(|index| (index as f32 * 0.7).sin()).collect();
    let tensor = Tensor::from_data(TensorData::new(direction.clone(), [1, 1, 1, 1, 32]), &placement.device);
    let tensors = EditTensors::from([("v".to_owned(), tensor)]);
    let run = |change: Option<Change>| {
        let captures = vec!["decoder.0.mlp_out:last_step".parse().unwrap()];
        let edits = change.into_iter().map(|change| edit("decoder.0.mlp_out", change)).collect();
        let mut hooks = Hooks::new(&Spec { captures, edits }, &model.points(), &tensors).unwrap();
        logits(&model, &mut hooks);
        floats(hooks.finish().unwrap().entries[0].tensor.clone())
    };
    let clean = run(None);
    let near = |got: Vec<f32>, want: &dyn Fn(usize, f32) -> f32| {
        for (index, (got, clean)) in got.into_iter().zip(&clean).enumerate() {
            let want = want(index, *clean);
            assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
        }
    };
    let axes = || value(&[Axis::Feature]);
    near(run(Some(Change::Zero)), &|_, _| 0.0);
    near(run(Some(Change::Scale { factor: -0.5 })), &|_, x| -0.5 * x);
    near(run(Some(Change::Add { value: axes(), scale: 2.0 })), &|index, x| x + 2.0 * direction[index % 32]);
    near(run(Some(Change::Replace { value: axes() })), &|index, _| direction[index % 32]);
    let projected = run(Some(Change::ProjectOut { value: axes() }));
    for row in projected.chunks(32) {
        let along: f32 = row.iter().zip(&direction).map(|(x, d)| x * d).sum();
        assert!(along.abs() < 1e-5, "{along} is left along the direction");
    }
}

#[test]
fn reducers_reduce_what_everything_holds() {
    for (device, placement) in devices() {
        let model = load(&placement);
        let point: HookPoint = "decoder.2.resid_post".parse().unwrap();
        let capture = |reduce| Capture { points: Selector::point(point), reduce };
        let all = [Reduce::Everything, Reduce::MeanPrompts, Reduce::MeanTime, Reduce::LastStep].map(capture).to_vec();
        let cache = generate(&model, &Spec { captures: all, edits: vec![] }, &EditTensors::new()).unwrap().1;
        let of = |reduce| cache.entries.iter().find(|entry| entry.reduce == reduce).unwrap().tensor.clone();
        let everything = of(Reduce::Everything);
        let steps = everything.dims()[2];
        assert_eq!(everything.dims(), [2, 2, FRAMES + 3, 1, 32], "{device}");
        let near = |name: &str, got: Tensor<5>, want: Tensor<5>| {
            assert_eq!(got.dims(), want.dims(), "{name}");
            tonoscope_tests::assert_close(name, &floats(got), &floats(want), 1e-6);
        };
        near("mean over prompts", of(Reduce::MeanPrompts), everything.clone().mean_dim(1));
        near("mean over time", of(Reduce::MeanTime), everything.clone().mean_dim(2));
        near("last step", of(Reduce::LastStep), everything.narrow(2, steps - 1, 1));
    }
}

#[test]
fn impossible_specs_are_refused() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let refused = |spec: Spec, tensors: &EditTensors| match generate(&model, &spec, tensors) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{spec:?} was carried out"),
    };
    let captured = |points: &str| Spec { captures: vec![points.parse().unwrap()], edits: vec![] };
    let none = EditTensors::new();
    let message = refused(captured("decoder.3.resid_post"), &none);
    assert!(message.contains("decoder.3.resid_post") && message.contains("decoder.0.resid_post"), "{message}");
    let message = refused(captured("decoder.*.self_attn.pattern:mean_time"), &none);
    assert!(message.contains("changes its width"), "{message}");
    let mut positions = edit("decoder.0.mlp_out", Change::Zero);
    positions.scope.positions = Some(0..1);
    let message = refused_inside(&model, positions);
    assert!(message.contains("no positions"), "{message}");
    let mut steps = edit("decoder.0.cross_attn.k", Change::Zero);
    steps.scope.steps = Some(0..1);
    let message = refused_inside(&model, steps);
    assert!(message.contains("`decoder.0.cross_attn.k` has no steps"), "{message}");
    let message = refused(captured("encoder.0.mlp_out:last_step"), &none);
    assert!(message.contains("no steps"), "{message}");
    let missing = edit("decoder.0.mlp_out", Change::Replace { value: value(&[Axis::Feature]) });
    let message = refused(Spec { captures: vec![], edits: vec![missing] }, &none);
    assert!(message.contains("no tensor of this name"), "{message}");
    let error = "decoder.*.resid_pots".parse::<Selector>().unwrap_err();
    assert_eq!(error.nearest, "decoder.*.resid_post");
}

/// A run that its hooks may end.
fn generate_with(model: &MusicGen, spec: &Spec, tensors: &EditTensors) -> Result<Codes, GenerateError> {
    let mut hooks = Hooks::new(spec, &model.points(), tensors)?;
    let window = Window { frames: 1500, stride: 900 };
    let how = Generate { frames: FRAMES, guidance: 3.0, sampling: Sampling::Greedy, window };
    let (prompts, going_on) = (prompts(), &mut |_| ControlFlow::Continue(()));
    Ok(pollster::block_on(model.generate(&mut hooks, &prompts, &how, going_on))?.codes)
}

/// The error of a run with one edit.
fn refused_inside(model: &MusicGen, edit: Edit) -> String {
    let spec = Spec { captures: vec![], edits: vec![edit] };
    generate_with(model, &spec, &EditTensors::new()).unwrap_err().to_string()
}

#[test]
fn a_value_of_another_width_is_refused() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let error = |points: &str, axes: &[Axis], shape: [usize; 5]| {
        let tensors = EditTensors::from([("v".to_owned(), Tensor::ones(shape, &placement.device))]);
        let edits = vec![edit(points, Change::Add { value: value(axes), scale: 1.0 })];
        generate_with(&model, &Spec { captures: vec![], edits }, &tensors).unwrap_err().to_string()
    };
    // Of a wider vector the first half would be added.
    for width in [31, 64] {
        let message = error("decoder.1.mlp_out", &[Axis::Feature], [1, 1, 1, 1, width]);
        assert!(message.contains(&format!("values for {width} features, expected 32")), "{message}");
    }
    let message = error("decoder.1.self_attn.z", &[Axis::Head, Axis::Feature], [1, 1, 1, 8, 8]);
    assert!(message.contains("values for 8 heads, expected 4"), "{message}");
}

#[test]
fn tokens_of_a_text_are_positions() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let capture = || vec!["encoder.0.self_attn.v".parse().unwrap(), "decoder.0.cross_attn.k".parse().unwrap()];
    let run = |edits: Vec<Edit>, tensors: &EditTensors| {
        generate(&model, &Spec { captures: capture(), edits }, tensors).unwrap().1
    };
    let before = run(vec![], &EditTensors::new());
    let values = Tensor::from_data(TensorData::new(vec![7.0f32, 8.0], [1, 1, 1, 2, 1]), &placement.device);
    let tensors = EditTensors::from([("v".to_owned(), values)]);
    let value = Value { tensor: "v".to_owned(), axes: vec![Axis::Position, Axis::Feature] };
    for (name, heads) in [("encoder.0.self_attn.v", 2), ("decoder.0.cross_attn.k", 4)] {
        let edit = Edit::replace(name, value.clone()).positions(0..2).heads([1]);
        let after = run(vec![edit], &tensors);
        let captured = after.get(name).unwrap();
        let named = captured.named_dims();
        let axes: Vec<&str> = named.iter().map(|(axis, _)| *axis).collect();
        assert_eq!(axes, ["branch", "prompt", "position", "head", "feature"]);
        let [_, _, tokens, heads_found, features] = captured.tensor.dims();
        assert_eq!(heads_found, heads);
        let [old, new] = [before.get(name).unwrap(), captured].map(|captured| floats(captured.tensor.clone()));
        for (index, (old, new)) in old.chunks(features).zip(new.chunks(features)).enumerate() {
            let (head, token) = (index % heads, index / heads % tokens);
            if head == 1 && token < 2 {
                assert!(new.iter().all(|&value| value == [7.0, 8.0][token]), "{name}: {new:?}");
            } else {
                assert_eq!(old, new, "head {head}, token {token} of {name}");
            }
        }
    }
}

#[test]
fn an_edit_that_fails_inside_the_run_fails_the_run() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let mut heads = edit("decoder.0.mlp_out", Change::Zero);
    heads.scope.heads = Some(vec![0]);
    let steps = EditTensors::from([("v".to_owned(), Tensor::ones([1, 1, 1, 2, 32], &placement.device))]);
    let short = edit("decoder.0.mlp_out", Change::Replace { value: value(&[Axis::Step, Axis::Feature]) });
    for (edit, expected) in [(heads, "has no heads"), (short, "a step beyond the 2")] {
        let mut hooks = Hooks::new(&Spec { captures: vec![], edits: vec![edit] }, &model.points(), &steps).unwrap();
        let window = Window { frames: 1500, stride: 900 };
        let how = Generate { frames: FRAMES, guidance: 3.0, sampling: Sampling::Greedy, window };
        let prompts = prompts();
        let run = pollster::block_on(model.generate(&mut hooks, &prompts, &how, &mut |_| ControlFlow::Continue(())));
        let error = run.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_edit_of_steps_or_positions_that_the_run_does_not_have_is_an_error() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let finished = |edit: Edit| {
        let spec = Spec { captures: vec![], edits: vec![edit] };
        generate(&model, &spec, &EditTensors::new()).map(|_| ()).map_err(|error| error.to_string())
    };
    let last = FRAMES + 3;
    assert_eq!(finished(Edit::zero("decoder.1.mlp_out").steps(last - 1..last + 9)), Ok(()));
    let error = finished(Edit::zero("decoder.1.mlp_out").steps(last..last + 9)).unwrap_err();
    assert_eq!(error, "an edit at `decoder.1.mlp_out` was never applied: the run has none of its steps 9..18");
    assert_eq!(finished(Edit::zero("encoder.0.mlp_out").positions(15..40)), Ok(()));
    let error = finished(Edit::zero("encoder.0.mlp_out").positions(16..40)).unwrap_err();
    assert!(error.contains("none of its positions 16..40"), "{error}");
}

#[test]
fn a_point_that_never_fires_is_an_error() {
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let spec = Spec { captures: vec!["decoder.0.resid_pre".parse().unwrap()], edits: vec![] };
    let hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
    assert!(matches!(hooks.finish(), Err(HookError::NeverFired { .. })));
}

#[test]
fn edit_files_come_back_as_they_were() {
    let file = EditFile {
        edits: vec![Edit {
            points: "decoder.1..3.mlp_out".parse().unwrap(),
            scope: Scope { steps: Some(3..9), branch: Some(Branch::Cond), ..Scope::default() },
            change: Change::Add { value: value(&[Axis::Step, Axis::Feature]), scale: 1.5 },
        }],
        tensors: BTreeMap::from([("v".to_owned(), (vec![1.0, 2.0, 3.0, 4.0], [1, 1, 1, 2, 2]))]),
    };
    assert_eq!(EditFile::from_bytes("x", file.to_bytes().unwrap()).unwrap(), file);
    assert!(EditFile::from_bytes("x", b"not a file".to_vec()).is_err());
}

#[test]
fn half_precision_is_stored_in_full() {
    // A captured tensor leaves as 32-bit numbers, whatever the device computes with.
    let (_, placement) = devices().remove(0);
    let model = load(&placement);
    let spec = Spec { captures: vec!["decoder.final_norm".parse().unwrap()], edits: vec![] };
    let cache = generate(&model, &spec, &EditTensors::new()).unwrap().1;
    let values = pollster::block_on(cache.entries[0].values()).unwrap();
    assert_eq!(values, floats(cache.entries[0].tensor.clone().cast(DType::F32)));
}

fn any_point() -> impl Strategy<Value = HookPoint> {
    (0usize..3, 0usize..100).prop_flat_map(|(part, layers)| {
        let part = Component::ALL[part];
        prop::sample::select(HookPoint::all(part, layers % 5 + 1))
    })
}

proptest! {
    #[test]
    fn points_print_as_they_parse(point in any_point()) {
        prop_assert_eq!(point.to_string().parse::<HookPoint>().unwrap(), point);
        let selector = Selector::point(point);
        prop_assert_eq!(&selector.to_string().parse::<Selector>().unwrap(), &selector);
        prop_assert!(selector.matches(&point));
    }

    #[test]
    fn no_name_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<HookPoint>();
        let _ = text.parse::<Selector>();
        let _ = text.parse::<Capture>();
    }

    #[test]
    fn almost_names_do_not_panic(text in "(encoder|decoder|dit)\\.[0-9.*]{0,30}\\.?(mlp_out|self_attn\\.q|logits|\\*)?") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(&selector.to_string().parse::<Selector>().unwrap(), &selector);
        }
    }
}
