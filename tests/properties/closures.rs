//! Closures as hooks: where they are called, what they see, and what becomes of what they return.

use std::{cell::RefCell, ops::ControlFlow};

use burn::tensor::{DType, Tensor};
use tonoscope_core::{
    checkpoint::Placement,
    diffusion::{BrownianNoise, NoiseKey, Observed, SamplerSettings, Schedule},
    hooks::{
        At, Branch, Cache, Capture, Edit, EditTensors, HookError, HookOutput, HookPoint, Hooks, Reduce, Row, Selector,
        Site, Spec,
    },
    models::{
        musicgen::{
            Generate, GenerateError, MusicGen, MusicgenFiles, Prompt, RowSharing, Sampling, SequenceKey, Window,
        },
        stable_audio::{InitialScale, SampleRequest, StableAudio, StableAudioFiles},
    },
};
use tonoscope_tests::{Fixture, devices, floats};

const FRAMES: usize = 6;
const PROMPTS: [&[u32]; 3] = [&[9, 8, 7, 1], &[5, 6, 20, 21, 22, 1], &[48, 50, 73, 1]];

fn musicgen(placement: &Placement) -> MusicGen {
    let fixture = Fixture::open("musicgen_tiny");
    MusicgenFiles::open(fixture.folder(), None).unwrap().load(placement.clone()).unwrap()
}

fn stable_audio(placement: &Placement) -> StableAudio {
    let fixture = Fixture::open("stable_audio_tiny");
    StableAudioFiles::open(fixture.folder(), None).unwrap().load(placement.clone()).unwrap()
}

fn how(guidance: f64) -> Generate {
    let window = Window { frames: 1500, stride: 900 };
    Generate { frames: FRAMES, guidance, sampling: Sampling::Greedy, window }
}

fn prompt(index: usize) -> Prompt {
    Prompt { ids: PROMPTS[index].to_vec(), key: SequenceKey::new("", index as u64), start: vec![] }
}

type Codes = Vec<Vec<Vec<u32>>>;

fn run(model: &MusicGen, hooks: &mut Hooks, prompts: &[Prompt]) -> Result<Codes, GenerateError> {
    let going_on = &mut |_| ControlFlow::Continue(());
    pollster::block_on(model.generate(hooks, prompts, &how(3.0), going_on)).map(|made| made.codes)
}

fn capture(points: &str) -> Spec {
    Spec { captures: vec![points.parse().unwrap()], edits: vec![] }
}

/// Generates the first two prompts with a closure at `points`, and captures `captured`.
fn with<'a, R: HookOutput>(
    model: &MusicGen,
    points: &str,
    captured: &str,
    hook: impl FnMut(Tensor<4>, &At<'_>) -> R + 'a,
) -> Result<(Codes, Cache), GenerateError> {
    let mut hooks: Hooks<'a> = Hooks::new(&capture(captured), &model.points(), &EditTensors::new())?;
    hooks.hook(points, hook)?;
    let codes = run(model, &mut hooks, &[prompt(0), prompt(1)])?;
    Ok((codes, hooks.finish()?))
}

fn bits(cache: &Cache, point: HookPoint) -> Vec<u32> {
    floats(cache.get(point).unwrap().tensor.clone()).into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_closure_that_returns_what_it_was_given_changes_no_bit() {
    for (device, placement) in devices() {
        let model = musicgen(&placement);
        let logits = HookPoint::decoder(None, Site::LOGITS);
        let mut hooks = Hooks::new(&capture("decoder.logits"), &model.points(), &EditTensors::new()).unwrap();
        let plain = run(&model, &mut hooks, &[prompt(0), prompt(1)]).unwrap();
        let clean = bits(&hooks.finish().unwrap(), logits);
        for points in ["encoder.*.*", "decoder.*.*", "decoder.embed", "decoder.final_norm", "decoder.logits"] {
            let (codes, cache) = with(&model, points, "decoder.logits", |x, _: &At<'_>| x).unwrap();
            assert_eq!(codes, plain, "{points} on {device}");
            assert_eq!(bits(&cache, logits), clean, "{points} on {device}");
        }
    }
}

#[test]
fn closures_see_where_they_are_and_keep_state() {
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    let mut calls = vec![];
    with(&model, "decoder.0..2.self_attn.z", "decoder.logits", |x, at| {
        calls.push((at.point.to_string(), at.step, at.rows.to_vec(), x.dims()));
        x
    })
    .unwrap();
    let row = |branch, prompt| Row { branch, prompt };
    let rows = [row(Branch::Cond, 0), row(Branch::Cond, 1), row(Branch::Uncond, 0), row(Branch::Uncond, 1)];
    let expected: Vec<_> = (0..FRAMES + 3)
        .flat_map(|step| (0..2).map(move |layer| (format!("decoder.{layer}.self_attn.z"), step)))
        .map(|(point, step)| (point, step, rows.to_vec(), [4, 4, 1, 8]))
        .collect();
    assert_eq!(calls, expected);
    let at = At { point: Site::MLP_OUT.of(0), step: 0, rows: &rows };
    assert_eq!((at.branch(Branch::Cond), at.branch(Branch::Uncond)), (0..2, 2..4));
    assert_eq!(at.prompt(1), [1, 3]);
}

#[test]
fn a_closure_is_called_once_for_each_of_several_steps() {
    // A start that is continued goes through the decoder in one pass.
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    let given = Prompt { start: vec![vec![3, 1, 4]; 4], ..prompt(0) };
    let run = |edits: Vec<Edit>, closure: bool| {
        let mut steps = vec![];
        let spec = Spec { edits, ..capture("decoder.1.resid_post") };
        let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
        if closure {
            hooks
                .hook("decoder.0.mlp_out", |x, at| {
                    steps.push(at.step);
                    if (2..5).contains(&at.step) { x * -3.0 } else { x }
                })
                .unwrap();
        }
        let codes = run(&model, &mut hooks, std::slice::from_ref(&given)).unwrap();
        let cache = hooks.finish().unwrap();
        (codes, bits(&cache, Site::RESID_POST.of(1)), steps)
    };
    let data = run(vec![Edit::scale("decoder.0.mlp_out", -3.0).steps(2..5)], false);
    let code = run(vec![], true);
    assert_eq!((&code.0, &code.1), (&data.0, &data.1));
    assert_eq!(code.2, (0..FRAMES + 3).collect::<Vec<_>>());
}

#[test]
fn closures_and_edits_do_the_same_in_both_models() {
    for (device, placement) in devices() {
        let model = musicgen(&placement);
        let spec = Spec { captures: vec![], edits: vec![Edit::zero("decoder.1.self_attn.z").heads([1]).prompts([1])] };
        let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
        let edited = run(&model, &mut hooks, &[prompt(0), prompt(1)]).unwrap();
        hooks.finish().unwrap();
        let zero_head = |x: Tensor<4>, at: &At<'_>| {
            let [_, _, positions, features] = x.dims();
            at.prompt(1).into_iter().fold(x, |x, row| {
                let part = [row..row + 1, 1..2, 0..positions, 0..features];
                let zeros = x.clone().slice(part.clone()).zeros_like();
                x.slice_assign(part, zeros)
            })
        };
        let closed = with(&model, "decoder.1.self_attn.z", "decoder.logits", zero_head).unwrap().0;
        assert_eq!(closed, edited, "{device}");

        let model = stable_audio(&placement);
        let sample = |edits: Vec<Edit>, closure: bool| {
            let spec = Spec { captures: vec![], edits };
            let mut hooks = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap();
            if closure {
                hooks.hook("dit.0.cross_attn.z", zero_head).unwrap();
                hooks.hook("dit.x0", |x, at| if at.step == 1 { x * 0.5 } else { x }).unwrap();
            }
            floats(denoise(&model, &mut hooks).unwrap())
        };
        let edits =
            vec![Edit::zero("dit.0.cross_attn.z").heads([1]).prompts([1]), Edit::scale("dit.x0", 0.5).steps(1..2)];
        assert_eq!(sample(vec![], true), sample(edits, false), "{device}");
        assert_ne!(sample(vec![], true), sample(vec![], false), "{device}");
    }
}

/// Three denoising steps of two prompts.
fn denoise(model: &StableAudio, hooks: &mut Hooks) -> Result<Tensor<3>, HookError> {
    let request = SampleRequest {
        steps: 3,
        sigma_min: 0.3,
        sigma_max: 500.0,
        schedule: Schedule::Polyexponential { rho: 1.0 },
        sampler: SamplerSettings::default(),
        guidance: 6.0,
        rescale: 0.0,
        latent_length: 5,
        initial: InitialScale::Sigma,
    };
    let ids: Vec<Vec<u32>> = PROMPTS[..2].iter().map(|ids| ids.to_vec()).collect();
    let conditions = model.condition(hooks, &ids, None, 0.0, 10.0);
    let keys = [NoiseKey::new(1, "0", 0), NoiseKey::new(1, "1", 0)];
    let mut noise = BrownianNoise::new(&keys, 6, 5);
    let mut watch = |_: &Observed| ControlFlow::Continue(());
    let end = model.sample(hooks, &conditions, &request, &mut noise, &mut watch);
    hooks.check()?;
    let ControlFlow::Continue(end) = end else { panic!("nobody stopped it") };
    Ok(end)
}

#[test]
fn an_error_of_a_closure_ends_the_run_at_that_step() {
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    let last = RefCell::new(0);
    let failing = |x: Tensor<4>, at: &At<'_>| -> Result<Tensor<4>, String> {
        last.replace(at.step);
        if at.step == 4 { Err("the probe has no answer".to_owned()) } else { Ok(x) }
    };
    let error = with(&model, "decoder.*.mlp_out", "decoder.logits", failing).unwrap_err();
    assert_eq!(error.to_string(), "the closure at `decoder.0.mlp_out` failed at step 4: the probe has no answer");
    assert_eq!(last.take(), 4);

    let model = stable_audio(&placement);
    let mut steps = vec![];
    let mut hooks = Hooks::new(&Spec::default(), &model.points(), &EditTensors::new()).unwrap();
    hooks
        .hook("dit.1.resid_post", |x, at| {
            steps.push(at.step);
            if at.step == 1 { Err("enough") } else { Ok(x) }
        })
        .unwrap();
    let error = denoise(&model, &mut hooks).unwrap_err();
    assert!(matches!(error, HookError::Closure { step: 1, .. }), "{error}");
    drop(hooks);
    assert_eq!(steps, [0, 1]);
}

#[test]
fn another_shape_or_type_is_a_typed_error() {
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    let narrow = |x: Tensor<4>, _: &At<'_>| x.narrow(3, 0, 1);
    let Err(GenerateError::Hook(error)) = with(&model, "decoder.1.mlp_out", "decoder.logits", narrow) else {
        panic!("a tensor of another shape was taken")
    };
    let expected = "the closure at `decoder.1.mlp_out` returned a tensor of shape [4, 1, 1, 1] at step 0, \
                    expected [4, 1, 1, 32]";
    assert_eq!(error.to_string(), expected);
    let half = |x: Tensor<4>, _: &At<'_>| x.cast(DType::F16);
    let error = with(&model, "decoder.1.mlp_out", "decoder.logits", half).unwrap_err();
    assert!(error.to_string().contains("F16 elements, expected F32"), "{error}");
    let error = with(&model, "decoder.7.mlp_out", "decoder.logits", |x, _: &At<'_>| x).unwrap_err();
    assert!(error.to_string().contains("no hook point `decoder.7.mlp_out`"), "{error}");
}

#[test]
fn closures_name_prompts_of_the_run_and_work_where_rows_are_shared() {
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    let seen = RefCell::new(vec![]);
    let note = |x: Tensor<4>, at: &At<'_>| {
        seen.borrow_mut().push(at.rows.iter().map(|row| row.prompt).collect::<Vec<_>>());
        x
    };
    let mut hooks = Hooks::new(&Spec::default(), &model.points(), &EditTensors::new()).unwrap();
    hooks.hook("decoder.2.mlp_out", note).unwrap();
    hooks.begin_batch([4], 6).unwrap();
    run(&model, &mut hooks, &[prompt(0)]).unwrap();
    assert!(seen.take().iter().all(|prompts| prompts == &[4, 4]));
    // The second sequence shares all but the last layer with the first.
    let mut hooks = Hooks::new(&Spec::default(), &model.points(), &EditTensors::new()).unwrap();
    hooks.hook("decoder.1..3.mlp_out", note).unwrap();
    let (text, mut sequences) = model.sequences(&mut Hooks::none(), &[prompt(0)]);
    let layers = model.config().decoder.num_hidden_layers;
    sequences.push(sequences[0].clone());
    sequences[1].lane =
        RowSharing { text: 0, tokens_from: [0, 0], diverges_at: [2, layers], ..RowSharing::alone(1, layers) };
    let going_on = &mut |_| ControlFlow::Continue(());
    pollster::block_on(model.generate_sequences(&mut hooks, &text, &sequences, &how(3.0), going_on)).unwrap();
    assert_eq!(seen.take()[..2], [vec![0, 0], vec![0, 1, 0]]);
}

#[test]
fn edits_made_in_one_line_are_those_of_files() {
    let edits = [
        Edit::zero("decoder.3.self_attn.z").heads([1]),
        Edit::scale("decoder.*.mlp_out", 0.5).steps(2..4).branch(Branch::Uncond),
        Edit::add("decoder.1..3.mlp_out", "guitar").strength(1.5).prompts([0, 4]),
        Edit::replace("dit.0.resid_mid", "own").positions(1..3),
        Edit::project_out("decoder.2.resid_post", "guitar"),
    ];
    let json = [
        r#"{"points":"decoder.3.self_attn.z","scope":{"heads":[1]},"change":{"do":"zero"}}"#,
        r#"{"points":"decoder.*.mlp_out","scope":{"steps":{"start":2,"end":4},"branch":"uncond"},"change":{"do":"scale","factor":0.5}}"#,
        r#"{"points":"decoder.1..3.mlp_out","scope":{"prompts":[0,4]},"change":{"do":"add","value":{"tensor":"guitar","axes":["feature"]},"scale":1.5}}"#,
        r#"{"points":"dit.0.resid_mid","scope":{"positions":{"start":1,"end":3}},"change":{"do":"replace","value":{"tensor":"own","axes":["feature"]}}}"#,
        r#"{"points":"decoder.2.resid_post","scope":{},"change":{"do":"project_out","value":{"tensor":"guitar","axes":["feature"]}}}"#,
    ];
    for (edit, json) in edits.iter().zip(json) {
        assert_eq!(serde_json::to_string(edit).unwrap(), json);
        assert_eq!(serde_json::from_str::<Edit>(json).unwrap(), *edit);
    }
}

#[test]
fn a_name_that_no_point_has_is_an_error_of_the_run() {
    let (_, placement) = devices().remove(0);
    let model = musicgen(&placement);
    for (points, nearest) in
        [("decoder.3.self_atn.z", "self_attn.z"), ("decoder.9.mlp_out", "mlp_out"), ("", "decoder")]
    {
        let spec = Spec { captures: vec![], edits: vec![Edit::zero(points)] };
        let error = Hooks::new(&spec, &model.points(), &EditTensors::new()).unwrap_err().to_string();
        assert!(error.contains(&format!("no hook point `{points}`")) && error.contains(nearest), "{error}");
    }
    let capture = Capture { points: Selector::from("decoder.embde"), reduce: Reduce::Everything };
    let spec = Spec { captures: vec![capture], edits: vec![] };
    assert!(Hooks::check_spec(&spec, &model.points()).is_err());
}
