//! Bad input at the API is a typed error that says what to do; nothing panics.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use tonoscope::{DeviceError, core::models::musicgen::GenerateError, hooks::HookError, prelude::*};

fn model() -> MusicGen {
    MusicGen::builder("musicgen-nano").device("cpu").unwrap().load().unwrap()
}

/// The error of a run, which must hold all of `parts`.
#[track_caller]
fn says(error: &Error, parts: &[&str]) {
    let text = format!("{error:?}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

#[test]
fn a_point_that_no_model_has_is_named_with_the_nearest() {
    let model = model();
    let run = |point: &str| model.generate("x").seconds(0.1).capture(point).run_with_cache().unwrap_err();
    says(&run("decoder.3.resid_pots"), &["decoder.3.resid_pots", "resid_post"]);
    says(&run("nothing"), &["`nothing`", "hint: "]);
    says(&run("decoder.*.resid_post:median"), &["`median`", "`mean_time`"]);
    let error = model.generate("x").seconds(0.1).edit(Edit::zero("decoder.3.mlp")).run().unwrap_err();
    says(&error, &["decoder.3.mlp"]);
}

#[test]
fn a_layer_or_head_beyond_the_model_says_how_many_there_are() {
    let model = model();
    let error = model.generate("x").seconds(0.1).capture("decoder.9.resid_post").run_with_cache().unwrap_err();
    says(&error, &["decoder.9.resid_post", "layers 0 to 5"]);
    let edit = Edit::zero("decoder.3.self_attn.z").heads([5]);
    let error = model.generate("x").seconds(0.1).edit(edit).run().unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Hook(_)) | Error::Hook(_)), "{error:?}");
    says(&error, &["decoder.3.self_attn.z", "head", "5"]);
    let error = model.generate("x").seconds(0.1).edit(Edit::zero("decoder.3.mlp_out").heads([0])).run().unwrap_err();
    says(&error, &["decoder.3.mlp_out", "no heads"]);
}

#[test]
fn a_prompt_beyond_the_run_is_named() {
    let model = model();
    let edit = Edit::zero("decoder.3.mlp_out").prompts([2]);
    let error = model.generate_all(["a", "b"]).seconds(0.1).edit(edit).run().unwrap_err();
    assert!(matches!(error, Error::Hook(HookError::NoPrompt { prompt: 2, prompts: 2, .. })), "{error:?}");
}

#[test]
fn a_closure_that_returns_another_shape_or_fails_ends_the_run_at_that_step() {
    let model = model();
    let mut calls = 0;
    let run = model.generate("x").seconds(0.1).hook("decoder.2.mlp_out", |x, _| {
        calls += 1;
        x.narrow(3, 0, 1)
    });
    let error = run.run().unwrap_err();
    says(&error, &["decoder.2.mlp_out", "shape", "expected"]);
    assert_eq!(calls, 1);
    let mut calls = 0;
    let run = model.generate("x").seconds(0.1).hook("decoder.2.mlp_out", |x: Tensor<4>, at: &At<'_>| {
        calls += 1;
        if at.step < 3 { Ok(x) } else { Err("enough") }
    });
    says(&run.run().unwrap_err(), &["decoder.2.mlp_out", "step 3", "enough"]);
    assert_eq!(calls, 4);
}

#[test]
fn a_device_that_this_build_does_not_have_says_how_to_get_it() {
    let error = MusicGen::builder("musicgen-nano").device("cpu:1").unwrap_err();
    says(&error, &["`cpu:1` is not a device", "`cuda:1`"]);
    if !cfg!(feature = "cuda") {
        let error = MusicGen::builder("musicgen-nano").device("cuda:1").unwrap_err();
        assert!(matches!(error, Error::Device(DeviceError::NotCompiled { .. })), "{error:?}");
        says(&error, &["`cuda` is not in this build", "add the feature `cuda`"]);
    }
}

#[test]
fn settings_and_models_that_cannot_be_are_refused_before_anything_is_computed() {
    let model = model();
    let run = || model.generate("x").seconds(0.1);
    says(&run().seconds(0.0).run().unwrap_err(), &["a duration of 0 s"]);
    says(&run().seconds(f64::NAN).run().unwrap_err(), &["a duration of NaN s"]);
    says(&run().temperature(0.0).run().unwrap_err(), &["a temperature of 0", "call `greedy`"]);
    says(&run().guidance(f64::INFINITY).run().unwrap_err(), &["a guidance that is not a number"]);
    says(&run().batch_size(0).run().unwrap_err(), &["a batch size of 0"]);
    let long = run().seconds(0.3).run().unwrap();
    says(&run().continue_from(&long).run().unwrap_err(), &["15 frames", "`seconds` includes"]);
    let long = "word ".repeat(600);
    says(&model.generate(long).seconds(0.1).run().unwrap_err(), &["prompt `word word", "tokens", "shorten"]);
    says(&model.decode(&[]).unwrap_err(), &["4 codebooks of 512 codes"]);
    says(&model.decode(&vec![vec![512]; 4]).unwrap_err(), &["4 codebooks of 512 codes"]);
    let error = MusicGen::builder("no/such-model").offline().cache("/nonexistent").load().unwrap_err();
    assert!(matches!(error, Error::Hub(_)), "{error:?}");
    says(&Audio::open("/nonexistent.wav").unwrap_err(), &["cannot read `/nonexistent.wav`"]);
    assert!(model.generate_all(Vec::<String>::new()).seconds(0.1).run().unwrap().is_empty());
}

#[test]
fn a_diffusion_run_that_cannot_be_is_refused_before_anything_is_computed() {
    let model = StableAudio::builder("stable-audio-nano").device("cpu").unwrap().load().unwrap();
    let run = || model.generate("x").steps(2).latent_length(4);
    says(&run().steps(0).run().unwrap_err(), &["one step or more"]);
    says(&run().snapshots([2]).run().unwrap_err(), &["a snapshot at step 2", "2 steps, from 0"]);
    says(&run().latent_length(0).run().unwrap_err(), &["0 latent frames"]);
    says(&run().seconds(-1.0).run().unwrap_err(), &["`seconds` takes a positive number"]);
    says(&run().guidance(f64::NAN).run().unwrap_err(), &["a guidance of NaN"]);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(run().cancel(&cancel).run().unwrap_err(), Error::Cancelled));
}
