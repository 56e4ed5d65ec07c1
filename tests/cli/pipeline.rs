//! `tonoscope pipeline`: a file of settings becomes command lines; nothing is done before all of them are sound.

use std::{collections::BTreeMap, fs, path::Path};

use tonoscope_core::checkpoint::{SafetensorsFile, Source};

use super::{fixture, says, shared, stderr, stdout, tonoscope};

struct Place(tempfile::TempDir);

impl Place {
    fn new(file: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("pipeline.toml"), file.replace("FOLDER", &place.path("run"))).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = tonoscope(&[&["pipeline", "run", &self.path("pipeline.toml")], args].concat());
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], parts: &[&str]) {
        let (status, _, complaint) = self.run(args);
        says(&(status, complaint), 2, parts);
        assert!(!Path::new(&self.path("run")).exists(), "nothing is done");
    }
}

/// Two prompts through the tiny Stable Audio.
fn diffusion() -> String {
    let model = fixture("stable_audio_tiny");
    format!(
        "folder = 'FOLDER'\ndevice = 'cpu'\n[diffuse]\nmodel = '{}'\nprompt = ['a, b', \"it's\"]\nprompts = []\nannotations = []\n\
         steps = 6\nsnapshots = [2, 5]\nsamples = 2\nkeep-latents = true\n",
        model.display()
    )
}

#[test]
fn settings_are_the_options_of_the_command() {
    let place = Place::new(&diffusion());
    let (status, said, complaint) = place.run(&["--from", "2", "--to", "2", "--dry-run"]);
    assert_eq!(status, 0, "{complaint}");
    assert!(said.starts_with("step 2, diffuse: tonoscope diffuse"), "{said}");
    assert!(said.contains("--snapshots=2 --snapshots=5") && said.contains(r"'--prompt=it'\''s'"), "{said}");
    assert!(said.contains(&format!("makes {}", place.path("run/generated"))), "{said}");
    assert!(!Path::new(&place.path("run")).exists());
    let (status, said, complaint) = place.run(&["--from", "2", "--to", "2"]);
    assert_eq!(status, 0, "{complaint}");
    assert!(said.contains("2 prompts, 2 samples of each, at 2 steps"), "{said}");
    // As the command by itself.
    let (model, alone) = (fixture("stable_audio_tiny"), place.path("alone"));
    let args = [
        "diffuse",
        "--device",
        "cpu",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "a, b",
        "--prompt",
        "it's",
        "--out",
        &alone,
    ];
    let more = ["--steps", "6", "--snapshots", "2,5", "--samples", "2", "--keep-latents"];
    let output = tonoscope(&[&args[..], &more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let sound = |folder: &str| fs::read(place.path(&format!("{folder}/diff_step_5/prompt_1_sample_1.wav"))).unwrap();
    assert!(sound("alone") == sound("run/generated"));
    // What is finished is not made again.
    let written = |name: &str| fs::metadata(place.path(name)).unwrap().modified().unwrap();
    let before = written("run/generated/diff_step_5/prompt_1_sample_1.wav");
    assert_eq!(place.run(&["--from", "2", "--to", "2"]).0, 0);
    assert_eq!(written("run/generated/diff_step_5/prompt_1_sample_1.wav"), before);
}

#[test]
fn jobs_share_a_step() {
    let place = Place::new(&diffusion());
    let two = |index: &str| place.run(&["--from", "2", "--to", "2", "--job-index", index, "--num-jobs", "2"]);
    let (status, said, complaint) = two("1");
    assert_eq!(status, 0, "{complaint}");
    assert!(said.contains("1 of 2 prompts are not done yet"), "{said}");
    let (status, said, complaint) = two("0");
    assert_eq!(status, 0, "{complaint}");
    assert!(said.contains("2 prompts, 2 samples of each"), "{said}");
    let place = Place::new(&diffusion());
    place.refuses(
        &["--from", "2", "--to", "3", "--job-index", "0", "--num-jobs", "2"],
        &["2 commands at once", "docs/slurm"],
    );
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    let with = |more: &str| Place::new(&format!("{}{more}", diffusion()));
    with("stepz = 3\n").refuses(&["--from", "2", "--to", "2"], &["`[diffuse]`", "--stepz", "diffuse --help"]);
    with("[embed-generated]\nclapp = 'x'\n")
        .refuses(&["--from", "2", "--to", "3"], &["`[embed-generated]`", "--clapp"]);
    with("guidance = 'much'\n").refuses(&["--from", "2", "--to", "2"], &["`[diffuse]`", "much"]);
    with("json = 'yes'\n").refuses(&["--from", "2", "--to", "2"], &["`json` of `[diffuse]`", "switch"]);
    with("[difuse]\n").refuses(&[], &["no step `[difuse]`", "`[diffuse]`"]);
    Place::new("seed = 3").refuses(&[], &["`seed` stands above the tables", "`device`"]);
    Place::new("[diffuse").refuses(&[], &["no TOML"]);
    Place::new("folder = 3").refuses(&[], &["`folder` is `3`"]);
    with("").refuses(&["--from", "3", "--to", "2"], &["from step 3 to step 2"]);
    with("").refuses(&["--from", "0"], &["0"]);
    let output = tonoscope(&["pipeline", "run", "/no/such/file"]);
    says(&(output.status.code().unwrap(), stderr(&output)), 1, &["/no/such/file"]);
    // What the command itself refuses comes with the name of the step.
    with("sigma-min = 0\n").refuses(&["--from", "2", "--to", "2"], &["step 2, diffuse has failed", "noise levels"]);
}

#[test]
fn the_example_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let init = |more: &[&str]| tonoscope(&[&["pipeline", "init", path.to_str().unwrap()], more].concat());
    assert!(init(&[]).status.success());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("[diffuse]") && text.contains("# guidance = 6"));
    let again = init(&[]);
    says(&(again.status.code().unwrap(), stderr(&again)), 2, &["is there already", "--overwrite"]);
    assert!(init(&["--overwrite"]).status.success());
}

/// Every file below `folder`, but for what says how long something took.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else if name != "run.json" && name != ".lock" {
            all.insert(name, fs::read(path).unwrap());
        }
    }
    all
}

/// The first `count` published prompts with their annotations, if they are there.
fn published(place: &Place, count: usize) -> Option<String> {
    let (prompts, annotations) = (shared("prompt.txt")?, shared("annotations.json")?);
    let text = String::from_utf8_lossy(&fs::read(prompts).unwrap()).into_owned();
    let some: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(count).collect();
    fs::write(place.path("published.txt"), some.join("\n")).unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(annotations).unwrap()).unwrap();
    fs::write(place.path("published.json"), serde_json::to_vec(&all[..count]).unwrap()).unwrap();
    Some(format!("prompts = '{}'\nannotations = '{}'\n", place.path("published.txt"), place.path("published.json")))
}

#[test]
fn six_steps_lead_from_prompts_to_animations() {
    let place = Place::new("");
    let (diffusion, clap) = (fixture("stable_audio_tiny"), fixture("clap_tiny"));
    let real = published(&place, 24).unwrap_or_default();
    let annotations = real.lines().nth(1).unwrap_or_default();
    let clap = format!("clap = '{}'\naccept-degenerate = true\n", clap.display());
    let text = format!(
        "folder = '{}'\ndevice = 'cpu'\n[prompts]\noffline = true\ncount = 24\n[annotate]\noffline = true\n[diffuse]\nmodel = '{}'\n{real}\
         steps = 6\nsnapshots = [2, 5]\nsamples = 2\n[embed-generated]\n{clap}[concepts]\nnotes = '{}'\nmost = 12\n[concepts-embed]\n{clap}\
         [probe]\n{annotations}\nresamples = 50\nonly = ['is_guitar', 'is_acoustic']\n",
        place.path("run"),
        diffusion.display(),
        place.path("notes"),
    );
    fs::write(place.path("pipeline.toml"), text).unwrap();
    let notes = tonoscope(&["data", "notes", &place.path("notes"), "--per-program", "3"]);
    assert!(notes.status.success(), "{}", stderr(&notes));
    let (status, said, complaint) = place.run(&[]);
    assert_eq!(status, 0, "{said}\n{complaint}");
    for title in [
        "step 1, prompts",
        "step 1, annotate",
        "step 2, diffuse",
        "step 3, embed-generated",
        "step 4, concepts",
        "step 6, probe",
    ] {
        assert!(said.contains(title), "no {title} in {said}");
    }
    let run = Path::new(place.0.path()).join("run");
    let made = files(&run);
    for name in [
        "prompts.txt",
        "annotations.json",
        "generated/audio_info.csv",
        "generated/diff_step_5/prompt_23_sample_1.wav",
        "embeddings/diff_step_2.safetensors",
        "concepts/is_guitar.csv",
        "concepts/embeddings.safetensors",
        "probe/concept_results.json",
    ] {
        assert!(made.contains_key(name), "no `{name}` among {:?}", made.keys());
    }
    assert!(
        made.keys().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "gif")),
        "{:?}",
        made.keys()
    );
    let embeddings = SafetensorsFile::open(&run.join("embeddings/diff_step_2.safetensors")).unwrap();
    assert_eq!(embeddings.shape("embeddings").unwrap()[..2], [24, 2]);
    // Each step once more, by itself: nothing changes.
    for step in ["1", "2", "3", "4", "5", "6"] {
        let (status, said, complaint) = place.run(&["--from", step, "--to", step]);
        assert_eq!(status, 0, "{said}\n{complaint}");
        let again = files(&run);
        assert_eq!(again.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "after step {step}");
        for (name, bytes) in &made {
            assert!(again[name] == *bytes, "step {step} changes `{name}`");
        }
    }
}
