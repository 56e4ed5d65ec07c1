//! `tonoscope embed-generated`: published files converted, and what it refuses.

use std::{fs, path::Path};

use tonoscope_core::checkpoint::{SafetensorsFile, Source};

use super::{fixture, says, stderr, stdout, tonoscope};

/// A folder with published embeddings of three prompts at two steps.
struct Place(tempfile::TempDir);

impl Place {
    fn new(first: &str, second: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (step, file) in [(5, first), (10, second)] {
            let folder = place.0.path().join(format!("generated/diff_step_{step}"));
            fs::create_dir_all(&folder).unwrap();
            fs::copy(fixture("embeddings_pt").join(file), folder.join("laion-clap_embeddings.pt")).unwrap();
        }
        fs::write(place.path("prompts.txt"), "1. one  \n\n2. two\n3. three").unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let (generated, out) = (self.path("generated"), self.path("out"));
        let output = tonoscope(&[&["embed-generated", &generated, "--out", &out], args].concat());
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], status: i32, parts: &[&str]) {
        let (code, _, complaint) = self.run(args);
        says(&(code, complaint), status, parts);
        assert!(!Path::new(&self.path("out")).exists(), "nothing is written");
    }
}

/// What torch reads in a file.
fn expected(name: &str) -> Vec<f32> {
    let text = fs::read_to_string(fixture("embeddings_pt").join("values.txt")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(|value| value.parse::<f64>().unwrap() as f32).collect()
}

#[test]
fn published_embeddings_are_converted() {
    let place = Place::new("plain.pt", "strided.pt");
    let prompts = place.path("prompts.txt");
    let (status, said, complaint) = place.run(&["--from-pt", "--prompts", &prompts]);
    assert_eq!(status, 0, "{complaint}");
    assert!(said.contains("3 prompts, 2 samples of each, at 2 steps"), "{said}");
    for (step, name) in [(5, "plain"), (10, "strided")] {
        let path = place.path(&format!("out/diff_step_{step}.safetensors"));
        let file = SafetensorsFile::open(Path::new(&path)).unwrap();
        let raw = file.read("embeddings").unwrap();
        assert_eq!(raw.shape, [3, 2, 4]);
        let values: Vec<f32> = raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(values, expected(name), "{name}");
        assert_eq!(file.metadata()["prompts"], r#"["one","two","three"]"#);
        assert_eq!(file.metadata()["model"], "laion-clap");
    }
}

#[test]
fn files_that_bring_code_are_refused_and_nothing_is_written() {
    for file in ["code.pt", "hidden_code.pt"] {
        let place = Place::new("plain.pt", file);
        let prompts = place.path("prompts.txt");
        place.refuses(&["--from-pt", "--prompts", &prompts], 1, &["diff_step_10", "posix.system", "code are refused"]);
        assert!(!Path::new("embeddings_pt_ran").exists());
    }
}

#[test]
fn files_that_are_something_else_are_refused() {
    for (file, reason) in
        [("dictionary.pt", "instruction"), ("whole_numbers.pt", "LongStorage"), ("values.txt", "no ZIP archive")]
    {
        let place = Place::new("plain.pt", file);
        let prompts = place.path("prompts.txt");
        place.refuses(&["--from-pt", "--prompts", &prompts], 1, &["diff_step_10", reason]);
    }
    let place = Place::new("plain.pt", "plain.pt");
    place.refuses(&["--from-pt"], 2, &["nothing says what the prompts", "--prompts"]);
    fs::write(place.path("two.txt"), "one\ntwo").unwrap();
    place.refuses(&["--from-pt", "--prompts", &place.path("two.txt")], 2, &["3 prompts, but 2 are known"]);
    place.refuses(&["--from-pt", "--prompts", &place.path("prompts.txt"), "--steps", "7"], 2, &["at step 7", "5, 10"]);
    fs::copy(
        place.path("generated/diff_step_5/laion-clap_embeddings.pt"),
        place.path("generated/diff_step_5/b_embeddings.pt"),
    )
    .unwrap();
    place.refuses(&["--from-pt", "--prompts", &place.path("prompts.txt")], 2, &["2 files `*_embeddings.pt`"]);
}

#[test]
fn folders_that_are_not_finished_are_refused() {
    let place = Place::new("plain.pt", "plain.pt");
    place.refuses(&[], 2, &["no `audio_info.csv`", "tonoscope merge"]);
    place.refuses(&["--prompts", &place.path("prompts.txt")], 2, &["holds no audio"]);
    fs::write(place.path("generated/audio_info.csv"), "diffusion_step,prompt_index,sample_index,prompt\n5,0,0,one\n")
        .unwrap();
    place.refuses(&[], 2, &["2 files are missing", "prompt_0_sample_0.wav", "tonoscope diffuse"]);
    let output = tonoscope(&["embed-generated", "/no/such/folder"]);
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["/no/such/folder"]);
    let output = tonoscope(&["embed-generated", place.0.path().to_str().unwrap()]);
    says(&(output.status.code().unwrap(), stderr(&output)), 2, &["no folder `diff_step_N`"]);
}

#[test]
fn jobs_embed_what_one_embeds() {
    let place = super::lens::Place::diffusion();
    let prompts =
        ["--prompt", "a", "--prompt", "b", "--prompt", "c", "--steps", "6", "--samples", "2", "--snapshots", "2,5"];
    place.done("diffuse", "generated", &prompts);
    let (generated, clap) = (place.path("generated"), fixture("clap_tiny"));
    let run = |out: &str, more: &[&str]| {
        let out = place.path(out);
        let args = ["embed-generated", &generated, "--out", &out, "--device", "cpu", "--accept-degenerate", "--clap"];
        let output = tonoscope(&[&args[..], &[clap.to_str().unwrap()], more].concat());
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    };
    let done = |out: &str, more: &[&str]| {
        let (status, said, complaint) = run(out, more);
        assert_eq!(status, 0, "{complaint}");
        said
    };
    assert!(done("nothing", &["--dry-run"]).contains("would embed 12 files of 3 of 3 prompts at 2 steps"));
    assert!(!Path::new(&place.path("nothing")).exists());
    assert!(done("whole", &[]).contains("3 prompts, 2 samples of each, at 2 steps"));
    let whole = place.files("whole");
    let file = SafetensorsFile::open(Path::new(&place.path("whole/diff_step_5.safetensors"))).unwrap();
    assert_eq!(file.shape("embeddings").unwrap()[..2], [3, 2]);
    assert_eq!(file.metadata()["prompts"], r#"["a","b","c"]"#);
    // One folder, then one each; then what was lost is made again.
    assert!(done("array", &["--job-index", "1", "--num-jobs", "2"]).contains("2 of 3 prompts are not done yet"));
    done("array", &["--job-index", "0", "--num-jobs", "2"]);
    assert!(place.files("array") == whole, "two jobs in one folder");
    for job in ["0", "1"] {
        done(&format!("job{job}"), &["--job-index", job, "--num-jobs", "2"]);
    }
    let merged = tonoscope(&["merge", &place.path("job0"), &place.path("job1"), "--out", &place.path("merged")]);
    assert!(merged.status.success(), "{}", stderr(&merged));
    assert!(place.files("merged") == whole, "merged as if of one job");
    fs::remove_file(place.path("array/units/prompt_0001.unit")).unwrap();
    fs::remove_file(place.path("array/diff_step_2.safetensors")).unwrap();
    done("array", &[]);
    assert!(place.files("array") == whole);
    // A step by itself is another run; so is other music.
    says(&drop_said(run("whole", &["--steps", "5"])), 2, &["`steps` is 2 long there, 1 long now", "--overwrite"]);
    done("step", &["--steps", "5"]);
    assert!(!Path::new(&place.path("step/diff_step_2.safetensors")).exists());
    place.done("diffuse", "generated", &[&prompts[..], &["--seed", "1", "--overwrite"]].concat());
    says(&drop_said(run("whole", &[])), 2, &["`source` is"]);
    // Of files that are no sound the first is named.
    fs::write(place.path("generated/diff_step_2/prompt_1_sample_0.wav"), b"RIFF but not really").unwrap();
    says(&drop_said(run("broken", &[])), 1, &["prompt_1_sample_0.wav"]);
}

fn drop_said((status, _, complaint): (i32, String, String)) -> (i32, String) {
    (status, complaint)
}
