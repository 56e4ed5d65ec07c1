//! The small models inside the program: that they are what their cards say, in small, and what is built on them.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{rows, stderr, stdout, tonoscope};

/// Runs the program; what it prints.
fn done(args: &[&str]) -> String {
    let output = tonoscope(args);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&done(&[args, &["--json"]].concat())).unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_codec_keeps_what_it_never_heard() {
    let folder = tempfile::tempdir().unwrap();
    let phrases = path(folder.path(), "phrases");
    done(&["data", "render", "phrases", "--split", "test", "--count", "6", "--out", &phrases]);
    let (audio, csv) = (path(folder.path(), "phrases/audio"), path(folder.path(), "files.csv"));
    let codec = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/models/encodec-nano");
    let told = json(&["data", "compare", &audio, "--codec", codec, "--csv", &csv, "--device", "cpu"]);
    assert_eq!((told["files"].as_u64(), told["kbit_per_s"].as_f64()), (Some(6), Some(1.8)));
    // The card says 5.4 dB for other clips; silence in place of them is at 20 and more.
    assert!(told["mel_distance_db"].as_f64().unwrap() < 8.0, "{told}");
    let used: Vec<f64> = serde_json::from_value(told["perplexities"].clone()).unwrap();
    assert!(used.len() == 4 && used.iter().all(|&used| used > 80.0), "of 1 200 frames: {used:?}");
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 1 + 6);
    // A sound beside itself, and beside one of another length.
    let same = json(&["data", "compare", &audio, "--heard", &audio]);
    assert_eq!(same["mel_distance_db"].as_f64(), Some(0.0));
    assert!(same["si_sdr_db"].as_f64().unwrap() > 100.0, "{same}");
    let short = path(folder.path(), "short");
    done(&["data", "render", "phrases", "--split", "test", "--count", "6", "--seconds", "2", "--out", &short]);
    let refused = tonoscope(&["data", "compare", &audio, "--heard", &path(folder.path(), "short/audio")]);
    assert!(!refused.status.success() && stderr(&refused).contains("2.00 s longer or shorter"), "{}", stderr(&refused));
}

/// Plays `prompts`, 4 s each, and says how probable the classifier inside the program thinks `classes` are in each piece.
fn heard(folder: &Path, prompts: &[String], classes: &[&str]) -> Vec<Vec<f64>> {
    let (list, out) = (path(folder, "prompts.txt"), path(folder, "music"));
    fs::write(&list, prompts.join("\n")).unwrap();
    done(&["generate", "--prompts", &list, "--duration", "4", "--device", "cpu", "--batch-size", "8", "--out", &out]);
    let pieces: Vec<String> =
        (0..prompts.len()).map(|index| path(folder, &format!("music/piece_{index:04}.wav"))).collect();
    let mut args = vec!["classify", "--top", "0", "--device", "cpu"];
    args.extend(pieces.iter().map(String::as_str));
    let told = json(&args);
    let of = |file: &Value, class: &&str| {
        let found = file["classes"].as_array().unwrap().iter().find(|found| found["label"] == *class);
        found.unwrap_or_else(|| panic!("no class `{class}`"))["probability"].as_f64().unwrap()
    };
    told["files"].as_array().unwrap().iter().map(|file| classes.iter().map(|class| of(file, class)).collect()).collect()
}

#[test]
fn a_genre_that_is_asked_for_is_heard() {
    const GENRES: [(&str, &str); 5] = [
        ("rock", "Rock music"),
        ("pop", "Pop music"),
        ("electronic", "Electronic music"),
        ("jazz", "Jazz"),
        ("classical", "Classical music"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let prompt = |genre: &str, instrument: &str| {
        format!("Compose a happy {genre} piece, with a {instrument} melody. Use a medium tempo.")
    };
    let prompts: Vec<String> = ["piano", "violin"]
        .iter()
        .flat_map(|instrument| GENRES.iter().map(move |(genre, _)| prompt(genre, instrument)))
        .collect();
    let heard = heard(folder.path(), &prompts, &GENRES.map(|(_, class)| class));
    let right = right(&heard);
    // Two of ten would be chance; five seeds have all ten.
    assert!(right >= 8, "{right} of 10: {heard:?}");
}

/// How many of the pieces that were `heard` are most probably of the class that they should be, classes taking turns.
fn right(heard: &[Vec<f64>]) -> usize {
    let best = |classes: &Vec<f64>| (0..classes.len()).max_by(|&one, &other| classes[one].total_cmp(&classes[other]));
    heard.iter().enumerate().filter(|(index, classes)| best(classes) == Some(index % classes.len())).count()
}

#[test]
fn an_instrument_that_is_asked_for_is_heard() {
    const CLASSES: [&str; 5] = ["Guitar", "Piano", "Trumpet", "Violin, fiddle", "Flute"];
    let folder = tempfile::tempdir().unwrap();
    let prompt =
        |(mood, instrument): (&str, &str)| format!("Compose a {mood} piece for solo {instrument}. Use a medium tempo.");
    let instruments = ["guitar", "piano", "trumpet", "violin", "flute"];
    let asked = ["happy", "passionate", "emotional", "groovy"]
        .iter()
        .flat_map(|mood| instruments.map(|instrument| (*mood, instrument)));
    let prompts: Vec<String> = asked.map(prompt).collect();
    let heard = heard(folder.path(), &prompts, &CLASSES);
    let right = right(&heard);
    // Four of twenty would be chance; five seeds have 10 to 14.
    assert!(right >= 8, "{right} of 20: {heard:?}");
}

/// The means of the column `value` of a table for every value of `layer`, in order.
fn by_layer(table: &Path, value: &str) -> Vec<f64> {
    let mut layers: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for row in rows(table) {
        layers.entry(row["layer"].parse().unwrap()).or_default().push(row[value].parse().unwrap());
    }
    layers.values().map(|values| mean(values)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn what_shows_the_inside_of_a_model_shows_it_here() {
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str, told: &str, name: &str| {
        let out = path(folder.path(), name);
        let common = ["--duration", "4", "--seed", "1", "--device", "cpu", "--out", &out];
        done(&[&[command][..], &told.split(' ').collect::<Vec<_>>(), &common].concat());
        folder.path().join(name)
    };
    let plain = run("lens", "--concepts all --prompts-per-concept 2 --mode teacher-forced --audio 0", "plain");
    let heard = by_layer(&plain.join("recognisability.csv"), "ndcg");
    let rise = heard[heard.len() - 1] - heard[0];
    // Five seeds: 0.13 to 0.29.
    assert!(heard.len() == 6 && rise > 0.05, "recognisability by layer: {heard:?}");
    let tuned = run(
        "lens",
        "--concepts all --prompts-per-concept 2 --mode tuned --fit-prompts 40 --no-judge --audio 0",
        "tuned",
    );
    let [plain, tuned] =
        [plain, tuned].map(|folder| by_layer(&folder.join("logit_lens_summary.csv"), "kl_last_layer_nats"));
    // Five seeds: 0.79 to 0.92 times as far.
    let nearer = plain.iter().zip(&tuned).take(5).all(|(plain, tuned)| *tuned < 0.97 * plain);
    assert!(plain.len() == 6 && nearer, "plain {plain:?}, tuned {tuned:?}");
    let moved = run(
        "intervene",
        "--all-pairs --concepts pop,rock,electronic,jazz,classical,hiphop --technique adjust --sites mlp_out --layers 4,5 --feed own --controls 1 \
         --prompts-per-concept 2",
        "moved",
    );
    let pairs = rows(moved.join("summary.csv"));
    let gained: Vec<f64> = pairs
        .iter()
        .map(|pair| pair["effect"].parse::<f64>().unwrap() - pair["random_effect"].parse::<f64>().unwrap())
        .collect();
    // Five seeds: 0.3 to 3.4.
    assert!(gained.len() == 60 && mean(&gained) > 0.0, "effect over that of random directions: {gained:?}");
    let controls = fs::read_to_string(moved.join("controls.csv")).unwrap();
    assert!(controls.lines().count() > 60 && !controls.contains("false"), "{controls}");
}

#[test]
fn the_models_inside_the_program_are_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "out");
    let output = tonoscope(&["diffuse", "--prompt", "a flute", "--dry-run", "--out", &out]);
    assert!(stderr(&output).contains("stable-audio-nano: a small model inside the program"), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("write 70 files of at most 4.000 s"), "{said}");
    let notes = path(folder.path(), "notes");
    done(&["data", "render", "notes", &notes, "--programs", "33,73", "--per-program", "4"]);
    let sounds: Vec<String> =
        fs::read_dir(Path::new(&notes).join("audio")).unwrap().map(|file| path(&file.unwrap().path(), "")).collect();
    let sounds: Vec<&str> = sounds.iter().map(|sound| sound.trim_end_matches('/')).collect();
    let told = json(
        &[&["embed", "--text", "A flute sound.", "--text", "A bass sound.", "--device", "cpu"], &sounds[..]].concat(),
    );
    assert_eq!(told["model"]["model"], "clap-nano");
    for file in told["files"].as_array().unwrap() {
        let name = file["file"].as_str().unwrap().rsplit('/').next().unwrap();
        let nearest = file["texts"][0]["text"].as_str().unwrap();
        assert_eq!(nearest.split(' ').nth(1), name.split('_').next(), "{file}");
    }
}

#[test]
fn the_demo_ends_in_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "demo");
    let shown = done(&["demo", "--out", &out, "--device", "cpu", "--dry-run"]);
    assert!(shown.contains("tonoscope intervene --from=pop --to=jazz"), "{shown}");
    assert!(!Path::new(&out).exists(), "a dry run makes nothing");
    let output = tonoscope(&["demo", "--out", &out, "--device", "cpu"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("musicgen-nano: a small model inside the program"), "{said}");
    let page = fs::read_to_string(path(folder.path(), "demo/report.html")).unwrap();
    for part in ["<audio", "recognisability", "effect_by_layer", "piece_0001.wav", "step 19, sample 1", "pca_is_flute"]
    {
        assert!(page.contains(part), "no `{part}`");
    }
    // The controls of every intervention: a scale of 0, and a run patched with itself, changed nothing.
    let controls = fs::read_to_string(path(folder.path(), "demo/intervention/controls.csv")).unwrap();
    assert!(controls.lines().count() > 1 && !controls.contains("false"), "{controls}");
    let steps = folder.path().join("demo/six-steps");
    concepts_of_notes_are_told_apart(&steps);
    families_come_out_of_the_noise(&steps);
}

/// Classifiers of all 28 concepts, by vectors of notes that the demo has made, on instruments that they have not learnt from.
fn concepts_of_notes_are_told_apart(steps: &Path) {
    let (concepts, music, out) = (path(steps, "concepts"), path(steps, "embeddings"), path(steps, "all"));
    let annotations = path(steps, "annotations.json");
    let mut args = vec!["probe", "--concepts", &concepts, "--embeddings", &music, "--annotations", &annotations];
    args.extend(["--hold-out", "instruments", "--classifiers", "logistic", "--frames", "none", "--out", &out]);
    done(&args);
    let lines = rows(steps.join("all/notes.csv"));
    let tested: Vec<_> = lines.iter().filter(|line| line["part"] == "test").collect();
    let number = |line: &BTreeMap<String, String>, name: &str| line[name].parse::<f64>().unwrap();
    let above = tested.iter().filter(|line| number(line, "acc") > number(line, "majority_baseline")).count();
    let all = tested.len();
    assert!(all >= 26 && above >= 20, "{above} of {all} concepts above the majority baseline");
}

/// The same classifiers, of five families, about music for an instrument of each: they tell them apart in what has come out of the
/// noise, and hardly before. Over five seeds, the area under the curve rises by 0.05 to 0.11 from step 5 to step 49.
fn families_come_out_of_the_noise(steps: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| path(folder.path(), name);
    let asked = |mood: &str| {
        let piece = |instrument| format!("Compose a {mood} piece for solo {instrument}. Use a medium tempo.\n");
        ["guitar", "piano", "trumpet", "violin", "flute"].map(piece).concat()
    };
    fs::write(at("prompts.txt"), ["happy", "emotional", "groovy", "passionate"].map(asked).concat()).unwrap();
    done(&["prompts", "annotate", &at("prompts.txt"), "--offline", "--out", &at("annotations.json")]);
    let (prompts, annotations, music, embeddings) =
        (at("prompts.txt"), at("annotations.json"), at("music"), at("embeddings"));
    let mut args = vec!["diffuse", "--prompts", &prompts, "--annotations", &annotations, "--out", &music];
    args.extend(["--samples", "3", "--steps", "50", "--snapshots", "5,49", "--seed", "7", "--device", "cpu"]);
    done(&args);
    done(&["embed-generated", &music, "--device", "cpu", "--out", &embeddings]);
    let (concepts, out) = (path(steps, "concepts"), at("probe"));
    let mut args = vec!["probe", "--concepts", &concepts, "--embeddings", &embeddings, "--annotations", &annotations];
    args.extend(["--only", "is_guitar,is_keyboard,is_brass,is_string,is_flute", "--hold-out", "instruments"]);
    args.extend(["--classifiers", "logistic", "--frames", "none", "--out", &out]);
    done(&args);
    let lines = rows(folder.path().join("probe/concept_results.csv"));
    let area = |step: &str| {
        let of_step = lines.iter().filter(|line| line["diff_step"] == step);
        mean(&of_step.map(|line| line["auroc"].parse().unwrap()).collect::<Vec<f64>>())
    };
    let (first, last) = (area("5"), area("49"));
    assert!(last > first + 0.02, "the area under the curve goes from {first} to {last}");
}
