//! `tonoscope lens` on tiny checkpoints: every mode, from prompts to tables, figures and audio.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tonoscope_core::checkpoint::{SafetensorsFile, Source};
use tonoscope_tests::{Fixture, judges::tiny_audioset_judge};

use super::{fixture, says, stderr, stdout, tonoscope};

/// 128 frames of the fixture: the tiny judge takes no less than 121.
const SECONDS: &str = "0.16";

/// A folder for results, and what every command in it is told.
pub(super) struct Place(tempfile::TempDir, Vec<String>);

impl Place {
    /// A place for experiments on the tiny MusicGen, with the tiny judge.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let judge = folder.path().join("judge");
        fs::create_dir(&judge).unwrap();
        tiny_audioset_judge(&judge);
        let mut place = Self::on(folder, "musicgen_tiny");
        place.1.extend(["--judge".to_owned(), judge.to_str().unwrap().to_owned()]);
        place
    }

    /// A place for runs of the tiny Stable Audio.
    pub(super) fn diffusion() -> Self {
        Self::on(tempfile::tempdir().unwrap(), "stable_audio_tiny")
    }

    fn on(folder: tempfile::TempDir, model: &str) -> Self {
        let model = fixture(model).to_str().unwrap().to_owned();
        Self(folder, ["--device", "cpu", "--model", &model].map(str::to_owned).into())
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// An experiment on the tiny model, not started yet.
    pub(super) fn command(&self, command: &str, out: &str, args: &[&str]) -> Command {
        let out = self.path(out);
        let mut all = vec![command, "--out", &out];
        all.extend(self.1.iter().map(String::as_str));
        if command != "diffuse" && !args.contains(&"--duration") {
            all.extend(["--duration", SECONDS]);
        }
        all.extend(args);
        super::command(&all)
    }

    /// Runs it.
    pub(super) fn run(&self, command: &str, out: &str, args: &[&str]) -> (i32, String, String) {
        let output = self.command(command, out, args).output().unwrap();
        (output.status.code().unwrap_or(-1), stdout(&output), stderr(&output))
    }

    pub(super) fn done(&self, command: &str, out: &str, args: &[&str]) -> String {
        let (status, said, complaint) = self.run(command, out, args);
        assert_eq!(status, 0, "{args:?}: {complaint}");
        said
    }

    pub(super) fn fails(&self, command: &str, args: &[&str]) -> (i32, String) {
        let (status, said, complaint) = self.run(command, "nothing", args);
        assert!(status != 0, "{args:?}: {said}");
        assert!(!Path::new(&self.path("nothing/units")).exists(), "nothing is written");
        (status, complaint)
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
    }

    /// Rows of a table, its head first, split at commas (no test table quotes any it is asked about).
    pub(super) fn table(&self, name: &str) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(self.path(name)).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    /// A column of a table.
    pub(super) fn column(&self, table: &str, name: &str) -> Vec<String> {
        let rows = self.table(table);
        let at = rows[0].iter().position(|of| of == name).unwrap_or_else(|| panic!("no `{name}` in {:?}", rows[0]));
        rows[1..].iter().map(|row| row[at].clone()).collect()
    }

    /// Every file below `name` with its bytes, but for what says how long something took.
    pub(super) fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        fn walk(folder: &Path, base: &Path, all: &mut Vec<(String, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, base, all);
                } else if path.file_name().is_some_and(|name| name != "run.json" && name != ".lock") {
                    let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
                    all.push((name, fs::read(&path).unwrap()));
                }
            }
        }
        let base = self.0.path().join(name);
        let mut all = vec![];
        walk(&base, &base, &mut all);
        all.sort();
        all
    }
}

fn tokens(path: &str) -> (Vec<i64>, Vec<usize>) {
    let file = SafetensorsFile::open(Path::new(path)).unwrap();
    let raw = file.read("codes").unwrap();
    (raw.bytes.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect(), raw.shape)
}

#[test]
fn early_exit_tokens_are_those_of_the_reference() {
    let place = Place::new();
    let expected = Fixture::open_file("musicgen_tiny", "expected_inside.safetensors");
    let prompts: Vec<String> = serde_json::from_str(&expected.metadata("guitar_prompts")).unwrap();
    let mut args = vec!["--no-judge", "--greedy", "--tokens"];
    for prompt in &prompts {
        args.extend(["--prompt", prompt]);
    }
    let model = fixture("musicgen_tiny");
    let out = place.path("out");
    let all = ["lens", "--device", "cpu", "--model", model.to_str().unwrap(), "--out", &out, "--duration", "0.01"];
    let output = tonoscope(&[&all, args.as_slice()].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let (codes, shape) = expected.ints("lens.early_exit.codes");
    assert_eq!(tokens(&place.path("out/tokens.safetensors")), (codes, shape));
}

#[test]
fn every_mode_ends_in_tables_figures_and_audio() {
    let place = Place::new();
    let prompt = ["--prompt", "Compose a happy rock piece."];
    for mode in ["early-exit", "teacher-forced", "tuned"] {
        let more = ["--mode", mode, "--fit-prompts", "3", "--per-step"];
        let said = place.done("lens", mode, &[&prompt[..], &more[..]].concat());
        assert!(said.contains("KL to last"), "{said}");
        let file = |name: &str| format!("{mode}/{name}");
        // Three layers, four codebooks, and the one concept that the prompt names.
        assert_eq!(place.table(&file("logit_lens.csv")).len(), 1 + 3 * 4);
        assert_eq!(place.table(&file("logit_lens_steps.csv")).len(), 1 + 3 * 4 * 128);
        assert_eq!(place.table(&file("recognisability_summary.csv")).len(), 1 + 3);
        assert_eq!(place.column(&file("recognisability_summary.csv"), "concept"), ["rock"; 3]);
        // One prompt says nothing of others.
        for (table, ends) in
            [("recognisability_summary.csv", ["low", "high"]), ("logit_lens_summary.csv", ["kl_low", "kl_high"])]
        {
            assert!(ends.iter().all(|end| place.column(&file(table), end).iter().all(String::is_empty)), "{table}");
        }
        assert_eq!(place.table(&file("self_similarity.csv")).len(), 1 + 9);
        assert_eq!(place.table(&file("audio.csv")).len(), 1 + 3);
        for name in ["recognisability", "logit_lens", "self_similarity"] {
            for extension in ["svg", "png", "csv"] {
                assert!(
                    Path::new(&place.path(&file(&format!("figures/{name}.{extension}")))).is_file(),
                    "{mode}: {name}"
                );
            }
        }
        let kl: Vec<f64> = place
            .column(&file("logit_lens_summary.csv"), "kl_last_layer_nats")
            .iter()
            .map(|kl| kl.parse().unwrap())
            .collect();
        assert!(kl[8..].iter().all(|kl| *kl == 0.0), "the last layer is the model: {kl:?}");
        assert!(kl[..4].iter().all(|kl| *kl > 0.0), "{kl:?}");
        let ndcg: Vec<f64> =
            place.column(&file("recognisability.csv"), "ndcg").iter().map(|of| of.parse().unwrap()).collect();
        assert!(ndcg.iter().all(|of| (0.0..=1.0).contains(of)), "{ndcg:?}");
    }
    // The whole model's music is the same in all modes.
    let audio = |mode: &str| fs::read(place.path(&format!("{mode}/audio/prompt_0000_layer_03.wav"))).unwrap();
    assert_eq!(audio("early-exit"), audio("tuned"));
    // Translators that were saved give what they gave when they were fitted.
    let saved = place.path("tuned/translators.safetensors");
    place.done("lens", "again", &[&prompt[..], &["--mode", "tuned", "--translators", &saved]].concat());
    assert_eq!(place.read("again/logit_lens.csv"), place.read("tuned/logit_lens.csv"));
}

#[test]
fn a_killed_run_and_an_array_give_the_files_of_one_run() {
    let place = Place::new();
    let args = ["--concepts", "guitar,jazz", "--prompts-per-concept", "2", "--layers", "1,3", "--tokens"];
    place.done("lens", "whole", &args);
    // Killed: two units are missing, a third was being written.
    place.done("lens", "killed", &args);
    fs::remove_file(place.path("killed/units/guitar_0001.unit")).unwrap();
    fs::remove_file(place.path("killed/units/jazz_0000.unit")).unwrap();
    fs::write(place.path("killed/units/.tonoscope-half"), b"{").unwrap();
    fs::remove_file(place.path("killed/logit_lens.csv")).unwrap();
    place.done("lens", "killed", &args);
    assert!(place.files("killed") == place.files("whole"), "resumed as if never stopped");
    // An array of three jobs with folders of their own, then merged.
    for job in ["0", "1", "2"] {
        place.done("lens", &format!("job{job}"), &[&args[..], &["--job-index", job, "--num-jobs", "3"]].concat());
    }
    let folders = ["job0", "job1", "job2"].map(|name| place.path(name));
    let out = place.path("merged");
    let merge = |folders: &[&str]| tonoscope(&[&["merge", "--out", &out], folders].concat());
    let two = merge(&[&folders[0], &folders[1]]);
    if two.status.code() != Some(0) {
        says(&(two.status.code().unwrap(), stderr(&two)), 2, &["units are missing"]);
    }
    let all = merge(&[&folders[0], &folders[1], &folders[2]]);
    assert!(all.status.success(), "{}", stderr(&all));
    assert!(place.files("merged") == place.files("whole"), "merged as if of one job");
    let names: BTreeSet<String> = place.column("whole/recognisability.csv", "concept").into_iter().collect();
    assert_eq!(names, BTreeSet::from(["guitar".to_owned(), "jazz".to_owned()]));
    // Other settings in the same folder are refused.
    let (status, _, complaint) = place.run("lens", "whole", &[&args[..], &["--seed", "1"]].concat());
    says(&(status, complaint), 2, &["`basis.sampling.seed` is 0 there, 1 now", "--overwrite"]);
}

#[test]
fn bad_requests_say_what_to_do() {
    let place = Place::new();
    let prompt = ["--prompt", "x"];
    let fails = |more: &[&str]| place.fails("lens", &[&prompt[..], more].concat());
    says(&fails(&["--layers", "4"]), 2, &["layer 4, but the model has the layers 1 to 3"]);
    says(&fails(&["--layers", "three"]), 2, &["`three` is no layer"]);
    says(&fails(&["--concepts", "guitar"]), 2, &["both `--prompt` and `--concepts`"]);
    says(&place.fails("lens", &[]), 2, &["no prompt", "--concepts all"]);
    says(&place.fails("lens", &["--concepts", "guitarr"]), 2, &["`guitarr`", "the nearest is `guitar`"]);
    says(&fails(&["--translators", "nowhere", "--mode", "tuned"]), 1, &["cannot read `nowhere`"]);
    says(&fails(&["--duration", "31"]), 2, &["the lens reads up to 30 s"]);
}
