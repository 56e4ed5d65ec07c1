//! `tonoscope probe-activations`: on a capture of the tiny MusicGen, and on captures in which it is known what can be read.

use std::{collections::HashMap, fmt::Write as _, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tonoscope_core::{
    checkpoint::{SafetensorsFile, Source},
    hooks::{Branch, CaptureName},
    probes::{Features, Folds, LinearProbe, Probe, cross_validate},
    readout::Readout,
};

use super::{fixture, says, stderr, stdout, tonoscope};

fn probe(capture: &Path, args: &[&str]) -> Value {
    let output = tonoscope(&[&["probe-activations", capture.to_str().unwrap(), "--json"][..], args].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

fn refused(capture: &Path, args: &[&str]) -> (i32, String) {
    let output = tonoscope(&[&["probe-activations", capture.to_str().unwrap()][..], args].concat());
    assert!(!output.status.success(), "{args:?} succeeded");
    (output.status.code().unwrap(), stderr(&output))
}

/// Name, axes, shape, and a value per index.
type Made<'a> = (&'a str, &'a [&'a str], &'a [usize], &'a dyn Fn(&[usize]) -> f32);

/// A capture like those of `generate`.
fn write_capture(path: &Path, prompts: &[String], tensors: &[Made<'_>]) {
    let stored: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, shape, value)| {
            let index = |mut flat: usize| {
                let mut index = vec![0; shape.len()];
                for (at, len) in index.iter_mut().zip(*shape).rev() {
                    *at = flat % len;
                    flat /= len;
                }
                index
            };
            (0..shape.iter().product()).flat_map(|flat| value(&index(flat)).to_le_bytes()).collect()
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&stored)
        .map(|((name, _, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    let axes: HashMap<&str, &[&str]> = tensors.iter().map(|(name, axes, ..)| (*name, *axes)).collect();
    let metadata = HashMap::from([
        ("axes".to_owned(), serde_json::to_string(&axes).unwrap()),
        ("prompts".to_owned(), serde_json::to_string(prompts).unwrap()),
    ]);
    fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// Numbers that have nothing to do with anything.
fn noise(index: &[usize]) -> f32 {
    let seed =
        index.iter().fold(7u64, |seed, &part| (seed ^ part as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

const AXES: [&str; 4] = ["branch", "prompt", "step", "feature"];
const PROMPTS: usize = 40;

/// 40 prompts of two classes in turn, three steps. The class is told by feature 2 of the conditional branch, in the mean
/// over steps alone; by nothing in layer 1. Steps are told by feature 0 in layer 2.
fn known(path: &Path) {
    let prompts: Vec<String> = (0..PROMPTS).map(|index| format!("prompt {index}")).collect();
    let shape = [2, PROMPTS, 3, 4];
    let told = |index: &[usize]| {
        let class = if index[1].is_multiple_of(2) { 1.0 } else { -1.0 };
        let step = [5.0, -5.0, 0.0][index[2]];
        if index[0] == 0 && index[3] == 2 { class + step + noise(index) } else { noise(index) }
    };
    let step = |index: &[usize]| if index[3] == 0 { index[2] as f32 } else { noise(index) };
    write_capture(
        path,
        &prompts,
        &[
            ("decoder.1.mlp_out", &AXES, &shape, &noise),
            ("decoder.0.resid_post", &AXES, &shape, &told),
            ("decoder.2.resid_post", &AXES, &shape, &step),
            ("decoder.0.mlp_out:mean_prompts", &["branch", "step", "feature"], &[2, 3, 4], &noise),
        ],
    );
}

fn labels_csv(folder: &Path, label: impl Fn(usize) -> String) -> String {
    let rows = (0..PROMPTS).fold(String::from("label\n"), |rows, prompt| rows + &label(prompt) + "\n");
    let path = folder.join("labels.csv");
    fs::write(&path, rows).unwrap();
    path.to_str().unwrap().to_owned()
}

fn parity(prompt: usize) -> String {
    if prompt.is_multiple_of(2) { "even".to_owned() } else { "\"odd, that is\"".to_owned() }
}

/// The features of every prompt, gathered in another way than the command does; and how many there are of each.
fn means_over_steps(capture: &Path, name: &str) -> (Vec<f32>, usize) {
    let file = SafetensorsFile::open(capture).unwrap();
    let shape = file.shape(name).unwrap();
    let (prompts, steps, width) = (shape[1], shape[2], shape[3..].iter().product::<usize>());
    let bytes = file.read(name).unwrap().bytes.into_owned();
    let values: Vec<f32> = bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let mean = |at: usize| {
        let (prompt, feature) = (at / width, at % width);
        let sum: f64 = (0..steps).map(|step| f64::from(values[(prompt * steps + step) * width + feature])).sum();
        (sum / steps as f64) as f32
    };
    ((0..prompts * width).map(mean).collect(), width)
}

fn balanced(report: &Value, point: usize) -> f64 {
    report["points"][point]["balanced_accuracy"]["mean"].as_f64().unwrap()
}

#[test]
fn what_can_be_read_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.safetensors");
    known(&capture);
    let labels = labels_csv(folder.path(), parity);
    for kind in ["logistic", "ridge"] {
        let report = probe(&capture, &["--labels", &labels, "--probe", kind]);
        let names: Vec<&str> =
            report["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap()).collect();
        assert_eq!(names, ["decoder.0.resid_post", "decoder.1.mlp_out", "decoder.2.resid_post"]);
        assert!(balanced(&report, 0) > 0.99, "{report}");
        assert!(balanced(&report, 1) < 0.8 && balanced(&report, 2) < 0.8, "{report}");
        assert!(report["points"][0]["auroc"]["mean"].as_f64().unwrap() > 0.99);
        assert_eq!(report["points"][0]["baseline_accuracy"], 0.5);
        assert_eq!(report["classes"], json!([["even", 20], ["odd, that is", 20]]));
        let other = probe(&capture, &["--labels", &labels, "--probe", kind, "--branch", "uncond"]);
        assert!(balanced(&other, 0) < 0.8, "the unconditional branch knows nothing: {other}");
    }
    let again = probe(&capture, &["--labels", &labels]);
    assert_eq!(again, probe(&capture, &["--labels", &labels]));
}

#[test]
fn frames_have_labels_too() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.safetensors");
    known(&capture);
    let mut rows = String::from("prompt_index,step,label\n");
    for prompt in 0..PROMPTS {
        for step in 0..3 {
            writeln!(rows, "{prompt},{step},step {step}").unwrap();
        }
    }
    let labels = folder.path().join("frames.csv");
    fs::write(&labels, &rows).unwrap();
    let labels = labels.to_str().unwrap();
    // Every prompt begins with the same label, so the groups are of one class and only their number counts.
    let report = probe(&capture, &["--labels", labels, "--points", "decoder.1..3.*"]);
    assert_eq!((&report["rows"], &report["prompts"], &report["per_frame"]), (&120.into(), &40.into(), &true.into()));
    assert!(balanced(&report, 0) < 0.6, "{report}");
    assert!(balanced(&report, 1) > 0.99, "{report}");
    let late = folder.path().join("late.csv");
    fs::write(&late, rows.replace("3,2,", "3,7,")).unwrap();
    says(&refused(&capture, &["--labels", late.to_str().unwrap()]), 1, &["step 7", "has 3 steps"]);
}

#[test]
fn a_table_and_files_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.safetensors");
    known(&capture);
    let labels = labels_csv(folder.path(), parity);
    let out = folder.path().join("out");
    let args = ["probe-activations", capture.to_str().unwrap(), "--labels", &labels, "--out", out.to_str().unwrap()];
    let output = tonoscope(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("`decoder.0.mlp_out:mean_prompts` cannot be probed"), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.starts_with("40 rows of 40 different prompts; even (20), odd, that is (20)\n"), "{table}");
    assert!(table.contains("majority baseline     0.500"), "{table}");
    let json: Value = serde_json::from_slice(&fs::read(out.join("probes.json")).unwrap()).unwrap();
    let csv = fs::read_to_string(out.join("probes.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 4);
    let column = |name: &str| rows[0].iter().position(|header| *header == name).unwrap();
    for (point, row) in rows[1..].iter().enumerate() {
        let layer: usize = row[column("layer")].parse().unwrap();
        assert_eq!(layer, point);
        let mean: f64 = row[column("balanced_accuracy")].parse().unwrap();
        assert!((mean - balanced(&json, point)).abs() < 1e-12);
        let line = table.lines().find(|line| line.starts_with(row[0])).unwrap();
        assert!(line.contains(&format!("{mean:.3} ± ")), "{line}");
    }
}

#[test]
fn fitted_probes_are_written_for_others_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.safetensors");
    known(&capture);
    let labels = labels_csv(folder.path(), parity);
    for (kind, probe) in [("logistic", Probe::Logistic { c: 0.5 }), ("ridge", Probe::Ridge { alpha: 0.5 })] {
        let out = folder.path().join(kind);
        let strength = if kind == "logistic" { "--c" } else { "--alpha" };
        let args = ["--labels", &labels, "--probe", kind, strength, "0.5", "--out", out.to_str().unwrap()];
        self::probe(&capture, &args);
        let bytes = fs::read(out.join("probes.safetensors")).unwrap();
        let readout = Readout::from_bytes("probes.safetensors", bytes).unwrap();
        assert_eq!(readout.labels, ["even", "odd, that is"]);
        assert_eq!((readout.branch, readout.per_frame, readout.rows), (Branch::Cond, false, PROMPTS));
        let names: Vec<String> = readout.probes.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["decoder.0.resid_post", "decoder.1.mlp_out", "decoder.2.resid_post"]);
        let truth: Vec<usize> = (0..PROMPTS).map(|prompt| prompt % 2).collect();
        for (name, found) in &readout.probes {
            let (features, width) = means_over_steps(&capture, &name.to_string());
            let expected = LinearProbe::fit(Features::new(&features, width), &truth, probe).unwrap();
            assert_eq!(*found, expected, "{name}");
        }
        let name: CaptureName = "decoder.0.resid_post".parse().unwrap();
        let (features, width) = means_over_steps(&capture, "decoder.0.resid_post");
        for (row, label) in features.chunks(width).zip(&truth) {
            let told = &readout.probes[&name];
            assert!(told.probabilities(row)[*label] > 0.7, "{kind}, class {label}: {:?}", told.probabilities(row));
        }
    }
}

#[test]
fn captures_of_generate_are_probed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("musicgen_tiny");
    let prompts = folder.path().join("prompts.txt");
    let templated: Vec<String> = ["guitar", "piano"]
        .iter()
        .flat_map(|concept| {
            let args = ["prompts", "template", "--concepts", concept, "--prompts-per-concept", "6"];
            stdout(&tonoscope(&args)).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    fs::write(&prompts, templated.join("\n")).unwrap();
    let points = "decoder.*.resid_post,decoder.1.self_attn.z,encoder.0.resid_post:mean_time";
    let args = ["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--duration", "0.005"];
    let out = folder.path().to_str().unwrap();
    let more = ["--prompts", prompts.to_str().unwrap(), "--out", out, "--capture", points];
    let output = tonoscope(&[&args[..], &more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let capture = folder.path().join("capture.safetensors");
    let report = probe(&capture, &["--concepts", "piano,guitar", "--folds", "3", "--seed", "5"]);
    assert_eq!(report["classes"], json!([["guitar", 6], ["piano", 6]]));
    assert_eq!(report["points"][0]["point"], "encoder.0.resid_post:mean_time");
    // The same through the library, the features gathered in another way.
    let name = "decoder.1.self_attn.z";
    let (features, width) = means_over_steps(&capture, name);
    let truth: Vec<usize> = (0..12).map(|prompt| prompt / 6).collect();
    let folds = Folds::stratified(&truth, None, 3, 5).unwrap();
    let expected = cross_validate(Features::new(&features, width), &truth, &folds, Probe::Logistic { c: 1.0 }).unwrap();
    let found = report["points"].as_array().unwrap().iter().find(|point| point["point"] == name).unwrap();
    assert_eq!(found["features"], width);
    // Numbers in JSON may lose their last bit.
    let near = |found: &Value, expected: f64| (found["mean"].as_f64().unwrap() - expected).abs() < 1e-12;
    assert!(near(&found["balanced_accuracy"], expected.balanced_accuracy.mean), "{found}");
    assert!(near(&found["auroc"], expected.auroc.unwrap().mean), "{found}");

    let seven = ["--concepts", "piano,guitar", "--folds", "7"];
    says(&refused(&capture, &seven), 1, &["class `guitar` has 6 different prompts, 7 folds", "hint:"]);
    says(&refused(&capture, &["--concepts", "piano,jazz"]), 1, &["6 of 12 prompts have no label", "one class"]);
    says(&refused(&capture, &["--concepts", "piano,rock"]), 1, &["about both `piano` and `rock`", "--labels"]);
    says(&refused(&capture, &["--concepts", "trumpet,violin"]), 1, &["none of the 12 prompts"]);
    says(&refused(&capture, &["--concepts", "piano,guitr"]), 2, &["`guitar`"]);
}

#[test]
fn what_cannot_be_probed() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.safetensors");
    known(&capture);
    let labels = labels_csv(folder.path(), parity);
    let with = |args: &[&str]| refused(&capture, &[&["--labels", &labels][..], args].concat());
    says(&with(&["--points", "decoder.7.mlp_out"]), 1, &["decoder.7.mlp_out", "nearest is `decoder.0.mlp_out`"]);
    says(&with(&["--points", "decoder.0.mlp_out"]), 1, &["mean over prompts", "hint:"]);
    says(&with(&["--points", "decoder.0.mpl_out"]), 2, &["decoder.*.mlp_out"]);
    says(&with(&["--folds", "1"]), 2, &["1 folds"]);
    says(&with(&["--folds", "21"]), 1, &["class `even` has 20 different prompts", "--folds"]);
    says(&with(&["--alpha", "2"]), 2, &["--alpha"]);
    says(&with(&["--c=0"]), 2, &["positive"]);
    says(&refused(&capture, &[]), 2, &["--labels"]);
    let one = labels_csv(folder.path(), |_| "one".to_owned());
    says(&refused(&capture, &["--labels", &one]), 1, &["one class", "hint:"]);
    let short = folder.path().join("short.csv");
    fs::write(&short, "label\na\nb\n").unwrap();
    says(&refused(&capture, &["--labels", short.to_str().unwrap()]), 1, &["short.csv", "2 labels for the 40 prompts"]);
    says(&refused(&capture, &["--labels", "no/such.csv"]), 1, &["no/such.csv"]);
    let labels = labels_csv(folder.path(), parity);
    let other = fixture("musicgen_tiny").join("model.safetensors");
    says(&refused(&other, &["--labels", &labels]), 1, &["is no capture", "axes", "--capture"]);
    says(&refused(Path::new("no/such.safetensors"), &["--labels", &labels]), 1, &["no/such.safetensors"]);
    let prompts: Vec<String> = (0..PROMPTS).map(|index| format!("prompt {index}")).collect();
    let broken = |index: &[usize]| if index == [0, 17, 1, 3] { f32::NAN } else { noise(index) };
    write_capture(&capture, &prompts, &[("decoder.0.resid_post", &AXES, &[2, PROMPTS, 3, 4], &broken)]);
    says(&refused(&capture, &["--labels", &labels]), 1, &["decoder.0.resid_post", "feature 3 of prompt 17", "hint:"]);
    write_capture(&capture, &prompts, &[("decoder.0.resid_post", &AXES, &[1, PROMPTS, 3, 4], &noise)]);
    let uncond = ["--labels", &labels, "--branch", "uncond"];
    says(&refused(&capture, &uncond), 1, &["no unconditional branch"]);
    write_capture(&capture, &prompts[..3], &[("decoder.0.resid_post", &AXES, &[1, PROMPTS, 3, 4], &noise)]);
    says(&refused(&capture, &["--labels", &labels]), 1, &["damaged", "3 prompts"]);
}

#[test]
fn positions_of_a_capture_are_averaged() {
    let place = tempfile::tempdir().unwrap();
    let prompts: Vec<String> = (0..24).map(|index| format!("{} {index}", ["calm", "wild"][index % 2])).collect();
    let value = |prompt: usize, head: usize, feature: usize| {
        noise(&[prompt, head, feature]) + if prompt.is_multiple_of(2) && feature == 1 { 2.0 } else { 0.0 }
    };
    // Around each value, one below and one above: their mean is exact.
    let spread = |position: usize| [-0.5, 0.0, 0.5][position];
    let rounded = |value: f32| (value * 256.0).round() / 256.0;
    let labels = place.path().join("labels.csv");
    let lines: Vec<String> = prompts.iter().map(|prompt| format!("{}\n", &prompt[..4])).collect();
    fs::write(&labels, format!("label\n{}", lines.concat())).unwrap();
    let report = |name: &str, axes: &[&str], shape: &[usize], of: &dyn Fn(&[usize]) -> f32| {
        let path = place.path().join(name);
        write_capture(&path, &prompts, &[("dit.0.self_attn.z", axes, shape, of)]);
        let mut report = probe(&path, &["--labels", labels.to_str().unwrap()]);
        let fields = report.as_object_mut().unwrap();
        fields.remove("capture");
        fields.remove("sha256");
        report
    };
    let plain = report("plain", &["branch", "prompt", "step", "head", "feature"], &[1, 24, 1, 2, 3], &|at| {
        rounded(value(at[1], at[3], at[4]))
    });
    for (name, order) in [("inner", ["head", "position"]), ("outer", ["position", "head"])] {
        let axes = ["branch", "row", "step", order[0], order[1], "feature"];
        let shape = if name == "inner" { [1, 24, 1, 2, 3, 3] } else { [1, 24, 1, 3, 2, 3] };
        let found = report(name, &axes, &shape, &|at| {
            let (head, position) = if name == "inner" { (at[3], at[4]) } else { (at[4], at[3]) };
            rounded(value(at[1], head, at[5])) + spread(position)
        });
        assert_eq!(found, plain, "{name}");
    }
}
