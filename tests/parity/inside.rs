//! The lens and the interventions against an implementation of their own over transformers, with forward hooks: tokens
//! at every layer, for both techniques at every site and layer and for every feed, and the means.

use std::ops::ControlFlow;

use tonoscope_core::{
    hooks::{Branch, Hooks, Site},
    interventions::{Experiment, Feed, MeanActivations, Place, Technique, places, self_patch},
    lens::{ResidualStreams, early_exit},
    models::musicgen::{MusicGen, Progress, Prompt, SequenceKey},
};
use tonoscope_tests::{Fixture, assert_close, devices, floats};

use super::musicgen::{codes, generate, greedy, load, prompts};

const FRAMES: usize = 8;
/// PARITY.md §8: one forward pass.
const LAYER: f64 = 1e-5;

type Codes = Vec<Vec<u32>>;

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fixture() -> Fixture {
    Fixture::open_file("musicgen_tiny", "expected_inside.safetensors")
}

fn sites() -> [Site; 3] {
    [Site::SELF_ATTN_OUT, Site::CROSS_ATTN_OUT, Site::MLP_OUT]
}

fn all_places(model: &MusicGen) -> Vec<Place> {
    let layers: Vec<usize> = (0..model.config().decoder.num_hidden_layers).collect();
    places(&sites(), &layers, model.config().decoder.num_attention_heads).unwrap()
}

fn means(model: &MusicGen, concept: &[Prompt], places: &[Place]) -> MeanActivations {
    let mut points: Vec<_> = places.iter().map(|place| place.point()).collect();
    points.dedup();
    pollster::block_on(MeanActivations::collect(model, concept, &points, &greedy(FRAMES), 1, &mut on)).unwrap()
}

/// `[prompt][row][codebook][frame]`
fn rows(fixture: &Fixture, name: &str) -> Vec<Vec<Codes>> {
    let (codes, shape) = fixture.ints(name);
    let codes: Vec<u32> = codes.into_iter().map(|code| code as u32).collect();
    let [_, rows, codebooks, frames] = shape[..] else { panic!("`{name}` has shape {shape:?}") };
    let row = |codes: &[u32]| codes.chunks(frames).map(<[u32]>::to_vec).collect();
    let prompt = |codes: &[u32]| codes.chunks(codebooks * frames).map(row).collect();
    codes.chunks(rows * codebooks * frames).map(prompt).collect()
}

#[test]
fn early_exit_writes_the_reference_codes_at_every_depth() {
    let fixture = fixture();
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let guitar = prompts(&fixture, "guitar.input_ids");
        let layers: Vec<usize> = (1..=model.config().decoder.num_hidden_layers).collect();
        let expected = rows(&fixture, "lens.early_exit.codes");
        let ids: Vec<_> = guitar.iter().map(|prompt| prompt.ids.clone()).collect();
        let text = model.encode_text(&mut Hooks::none(), &ids);
        let keys = vec![SequenceKey::new("", 0); guitar.len()];
        let how = greedy(FRAMES);
        let made = pollster::block_on(early_exit(&model, &text, &keys, &layers, &how, &mut on)).unwrap();
        let expected: Vec<Codes> = expected.into_iter().flatten().collect();
        assert_eq!(made.codes, expected, "{device}");
        // Some depths alone, in another order than they are computed in.
        let some = [layers.len(), 1];
        let made = pollster::block_on(early_exit(&model, &text, &keys, &some, &how, &mut on)).unwrap();
        let last = layers.len() - 1;
        let picked = [0, 1].map(|prompt| [last, 0].map(|layer| expected[prompt * layers.len() + layer].clone()));
        assert_eq!(made.codes, picked.concat(), "{device}");
    }
}

#[test]
fn teacher_forced_layers_give_the_reference_logits_and_codes() {
    let fixture = fixture();
    let clean = codes(&fixture, "guitar.codes");
    let (logits, shape) = fixture.floats("lens.teacher_forced.logits");
    let expected = rows(&fixture, "lens.teacher_forced.codes");
    let [_, layers, codebooks, steps, vocabulary] = shape[..] else { panic!("{shape:?}") };
    let per_layer = codebooks * steps * vocabulary;
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let how = greedy(FRAMES);
        let mut worst: f64 = 0.0;
        for (index, prompt) in prompts(&fixture, "guitar.input_ids").iter().enumerate() {
            let text = model.encode_text(&mut Hooks::none(), std::slice::from_ref(&prompt.ids));
            let streams = ResidualStreams::of(&model, &text, &clean[index], &how).unwrap();
            let asked: Vec<usize> = (1..=layers).collect();
            let readings = pollster::block_on(streams.readings(&prompt.key, &asked, None, 3)).unwrap();
            for (layer, reading) in readings.iter().enumerate() {
                assert_eq!(reading.codes, expected[index][layer], "{device}, layer {layer}");
                let got = pollster::block_on(streams.logits(layer + 1, None)).unwrap();
                let want = &logits[(index * layers + layer) * per_layer..][..per_layer];
                worst = worst.max(assert_close(&format!("{device}, layer {layer}"), &got, want, LAYER));
                let first = &reading.tokens[0][0];
                assert!(first.top[0].1 >= first.top[1].1 && first.entropy > 0.0 && first.kl >= -1e-12);
            }
            let last = readings.last().unwrap();
            assert_eq!(last.codes, clean[index], "the last layer is the model");
            assert!(last.tokens.iter().flatten().all(|token| token.rank == 0 && token.kl == 0.0));
        }
        println!("{device}: teacher-forced logits within {worst:.1e}");
    }
}

#[test]
fn means_are_those_of_the_reference() {
    let fixture = fixture();
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let places = all_places(&model);
        for concept in ["guitar", "piano"] {
            let means = means(&model, &prompts(&fixture, &format!("{concept}.input_ids")), &places);
            for site in sites() {
                let (want, shape) = fixture.floats(&format!("means.{concept}.{site}"));
                let [layers, steps, branches, width] = shape[..] else { panic!("{shape:?}") };
                for layer in 0..layers {
                    let mean = means.at(site.of(layer)).unwrap().clone();
                    assert_eq!(mean.dims(), [branches, 1, steps, 1, width]);
                    let got = floats(mean.swap_dims(0, 2));
                    let want = &want[layer * steps * branches * width..][..steps * branches * width];
                    assert_close(&format!("{device}: {concept}, {site} of layer {layer}"), &got, want, LAYER);
                }
            }
        }
    }
}

/// An experiment at every site and layer in the conditional half.
fn experiment(technique: Technique, feed: Feed, places: Vec<Place>) -> Experiment {
    Experiment {
        technique,
        places,
        branch: Some(Branch::Cond),
        feed,
        scale: 1.0,
        steps: None,
        controls: 0,
        seed: 0,
        published_rows: 4,
    }
}

/// Runs `experiment` on the guitar's prompts and compares the codes of every row.
fn assert_rows(
    device: &str,
    model: &MusicGen,
    fixture: &Fixture,
    experiment: &Experiment,
    name: &str,
    rows_at_once: usize,
) {
    let expected = rows(fixture, name);
    let guitar = prompts(fixture, "guitar.input_ids");
    let clean = codes(fixture, "guitar.codes");
    let original = means(model, &guitar, &experiment.places);
    let desired = means(model, &prompts(fixture, "piano.input_ids"), &experiment.places);
    for (index, prompt) in guitar.iter().enumerate() {
        let text = model.encode_text(&mut Hooks::none(), std::slice::from_ref(&prompt.ids));
        let both = [&original, &desired];
        let (how, mut go_on) = (greedy(FRAMES), on);
        let run = experiment.run(model, &text, &prompt.key, both, &how, rows_at_once, &mut go_on);
        let made = pollster::block_on(run).unwrap();
        assert_eq!(made.clean, clean[index], "{device}: `{name}`, the clean run");
        assert_eq!(made.scale_zero, clean[index], "{device}: `{name}`, a scale of 0");
        for (row, (got, want)) in made.changed.iter().zip(&expected[index]).enumerate() {
            assert_eq!(got, want, "{device}: `{name}`, prompt {index}, {}", experiment.places[row]);
        }
        assert_eq!(made.changed.len(), expected[index].len());
    }
}

#[test]
fn both_techniques_write_the_reference_codes_at_every_place_and_with_every_feed() {
    let fixture = fixture();
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        for (technique, name) in [(Technique::Replace, "replace"), (Technique::Adjust, "adjust")] {
            for (feed, fed) in [(Feed::Own, "own"), (Feed::Clean, "clean"), (Feed::Published, "published")] {
                let experiment = experiment(technique, feed, all_places(&model));
                let name = format!("intervene.{name}.{fed}.codes");
                // In one batch, and torn into several.
                assert_rows(device, &model, &fixture, &experiment, &name, 100);
                assert_rows(device, &model, &fixture, &experiment, &name, 4);
            }
        }
    }
}

#[test]
fn branches_windows_strengths_and_heads_are_those_of_the_reference() {
    let fixture = fixture();
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let adjust = experiment(Technique::Adjust, Feed::Own, all_places(&model));
        let uncond = Experiment { branch: Some(Branch::Uncond), ..adjust.clone() };
        let both = Experiment { branch: None, ..adjust.clone() };
        let stronger = Experiment { scale: 2.5, ..adjust.clone() };
        let window = Experiment { technique: Technique::Replace, steps: Some(3..7), ..adjust.clone() };
        let layers = 0..model.config().decoder.num_hidden_layers;
        let head = |layer| Place { site: Site::SELF_ATTN_Z, layer, head: Some(1) };
        let heads = Experiment { technique: Technique::Replace, places: layers.map(head).collect(), ..adjust };
        for (experiment, name) in [
            (uncond, "adjust.own.uncond"),
            (both, "adjust.own.both"),
            (stronger, "adjust.own.scale_2.5"),
            (window, "replace.own.steps_3_7"),
            (heads, "replace.own.z_head_1"),
        ] {
            assert_rows(device, &model, &fixture, &experiment, &format!("intervene.{name}.codes"), 100);
        }
    }
}

#[test]
fn a_run_patched_with_itself_is_the_same_at_every_place() {
    let fixture = fixture();
    for (device, placement) in devices() {
        let model = load("musicgen_tiny", &placement);
        let guitar = prompts(&fixture, "guitar.input_ids");
        let head = Place { site: Site::SELF_ATTN_Z, layer: 1, head: Some(1) };
        for place in all_places(&model).into_iter().chain([head]) {
            let (how, mut go_on) = (greedy(FRAMES), on);
            let run = self_patch(&model, &guitar[0], place, &how, &mut go_on);
            let [clean, patched] = pollster::block_on(run).unwrap();
            assert_eq!(clean, generate(&model, &guitar[..1], &greedy(FRAMES)).codes[0]);
            assert_eq!(clean, patched, "{device}, {place}");
        }
    }
}
