//! `tonoscope probe`: on rows of which it is known what can be told, from every form of files.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::{fixture, says, stderr, stdout, tonoscope};

/// Features of a row.
const WIDTH: usize = 6;
const PROMPTS: usize = 24;
const SAMPLES: usize = 2;
const STEPS: [usize; 3] = [5, 10, 49];
const CONCEPTS: [&str; 2] = ["is_guitar", "is_flute"];

/// Numbers that have nothing to do with anything.
fn noise(index: usize) -> f32 {
    let mixed = (index as u64 ^ 0x5DEE_CE66)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(29)
        .wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

/// A row in which feature 0 tells guitars and feature 1 flutes, the clearer the larger `clear` is.
fn row(index: usize, guitar: bool, flute: bool, clear: f32) -> Vec<f32> {
    let sign = |is: bool| if is { clear } else { -clear };
    let told = [sign(guitar), sign(flute), 0.0, 0.0, 0.0, 0.0];
    (0..WIDTH).map(|column| noise(index * WIDTH + column) + told[column]).collect()
}

fn write_tensor(path: &Path, name: &str, shape: &[usize], values: &[f32], metadata: &[(&str, String)]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    fs::write(path, safetensors::serialize([(name, view)], Some(metadata)).unwrap()).unwrap();
}

/// Whether prompt `index` has a guitar, and a flute.
fn asks(index: usize) -> (bool, bool) {
    (index.is_multiple_of(2), index.is_multiple_of(3))
}

/// Folders as the earlier steps of the pipeline leave them.
struct Folders {
    _guard: tempfile::TempDir,
    root: PathBuf,
}

impl Folders {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let root = guard.path().to_owned();
        let prompts: Vec<String> = (0..PROMPTS).map(|index| format!("prompt {index}")).collect();
        let annotations: Vec<Value> = (0..PROMPTS)
            .map(|index| {
                let (guitar, flute) = asks(index);
                let aspects: Vec<&str> = [("guitar", guitar), ("flute", flute)]
                    .iter()
                    .filter(|(_, is)| *is)
                    .map(|(name, _)| *name)
                    .collect();
                json!({"prompt": prompts[index], "aspects": aspects, "bpm": 0})
            })
            .collect();
        fs::write(root.join("annotations.json"), serde_json::to_vec(&annotations).unwrap()).unwrap();
        for folder in ["concepts", "embeddings", "latents"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        let notes = 60;
        let kind = |index: usize| (index.is_multiple_of(2), index.is_multiple_of(3));
        let values: Vec<f32> = (0..notes).flat_map(|index| row(index, kind(index).0, kind(index).1, 0.4)).collect();
        let names: Vec<String> = (0..notes).map(|index| format!("note_{index:03}")).collect();
        let listed = [("notes", serde_json::to_string(&names).unwrap())];
        write_tensor(&root.join("concepts/embeddings.safetensors"), "embeddings", &[notes, WIDTH], &values, &listed);
        for (concept, of) in CONCEPTS.iter().zip([0, 1]) {
            let line = |index: usize, class: bool| format!("{},60,{},{class}\n", names[index], u8::from(class));
            let of_class = |class: bool| (0..notes).filter(move |index| [kind(*index).0, kind(*index).1][of] == class);
            let lines =
                [true, false].map(|class| of_class(class).map(|index| line(index, class)).collect::<Vec<_>>().concat());
            let table = format!("note_str,pitch,binary_class,binary_class_str\n{}{}", lines[0], lines[1]);
            fs::write(root.join(format!("concepts/{concept}.csv")), table).unwrap();
        }
        for (step, clear) in STEPS.into_iter().zip([0.0, 0.2, 0.6]) {
            let of = |sound: usize| {
                let (guitar, flute) = asks(sound / SAMPLES);
                row(1000 * step + sound, guitar, flute, clear)
            };
            let values: Vec<f32> = (0..PROMPTS * SAMPLES).flat_map(of).collect();
            let metadata = [
                ("prompts", serde_json::to_string(&prompts).unwrap()),
                ("model", "laion/larger_clap_general".to_owned()),
            ];
            let path = root.join(format!("embeddings/diff_step_{step}.safetensors"));
            write_tensor(&path, "embeddings", &[PROMPTS, SAMPLES, WIDTH], &values, &metadata);
        }
        Self { _guard: guard, root }
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let [concepts, embeddings, annotations, out] =
            [self.path("concepts"), self.path("embeddings"), self.path("annotations.json"), self.path(out)];
        let all = [
            "probe",
            "--concepts",
            &concepts,
            "--embeddings",
            &embeddings,
            "--annotations",
            &annotations,
            "--out",
            &out,
        ];
        [&all[..], &["--resamples", "100", "--frames", "last"], more].concat().into_iter().map(str::to_owned).collect()
    }

    fn run(&self, out: &str, more: &[&str]) -> String {
        let args = self.args(out, more);
        let output = tonoscope(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn refused(&self, more: &[&str]) -> (i32, String) {
        let args = self.args("refused", more);
        let output = tonoscope(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!output.status.success(), "{more:?} succeeded");
        (output.status.code().unwrap(), stderr(&output))
    }

    /// Every file of a folder of results.
    fn files(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        fn collect(folder: &Path, before: &str, all: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{before}{}", path.file_name().unwrap().to_str().unwrap());
                if path.is_dir() {
                    collect(&path, &format!("{name}/"), all);
                } else {
                    all.insert(name, fs::read(path).unwrap());
                }
            }
        }
        let mut all = BTreeMap::new();
        collect(&self.root.join(out), "", &mut all);
        all
    }
}

fn results(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<Value>> {
    serde_json::from_slice(&files["concept_results.json"]).unwrap()
}

#[test]
fn what_can_be_told_is_told_the_later_the_better() {
    let folders = Folders::new();
    let shown = folders.run("probe", &[]);
    assert!(shown.contains("is_guitar") && shown.contains("balanced accuracy"), "{shown}");
    let files = folders.files("probe");
    let all = results(&files);
    // The published form is read by the reader of published results.
    let read = tonoscope_core::musicologist::read_results(&files["concept_results.json"]).unwrap();
    assert_eq!(read.keys().collect::<Vec<_>>(), ["is_flute", "is_guitar"]);
    for (concept, rows) in &all {
        assert_eq!(rows.len(), 2 * STEPS.len());
        for rows in rows.chunks(STEPS.len()) {
            let number = |step: usize, name: &str| rows[step][name].as_f64().unwrap();
            assert!(number(2, "balanced_acc") > 0.85 && number(2, "auroc") > 0.9, "{concept}: {}", rows[2]);
            assert!(number(0, "balanced_acc") < 0.75, "{concept}: {}", rows[0]);
            assert!(number(2, "class_model_test_acc") > 0.7);
            let balanced = f64::midpoint(number(1, "tpr"), number(1, "tnr"));
            assert!((number(1, "balanced_acc") - balanced).abs() < 1e-12);
            assert!(number(1, "acc_low") <= number(1, "acc") && number(1, "acc") <= number(1, "acc_high"));
            assert_eq!(rows[0]["embed_model"], "laion/larger_clap_general");
        }
    }
    // Guitars are half of the prompts, flutes a third.
    assert_eq!(all["is_flute"][0]["pos_gen_audio_samples"], 8 * SAMPLES);
    assert_eq!(all["is_flute"][0]["majority_baseline"].as_f64().unwrap(), 2.0 / 3.0);
    for name in ["summary", "distances", "trajectory_is_guitar", "pca_is_guitar_step_49", "pca_is_flute_step_49"] {
        for extension in ["svg", "png", "csv", "txt"] {
            assert!(!files[&format!("figures/{name}.{extension}")].is_empty(), "{name}.{extension}");
        }
    }
    let gif = &files["figures/pca_is_guitar.gif"];
    assert!(gif.starts_with(b"GIF89a") && gif.ends_with(&[0x3B]));
    assert!(!files.contains_key("figures/pca_is_guitar_step_05.svg") && !files.contains_key("figures/routes.svg"));
    let distances = String::from_utf8(files["distances.csv"].clone()).unwrap();
    assert_eq!(distances.lines().count(), STEPS.len());
    let json: Value = serde_json::from_str(&folders.run("probe", &["--json"])).unwrap();
    assert_eq!(json["summary"].as_array().unwrap().len(), 2 * STEPS.len());
    assert_eq!(folders.files("probe"), files, "a finished run is left as it is");
}

#[test]
fn jobs_and_a_kill_give_what_one_run_gives() {
    let folders = Folders::new();
    folders.run("whole", &[]);
    let whole = folders.files("whole");
    // Three pieces of work: two concepts and the distances.
    for index in ["0", "1", "2"] {
        let shown = folders.run("jobs", &["--num-jobs", "3", "--job-index", index]);
        assert_eq!(shown.contains("tonoscope merge"), index != "2", "{shown}");
    }
    assert_eq!(folders.files("jobs"), whole);
    for index in ["0", "1", "2"] {
        folders.run(&format!("own_{index}"), &["--num-jobs", "3", "--job-index", index]);
    }
    let own = ["own_2", "own_0", "own_1"].map(|name| folders.path(name));
    let merged = tonoscope(&["merge", &own[0], &own[1], &own[2], "--out", &folders.path("merged")]);
    assert!(merged.status.success(), "{}", stderr(&merged));
    assert_eq!(folders.files("merged"), whole);
    // One unit is finished, another half-written.
    let units = folders.root.join("killed/units");
    fs::create_dir_all(&units).unwrap();
    for name in ["key.json", "is_flute.unit"] {
        fs::write(units.join(name), &whole[&format!("units/{name}")]).unwrap();
    }
    fs::write(units.join(".tonoscope-half"), b"x").unwrap();
    folders.run("killed", &[]);
    assert_eq!(folders.files("killed"), whole);
    let other = folders.args("killed", &["--seed", "1"]);
    let output = tonoscope(&other.iter().map(String::as_str).collect::<Vec<_>>());
    says(&(output.status.code().unwrap(), stderr(&output)), 2, &["settings.seed", "--overwrite"]);
}

#[test]
fn latents_and_activations_are_compared_with_the_embeddings() {
    let folders = Folders::new();
    // Latents tell guitars and nothing else; one point of the activations tells them, too.
    for index in 0..PROMPTS {
        let (guitar, _) = asks(index);
        let value = |step: usize, at: usize| {
            let channel = at / 5 % 3;
            noise(step * 10_000 + index * 100 + at) + if channel == 1 && guitar { 3.0 } else { 0.0 }
        };
        let tensors: Vec<(String, Vec<u8>)> = STEPS
            .iter()
            .map(|step| {
                let bytes = (0..SAMPLES * 3 * 5).flat_map(|at| value(*step, at).to_le_bytes()).collect();
                (format!("diff_step_{step}"), bytes)
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, bytes)| (name.as_str(), TensorView::new(Dtype::F32, vec![SAMPLES, 3, 5], bytes).unwrap()));
        fs::write(
            folders.root.join(format!("latents/prompt_{index}.safetensors")),
            safetensors::serialize(views, None).unwrap(),
        )
        .unwrap();
    }
    let shape = [1, PROMPTS, 2, 4];
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|at| noise(at) + if at % 4 == 2 && asks(at / 8).0 { 3.0 } else { 0.0 })
        .collect();
    let prompts: Vec<String> = (0..PROMPTS).map(|index| format!("prompt {index}")).collect();
    let metadata = [
        ("axes", json!({"decoder.0.resid_post": ["branch", "prompt", "step", "feature"]}).to_string()),
        ("prompts", serde_json::to_string(&prompts).unwrap()),
    ];
    fs::create_dir(folders.root.join("captures")).unwrap();
    let capture = folders.root.join("captures/prompts.safetensors");
    write_tensor(&capture, "decoder.0.resid_post", &shape, &values, &metadata);
    let [latents, capture] = [folders.path("latents"), folders.path("captures")];
    folders.run("probe", &["--only", "is_guitar", "--latents", &latents, "--capture", &capture, "--folds", "4"]);
    let files = folders.files("probe");
    assert!(files.contains_key("figures/routes.png"));
    let table = String::from_utf8(files["routes.csv"].clone()).unwrap();
    let balanced = |route: &str, step: &str| -> f64 {
        let line = table
            .lines()
            .find(|line| line.starts_with(&format!("is_guitar,{route},")) && line.split(',').nth(3) == Some(step));
        line.unwrap_or_else(|| panic!("{route} {step}: {table}")).split(',').nth(4).unwrap().parse().unwrap()
    };
    assert!(balanced("latents", "5") > 0.95 && balanced("decoder.0.resid_post", "1") > 0.95, "{table}");
    assert!(
        balanced("embeddings of the sound", "5") < 0.75 && balanced("embeddings of the sound", "49") > 0.85,
        "{table}"
    );
}

#[test]
fn any_features_and_labels_do() {
    let folders = Folders::new();
    let rows: Vec<f32> = (0..80).flat_map(|index| row(index, index % 2 == 0, false, 0.5)).collect();
    write_tensor(&folders.root.join("features.safetensors"), "x", &[80, WIDTH], &rows, &[]);
    let line = |index: usize| {
        let followed = index >= 50;
        let step = if followed { (index / 10 * 10).to_string() } else { String::new() };
        let group = if followed { format!("g{}", index % 10) } else { String::new() };
        format!("{},{step},{group}\n", u8::from(index.is_multiple_of(2)))
    };
    let labels = format!("label,step,group\n{}", (0..80).map(line).collect::<Vec<_>>().concat());
    fs::write(folders.root.join("my labels.csv"), labels).unwrap();
    let [features, labels, out] =
        [folders.path("features.safetensors"), folders.path("my labels.csv"), folders.path("given")];
    let args = ["probe", "--features", &features, "--labels", &labels, "--out", &out, "--resamples", "50"];
    let output = tonoscope(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let files = folders.files("given");
    let rows = &results(&files)["my-labels"];
    assert_eq!(rows.iter().map(|row| row["diff_step"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 60, 70, 50, 60, 70]);
    assert!(rows.iter().all(|row| row["balanced_acc"].as_f64().unwrap() > 0.75), "{rows:?}");
    assert!(files.contains_key("figures/pca_my-labels_step_70.svg"));
    // Learning alone, without anything that is followed.
    let lines: Vec<String> = (0..80).map(|index| format!("{}\n", index % 2)).collect();
    fs::write(folders.root.join("labels.csv"), format!("label\n{}", lines.concat())).unwrap();
    let [labels, out] = [folders.path("labels.csv"), folders.path("alone")];
    let output =
        tonoscope(&["probe", "--features", &features, "--labels", &labels, "--out", &out, "--classifiers", "svm"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        folders.files("alone").contains_key("figures/pca_labels.svg")
            && folders.files("alone").contains_key("notes.csv")
    );
}

#[test]
fn features_of_every_floating_point_type_are_read() {
    type Store<'a> = (Dtype, &'a dyn Fn(f32) -> Vec<u8>);
    let folders = Folders::new();
    // Eighths below 16: every type holds them exactly.
    let rows: Vec<f32> = (0..60).flat_map(|index| row(index, index % 2 == 0, false, 0.5)).collect();
    let rows: Vec<f32> = rows.into_iter().map(|value| (value * 8.0).round().clamp(-127.0, 127.0) / 8.0).collect();
    let labels = folders.path("labels.csv");
    let lines: Vec<String> = (0..60).map(|index| format!("{}\n", index % 2)).collect();
    fs::write(&labels, format!("label\n{}", lines.concat())).unwrap();
    let bits = |value: f32| value.to_bits();
    let types: [Store<'_>; 4] = [
        (Dtype::F32, &|value| value.to_le_bytes().to_vec()),
        (Dtype::F64, &|value| f64::from(value).to_le_bytes().to_vec()),
        (Dtype::BF16, &|value| bits(value).to_le_bytes()[2..].to_vec()),
        (Dtype::F16, &|value| {
            // Sign, exponent of 5 bits, mantissa of 10 bits; 0 has none.
            let (sign, rest) = (bits(value) >> 16 & 0x8000, bits(value) & 0x7fff_ffff);
            let half = if rest == 0 { sign } else { sign | ((rest >> 13) - (112 << 10)) };
            (half as u16).to_le_bytes().to_vec()
        }),
    ];
    let mut tables = vec![];
    for (dtype, store) in types {
        let bytes: Vec<u8> = rows.iter().flat_map(|&value| store(value)).collect();
        let features = folders.path("features.safetensors");
        let view = TensorView::new(dtype, vec![60, WIDTH], &bytes).unwrap();
        fs::write(&features, safetensors::serialize([("x", view)], None).unwrap()).unwrap();
        let name = format!("{dtype:?}");
        let out = folders.path(&name);
        let output = tonoscope(&["probe", "--features", &features, "--labels", &labels, "--out", &out]);
        assert!(output.status.success(), "{}", stderr(&output));
        tables.push(folders.files(&name).remove("notes.csv").unwrap());
    }
    assert!(tables.iter().all(|table| *table == tables[0]));
}

#[test]
fn published_tensors_are_read_and_code_is_refused() {
    let folders = Folders::new();
    let bare = |name: &str| fixture("bare_tensors").join(name).to_str().unwrap().to_owned();
    let labels = folders.path("labels.csv");
    fs::write(&labels, "label,split\n1,train\n0,train\n1,train\n0,train\n1,test\n0,test\n").unwrap();
    let out = folders.path("pt");
    let run = |file: &str| {
        let output =
            tonoscope(&["probe", "--features", &bare(file), "--labels", &labels, "--out", &out, "--overwrite"]);
        (output.status.code().unwrap(), stderr(&output))
    };
    // 3 × 2 rows of 4 features: whole, and a view with 2 × 2 rows.
    assert_eq!(run("tensor_embeddings.pt").0, 0);
    says(&run("view.pt"), 1, &["6 labels", "4 rows"]);
    // The same rows in 64 bits.
    assert_eq!(run("double.pt").0, 0);
    says(&run("list.pt"), 1, &["list.pt", "hint:"]);
    says(&run("legacy.pt"), 1, &["legacy.pt", "hint:"]);
    for file in ["code.pt", "smuggled.pt"] {
        let refused = run(file);
        says(&refused, 1, &[file, "hint:"]);
    }
    assert!(!Path::new("/tmp/tonoscope-code-has-run").exists());
}

#[test]
fn concepts_that_cannot_be_learnt_are_reported() {
    let folders = Folders::new();
    fs::write(folders.root.join("concepts/is_organ.csv"), "note_str,binary_class\nnote_000,0\nnote_001,0\n").unwrap();
    let shown = folders.run("probe", &["--only", "is_organ,is_guitar", "--classifiers", "logistic"]);
    assert!(shown.contains("is_organ: no classifier: 0 positives and 2 negatives"), "{shown}");
    assert!(!results(&folders.files("probe")).contains_key("is_organ"));
}

#[test]
fn what_makes_no_sense_is_told() {
    let folders = Folders::new();
    says(&folders.refused(&["--only", "is_gitar"]), 2, &["is_gitar", "is_guitar"]);
    says(&folders.refused(&["--only", "is_brass"]), 2, &["no notes of `is_brass`", "concepts build"]);
    says(&folders.refused(&["--test-share", "1"]), 2, &["test share of 1"]);
    says(&folders.refused(&["--folds", "1"]), 2, &["1 folds"]);
    says(&folders.refused(&["--latents", "no/such"]), 1, &["no/such"]);
    let split = folders.path("split.json");
    fs::write(&split, r#"{"is_guitar": {"train": [0, 1], "test": [1000]}}"#).unwrap();
    says(&folders.refused(&["--split", &split]), 2, &["is_guitar", "row 1000 of 60"]);
    fs::write(&split, "[]").unwrap();
    says(&folders.refused(&["--split", &split]), 1, &["split.json", "train"]);
    let table = folders.root.join("concepts/is_guitar.csv");
    let text = fs::read_to_string(&table).unwrap();
    fs::write(&table, text.replace("note_004", "note_999")).unwrap();
    says(&folders.refused(&[]), 1, &["note_999", "concepts embed"]);
    fs::write(&table, "note_str,class\nnote_000,1\n").unwrap();
    says(&folders.refused(&[]), 1, &["is_guitar.csv", "binary_class"]);
    fs::write(&table, "note_str,binary_class\nnote_000,maybe\n").unwrap();
    says(&folders.refused(&[]), 1, &["is_guitar.csv", "line 2", "maybe"]);
    fs::write(&table, &text).unwrap();
    let mut rows: Vec<f32> = (0..60 * WIDTH).map(noise).collect();
    rows[7 * WIDTH + 2] = f32::NAN;
    let labels = folders.path("labels.csv");
    let lines: Vec<String> = (0..60).map(|index| format!("{}\n", index % 2)).collect();
    fs::write(&labels, format!("label\n{}", lines.concat())).unwrap();
    let [features, out] = [folders.path("features.safetensors"), folders.path("broken")];
    write_tensor(Path::new(&features), "x", &[60, WIDTH], &rows, &[]);
    let output = tonoscope(&["probe", "--features", &features, "--labels", &labels, "--out", &out]);
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["feature 2 of note 7 is not a number"]);
    fs::write(folders.root.join("annotations.json"), r#"[{"prompt": "another", "aspects": []}]"#).unwrap();
    says(&folders.refused(&[]), 1, &["no annotation of the prompt `prompt 0`", "--annotations"]);
    fs::write(folders.root.join("annotations.json"), "{}").unwrap();
    says(&folders.refused(&[]), 1, &["annotations.json"]);
    assert!(!folders.root.join("refused").exists(), "nothing was written");
}

#[test]
fn instruments_are_held_out_whole() {
    let folders = Folders::new();
    let table = folders.root.join("concepts/is_guitar.csv");
    let plain = fs::read_to_string(&table).unwrap();
    // Of ten instruments, the even ones are guitars; or there is one guitar alone.
    let with_instruments = |name: fn(usize) -> usize| {
        let column = |line: &str| match line.strip_prefix("note_").and_then(|rest| rest[..3].parse().ok()) {
            Some(note) => format!("{line},instrument_{}\n", name(note)),
            None => format!("{line},instrument_str\n"),
        };
        plain.lines().map(column).collect::<String>()
    };
    fs::write(&table, with_instruments(|note| note % 10)).unwrap();
    let apart = ["--only", "is_guitar", "--classifiers", "logistic", "--hold-out", "instruments"];
    folders.run("apart", &apart);
    let notes = String::from_utf8(folders.files("apart")["notes.csv"].clone()).unwrap();
    let counts = |part: &str| {
        let line = notes.lines().find(|line| line.contains(part)).unwrap();
        line.split(',').skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((counts(",train,"), counts(",test,")), (vec!["24".into(); 2], vec!["6".into(); 2]), "{notes}");
    fs::write(&table, with_instruments(|note| if note % 2 == 0 { 0 } else { note })).unwrap();
    let shown = folders.run("alone", &apart);
    assert!(shown.contains("is_guitar: no classifier: too few instruments"), "{shown}");
}
