//! Times interventions as `tests/reference/bench_interventions.py` does, for its `--interleave`: every place of one prompt,
//! generated and decoded.
//!
//! Arguments: a folder as `real_size.py` writes it, `own` or `clean` (default `own`), frames (default 200), rows that are
//! computed together (default 48).

use std::{ops::ControlFlow, time::Instant};

use tonoscope_backends::{DeviceName, Request};
use tonoscope_core::{
    hooks::{Branch, Hooks, Site},
    interventions::{Experiment, Feed, MeanActivations, PUBLISHED_ROWS, Technique, places},
    models::musicgen::{Generate, MusicgenFiles, Prompt, Sampling, SequenceKey, Window},
};

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().expect("a folder as real_size.py writes it");
    let feed = match args.get(1).map_or("own", String::as_str) {
        "own" => Feed::Own,
        "clean" => Feed::Clean,
        other => panic!("`{other}` is neither `own` nor `clean`"),
    };
    let number = |index: usize, default: usize| args.get(index).map_or(default, |text| text.parse().expect("a number"));
    let (frames, rows) = (number(2, 200), number(3, 48));
    let opened = tonoscope_backends::open(&Request { name: DeviceName::Cpu, ..Request::default() });
    let placement = opened.expect("the CPU is always there").placement;
    let files = MusicgenFiles::open(folder.as_ref(), None).expect("a MusicGen");
    let tokenizer = files.tokenizer().expect("a tokenizer");
    let model = files.load(placement).expect("its weights");
    let window = Window::published(model.frame_rate());
    let how = Generate { frames, guidance: 3.0, sampling: Sampling::Greedy, window };
    let prompt = |text: &str| Prompt {
        ids: tokenizer.encode(text).expect("a prompt"),
        key: SequenceKey::new(text, 0),
        start: vec![],
    };
    let [original, desired] = ["guitar", "piano"]
        .map(|word| prompt(&format!("Compose a happy rock piece, with a {word} melody. Use a fast tempo.")));
    let config = &model.config().decoder;
    let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
    let sites = [Site::SELF_ATTN_OUT, Site::CROSS_ATTN_OUT, Site::MLP_OUT];
    let places = places(&sites, &layers, config.num_attention_heads).expect("sites with means");
    let points: Vec<_> = places.iter().map(|place| place.point()).collect();
    let mut watch = |_| ControlFlow::Continue(());
    let means = [&original, &desired].map(|prompt| {
        let prompts = std::slice::from_ref(prompt);
        pollster::block_on(MeanActivations::collect(&model, prompts, &points, &how, 1, &mut watch)).expect("means")
    });
    let count = places.len();
    let experiment = Experiment {
        technique: Technique::Replace,
        places,
        branch: Some(Branch::Cond),
        feed,
        scale: 1.0,
        steps: None,
        controls: 0,
        seed: 0,
        published_rows: PUBLISHED_ROWS,
    };
    let started = Instant::now();
    let text = model.encode_text(&mut Hooks::none(), std::slice::from_ref(&original.ids));
    let both = [&means[0], &means[1]];
    let run = experiment.run(&model, &text, &original.key, both, &how, rows, &mut watch);
    let made = pollster::block_on(run).expect("interventions");
    let generated = started.elapsed().as_secs_f64();
    for codes in made.changed.chunks(8) {
        model.decode_audio(codes).into_data();
    }
    let seconds = started.elapsed().as_secs_f64();
    let value = count as f64 / seconds * 60.0;
    println!(
        r#"{{"id": "interventions_per_minute", "value": {value:.3}, "n": {count}, "seconds": {seconds:.1}, "generate_s": {generated:.1}}}"#
    );
}
