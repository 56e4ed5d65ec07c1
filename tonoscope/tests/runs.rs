//! Runs of the facade: what a setting must not change, and what streaming, cancelling and continuing do.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{cell::Cell, ops::ControlFlow};

use tonoscope::{core::captures, prelude::*};

const PROMPTS: [&str; 3] = ["a slow piano melody", "fast drums", "a slow piano melody"];

fn model() -> MusicGen {
    MusicGen::builder("musicgen-nano").device("cpu").unwrap().load().unwrap()
}

fn codes(pieces: &[Music]) -> Vec<Vec<Vec<u32>>> {
    pieces.iter().map(|piece| piece.codes().to_vec()).collect()
}

#[test]
fn the_batch_size_changes_no_code_and_no_capture() {
    let model = model();
    let run = |batch_size: usize| {
        let run = model.generate_all(PROMPTS).seconds(0.2).seed(7).batch_size(batch_size);
        let edit = Edit::zero("decoder.2.mlp_out").prompts([2]);
        run.edit(edit).capture("decoder.4.resid_post").run_with_cache().unwrap()
    };
    let ((together, all), (alone, one)) = (run(3), run(1));
    assert_eq!(codes(&together), codes(&alone));
    assert_ne!(together[0].codes(), together[2].codes(), "the same text again is another piece, and was edited");
    let [all, one] = [&all, &one].map(|cache| values(&cache.get("decoder.4.resid_post").unwrap().tensor).unwrap());
    assert_eq!(all, one);
}

#[test]
fn a_closure_sees_every_step_and_knows_its_prompts() {
    let model = model();
    let plain = model.generate_all(PROMPTS).seconds(0.2).batch_size(2).run().unwrap();
    let mut seen = vec![];
    let watch = |x: Tensor<4>, at: &At<'_>| {
        seen.push((at.step, at.rows.iter().map(|row| row.prompt).collect::<Vec<_>>()));
        x
    };
    let watched = model.generate_all(PROMPTS).seconds(0.2).batch_size(2).hook("decoder.1.resid_post", watch).run();
    assert_eq!(codes(&watched.unwrap()), codes(&plain));
    assert_eq!(seen.len(), 2 * 13);
    assert_eq!((seen[0].clone(), seen[25].clone()), ((0, vec![0, 1, 0, 1]), (12, vec![2, 2])));
}

#[test]
fn what_is_streamed_is_the_music() {
    let model = model();
    let start = model.generate("a slow piano melody").seconds(0.3).run().unwrap();
    let given = model.encode(&start).unwrap();
    let mut heard = vec![vec![]; 2];
    let listen = |prompt: usize, audio: &Audio| heard[prompt].extend_from_slice(audio.samples());
    let frames = Cell::new(0);
    let watch = |stage: &Stage| {
        frames.set(frames.get() + usize::from(stage.frame.is_some()));
        ControlFlow::Continue(())
    };
    let run = model.generate_all(&PROMPTS[..2]).seconds(1.0).continue_from(&start);
    let made = run.on_sound(listen).on_step(watch).run().unwrap();
    assert_eq!(frames.get(), 50 - 15);
    for (piece, heard) in made.iter().zip(&heard) {
        assert_eq!(heard.len(), piece.samples().len());
        let peak = piece.samples().iter().fold(0f32, |peak, sample| sample.abs().max(peak));
        let farthest = heard.iter().zip(piece.samples()).fold(0f32, |most, (a, b)| (a - b).abs().max(most));
        assert!(farthest < 1e-5 * peak.max(1e-3), "{farthest} of {peak}");
        assert!(piece.codes().iter().zip(&given).all(|(made, given)| made[..15] == given[..]));
    }
}

#[test]
fn a_run_stops_at_the_step_at_which_it_is_told_to() {
    let model = model();
    let cancel = Cancel::new();
    let mut steps = 0;
    let watch = |_: &Stage| {
        steps += 1;
        if steps == 5 {
            cancel.cancel();
        }
        ControlFlow::Continue(())
    };
    let error = model.generate("x").seconds(1.0).cancel(&cancel).on_step(watch).run().unwrap_err();
    assert_eq!((error.to_string().as_str(), steps), ("cancelled", 5));
    let error = model.generate("x").seconds(1.0).on_step(|_| ControlFlow::Break(())).run().unwrap_err();
    assert_eq!(error.to_string(), "cancelled");
}

#[test]
fn patching_a_run_with_its_own_activations_changes_nothing() {
    let model = model();
    let run = || model.generate("a slow piano melody").seconds(0.3).seed(3);
    let (plain, cache) = run().capture("decoder.*.self_attn.z").capture("decoder.2.mlp_out").run_with_cache().unwrap();
    for point in ["decoder.3.self_attn.z", "decoder.2.mlp_out"] {
        let patched = run().patch(point, cache.get(point).unwrap()).run().unwrap();
        assert_eq!(patched.codes(), plain.codes(), "{point}");
    }
    let (_, mean) = run().capture("decoder.2.mlp_out:mean_time").run_with_cache().unwrap();
    let error = run().patch("decoder.2.mlp_out", mean.get("decoder.2.mlp_out").unwrap()).run().unwrap_err();
    assert!(error.to_string().contains("reduced"), "{error}");
}

#[test]
fn a_file_of_captures_says_what_the_run_was() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captures.safetensors");
    let (_, cache) = model
        .generate_all(PROMPTS)
        .seconds(0.2)
        .seed(9)
        .capture("decoder.*.resid_post:mean_time")
        .run_with_cache()
        .unwrap();
    cache.save(&path).unwrap();
    let (recorded, about) = captures::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(recorded.len(), model.layers());
    assert_eq!(
        (recorded[0].axes.join(" "), recorded[0].shape.clone()),
        ("branch prompt feature".to_owned(), vec![2, 3, 160])
    );
    assert_eq!((about["model"].as_str(), about["seed"].as_str()), ("musicgen-nano", "9"));
    assert!(about["prompts"].contains("fast drums") && about["spec"].contains("resid_post"));
}

#[test]
fn a_part_alone_is_the_part_of_the_whole() {
    let model = model();
    let music = model.generate("a slow piano melody").seconds(0.4).run().unwrap();
    let codec = Encodec::builder("musicgen-nano").device("cpu").unwrap().load().unwrap();
    assert_eq!(codec.decode(music.codes()).unwrap(), *music.audio());
    assert_eq!(codec.encode(music.audio()).unwrap(), model.encode(music.audio()).unwrap());
    let encoder = T5Encoder::builder("musicgen-nano").device("cpu").unwrap().load().unwrap();
    let (_, whole) = model.generate("fast drums").seconds(0.1).capture("encoder.final_norm").run_with_cache().unwrap();
    let states = encoder.encode("fast drums").unwrap().concat();
    let whole = values(&whole.get("encoder.final_norm").unwrap().tensor).unwrap();
    let farthest = states.iter().zip(&whole).fold(0f32, |most, (a, b)| (a - b).abs().max(most));
    assert!(farthest < 1e-5, "{farthest}");
}

#[test]
fn a_diffusion_is_the_same_alone_and_in_a_batch() {
    let model = StableAudio::builder("stable-audio-nano").device("cpu").unwrap().load().unwrap();
    let run = |batch_size: usize| {
        let run = model.generate_all(PROMPTS).seconds(0.15).latent_length(12).steps(4).snapshots([1, 3]).seed(5);
        run.batch_size(batch_size).run().unwrap()
    };
    let (together, alone) = (run(3), run(1));
    for (a, b) in together.iter().zip(&alone) {
        // Products of matrices of other sizes round otherwise.
        let pairs = a.samples().iter().zip(b.samples());
        let farthest = pairs.fold(0f32, |most, (a, b)| (a - b).abs().max(most));
        assert!(farthest < 1e-3, "{farthest}");
        assert_eq!(a.snapshots().iter().map(|snapshot| snapshot.step).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((a.seconds() * 1000.0).round(), 150.0);
    }
    assert!(together[0].audio() != together[2].audio(), "the same text again is another piece");
}
