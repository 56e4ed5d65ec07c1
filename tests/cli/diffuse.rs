//! `tonoscope diffuse` on the tiny Stable Audio: files, tables, splits, recorded noise, and what it refuses.

use std::{collections::BTreeSet, fs, path::Path};

use tonoscope_core::checkpoint::{SafetensorsFile, Source};

use super::{fixture, lens::Place, says, shared, stderr, stdout, tonoscope};

/// Latent frames of the tiny model, and samples of sound that one gives.
const FRAMES: usize = 12;
const HOP: usize = 8;

const PUBLISHED: [&str; 11] = [
    "diffusion_step",
    "prompt_index",
    "sample_index",
    "model",
    "csv_path",
    "sample_length",
    "prompt",
    "tag_json_path",
    "audio_file_path",
    "tag.aspects",
    "tag.bpm",
];

/// Three prompts, six steps.
const SHORT: [&str; 12] = [
    "--steps",
    "6",
    "--snapshots",
    "2,5",
    "--samples",
    "3",
    "--prompt",
    "A solo cello piece with a slow tempo of 50 BPM.",
    "--prompt",
    "Compose a happy rock piece.",
    "--prompt",
    "",
];

/// A 16-bit WAV file: rate, channels, and the samples of all channels in turn.
fn wav(path: &str) -> (u32, u16, Vec<i16>) {
    let mut reader = hound(path);
    let samples = reader.split_off(44);
    let number =
        |at: usize, len: usize| reader[at..at + len].iter().rev().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
    assert_eq!((&reader[..4], number(20, 2), number(34, 2)), (&b"RIFF"[..], 1, 16), "{path}");
    (
        number(24, 4),
        number(22, 2) as u16,
        samples.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect(),
    )
}

fn hound(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("`{path}`: {error}"))
}

fn is_sound(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "wav")
}

/// Names of all WAV files below `out`.
fn sounds(place: &Place, out: &str) -> BTreeSet<String> {
    place.files(out).into_iter().map(|(name, _)| name).filter(|name| is_sound(name)).collect()
}

fn tensor(path: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafetensorsFile::open(Path::new(path)).unwrap();
    let raw = file.read(name).unwrap();
    (raw.shape, raw.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect())
}

#[test]
fn real_prompts_become_files_and_the_published_table() {
    let (Some(prompts), Some(annotations)) = (shared("prompt.txt"), shared("annotations.json")) else { return };
    let place = Place::diffusion();
    let text = fs::read(prompts).unwrap();
    // With a line that is numbered anew, and one that is blank.
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    let mut some = [lines[0], lines[5], b"  ", lines[250]].join(&b'\n');
    let prompts = place.path("prompts.txt");
    let args = ["--prompts", &prompts, "--steps", "6", "--samples", "2", "--snapshots", "0,5", "--seconds-total", "10"];
    // A byte that is no UTF-8 is refused, and its line named.
    fs::write(&prompts, [&some[..], &[0xff]].concat()).unwrap();
    says(&place.fails("diffuse", &args), 1, &["line 4 is not text", "UTF-8"]);
    some.push(b'x');
    fs::write(&prompts, some).unwrap();
    let said = place.done("diffuse", "plain", &args);
    assert!(said.contains("3 prompts, 2 samples of each, at 2 steps"), "{said}");
    // The letter is part of the last prompt, of which no annotation knows.
    let annotated = [&args[..], &["--annotations", annotations.to_str().unwrap()]].concat();
    says(&place.fails("diffuse", &annotated), 2, &["annotations.json", "says nothing of prompt 2", "prompts annotate"]);
    fs::write(place.path("prompts.txt"), [lines[0], lines[5], lines[250]].join(&b'\n')).unwrap();
    place.done("diffuse", "out", &annotated);
    let expected = (0..3).flat_map(|prompt| [0, 5].map(|step| (prompt, step)));
    let expected = expected.flat_map(|(prompt, step)| {
        (0..2).map(move |sample| format!("diff_step_{step}/prompt_{prompt}_sample_{sample}.wav"))
    });
    let expected: Vec<String> = expected.collect();
    assert_eq!(sounds(&place, "out"), expected.iter().cloned().collect());
    assert_eq!(place.table("out/audio_info.csv")[0], PUBLISHED);
    assert_eq!(place.column("out/audio_info.csv", "audio_file_path"), expected);
    let annotations: serde_json::Value = serde_json::from_slice(&fs::read(annotations).unwrap()).unwrap();
    for (row, index) in [(0, 0), (4, 5), (8, 250)] {
        let annotation = &annotations[index];
        let column = |name: &str| place.column("out/audio_info.csv", name)[row].clone();
        assert_eq!(column("prompt"), annotation["prompt"].as_str().unwrap().trim());
        assert_eq!(column("tag.bpm"), annotation["bpm"].to_string());
        let aspects: Vec<String> =
            annotation["aspects"].as_array().unwrap().iter().map(|of| format!("'{}'", of.as_str().unwrap())).collect();
        assert_eq!(column("tag.aspects"), format!("[{}]", aspects.join(", ")));
        // What was made, though 10 s were asked for.
        assert_eq!(column("sample_length"), (f64::from((FRAMES * HOP) as u32) / 44_100.0).to_string());
    }
    for name in &expected {
        let (rate, channels, samples) = wav(&place.path(&format!("out/{name}")));
        assert_eq!((rate, channels, samples.len()), (44_100, 2, 2 * FRAMES * HOP), "{name}");
        // Divided by its peak.
        assert_eq!(samples.iter().map(|sample| sample.unsigned_abs()).max(), Some(32_767), "{name}");
    }
}

#[test]
fn files_are_cut_as_published_or_by_the_rate() {
    let place = Place::diffusion();
    for (cut, samples) in [("published", 48), ("corrected", 44)] {
        place.done("diffuse", cut, &[&SHORT[..], &["--cut", cut, "--seconds-total", "0.001"]].concat());
        assert_eq!(wav(&place.path(&format!("{cut}/diff_step_5/prompt_0_sample_0.wav"))).2.len(), 2 * samples);
    }
    // Both know the same peak: that of all that was decoded.
    let of = |cut: &str| wav(&place.path(&format!("{cut}/diff_step_2/prompt_1_sample_2.wav"))).2;
    assert_eq!(of("published")[..88], of("corrected"));
    place.done("diffuse", "short", &[&SHORT[..], &["--latent-length", "5", "--keep-latents"]].concat());
    assert_eq!(wav(&place.path("short/diff_step_5/prompt_0_sample_0.wav")).2.len(), 2 * 5 * HOP);
    assert_eq!(tensor(&place.path("short/latents/prompt_2.safetensors"), "diff_step_2").0, [3, 6, 5]);
}

#[test]
fn four_jobs_make_what_one_makes() {
    let place = Place::diffusion();
    let args =
        [&SHORT[..], &["--prompt", "d", "--prompt", "e", "--prompt", "f", "--prompt", "g", "--keep-latents"]].concat();
    place.done("diffuse", "whole", &args);
    let whole = place.files("whole");
    assert_eq!(whole.iter().filter(|(name, _)| is_sound(name)).count(), 7 * 2 * 3);
    let job = |out: &str, index: &str| {
        place.done("diffuse", out, &[&args[..], &["--job-index", index, "--num-jobs", "4"]].concat())
    };
    // In one folder, in any order.
    for index in ["2", "0", "3"] {
        assert!(job("array", index).contains("not done yet"));
    }
    // What a killed one has left while others hold the lock.
    let writer = fs::File::open(place.path("array/units/.lock")).unwrap();
    writer.lock_shared().unwrap();
    fs::write(place.path("array/diff_step_2/.tonoscope-half"), b"RIFF").unwrap();
    fs::write(place.path("array/units/.tonoscope-half"), b"{").unwrap();
    assert!(!Path::new(&place.path("array/audio_info.csv")).exists(), "nothing is said of what is not there");
    assert!(job("array", "1").contains("7 prompts"));
    assert!(place.files("array") == whole, "four jobs in one folder");
    // Slurm says which.
    let slurm = place
        .command("diffuse", "slurm", &args)
        .envs([("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("SLURM_ARRAY_TASK_MIN", "0")])
        .output()
        .unwrap();
    assert!(slurm.status.success(), "{}", stderr(&slurm));
    // Two for each job, and one is left for the last.
    let made: BTreeSet<String> =
        sounds(&place, "slurm").iter().map(|name| name.split('_').nth(3).unwrap().to_owned()).collect();
    assert_eq!(made, BTreeSet::from(["6".to_owned()]));
    // In folders of their own, then merged.
    for index in ["0", "1", "2", "3"] {
        job(&format!("job{index}"), index);
    }
    let folders = ["job0", "job1", "job2", "job3"].map(|name| place.path(name));
    let merged = place.path("merged");
    let some = tonoscope(&["merge", "--out", &merged, &folders[0], &folders[3]]);
    says(&(some.status.code().unwrap(), stderr(&some)), 2, &["4 units are missing"]);
    let all: Vec<&str> = ["merge", "--out", &merged].into_iter().chain(folders.iter().map(String::as_str)).collect();
    let all = tonoscope(&all);
    assert!(all.status.success(), "{}", stderr(&all));
    assert!(place.files("merged") == whole, "merged as if of one job");
    // As published, a job without prompts is an error.
    let (status, _, complaint) =
        place.run("diffuse", "array", &[&args[..], &["--job-index", "4", "--num-jobs", "6"]].concat());
    says(&(status, complaint), 2, &["job 4 of 6 has no prompts: there are 7", "fewer jobs"]);
}

#[test]
fn what_is_lost_is_made_again() {
    let place = Place::diffusion();
    place.done("diffuse", "whole", &SHORT);
    place.done("diffuse", "lost", &SHORT);
    fs::remove_file(place.path("lost/diff_step_2/prompt_1_sample_0.wav")).unwrap();
    fs::write(place.path("lost/diff_step_5/prompt_2_sample_2.wav"), b"RIFF").unwrap();
    fs::remove_file(place.path("lost/units/prompt_0000.unit")).unwrap();
    let merge = tonoscope(&["merge", &place.path("lost")]);
    says(&(merge.status.code().unwrap(), stderr(&merge)), 2, &["1 units are missing"]);
    let (status, _, complaint) = place.run("diffuse", "lost", &SHORT);
    assert_eq!(status, 0, "{complaint}");
    assert!(complaint.contains("files of `prompt_0001` are no longer there"), "{complaint}");
    assert!(place.files("lost") == place.files("whole"));
    // Other settings do not mix with these.
    let (status, _, complaint) = place.run("diffuse", "lost", &[&SHORT[..], &["--seed", "1"]].concat());
    says(&(status, complaint), 2, &["`seed` is 0 there, 1 now", "--overwrite"]);
    // Nothing of a run that is overwritten is left to be taken for the next one's.
    let other = ["--steps", "6", "--snapshots", "5", "--samples", "2", "--prompt", SHORT[7]];
    place.done("diffuse", "lost", &[&other[..], &["--overwrite"]].concat());
    place.done("diffuse", "other", &other);
    assert!(place.files("lost") == place.files("other"));
}

#[test]
fn noise_is_the_prompts_own_or_recorded() {
    let place = Place::diffusion();
    place.done("diffuse", "out", &[&SHORT[..], &["--keep-noise"]].concat());
    let sound = |out: &str, prompt: usize, sample: usize| {
        fs::read(place.path(&format!("{out}/diff_step_5/prompt_{prompt}_sample_{sample}.wav"))).unwrap()
    };
    // A prompt among others and by itself, after itself and again.
    let twice = ["--steps", "6", "--snapshots", "2,5", "--samples", "3", "--prompt", SHORT[9], "--prompt", SHORT[9]];
    place.done("diffuse", "twice", &twice);
    for sample in 0..3 {
        assert!(sound("twice", 0, sample) == sound("out", 1, sample), "sample {sample} depends on its neighbours");
    }
    let all: BTreeSet<Vec<u8>> =
        (0..2).flat_map(|prompt| (0..3).map(move |of| (prompt, of))).map(|(p, s)| sound("twice", p, s)).collect();
    assert_eq!(all.len(), 6, "no two are the same");
    // What was recorded gives the same music, whatever the seed.
    let noise = place.path("out/noise/prompt_1.safetensors");
    assert_eq!(tensor(&noise, "initial").0, [3, 6, FRAMES]);
    assert_eq!(tensor(&noise, "steps").0, [5, 3, 6, FRAMES]);
    let replay = ["--seed", "9", "--noise", &noise, "--keep-noise"];
    place.done("diffuse", "replay", &[&twice[..8], &replay].concat());
    for sample in 0..3 {
        assert!(sound("replay", 0, sample) == sound("out", 1, sample), "sample {sample}");
    }
    assert!(fs::read(place.path("replay/noise/prompt_0.safetensors")).unwrap() == fs::read(&noise).unwrap());
    place.done("diffuse", "seeded", &[&twice[..8], &["--seed", "9"]].concat());
    assert!(sound("seeded", 0, 0) != sound("out", 1, 0));
    // Noise that does not fit.
    let one = [&twice[..4], &["--samples", "2", "--prompt", "a", "--noise", &noise]].concat();
    says(&place.fails("diffuse", &one), 2, &["noise of 3 rows, expected 2", "--samples"]);
    let longer = [&SHORT[2..], &["--steps", "8", "--noise", &noise]].concat();
    says(&place.fails("diffuse", &longer), 1, &["`steps` has shape [5, 3, 6, 12]", "[7, 3, 6, 12]"]);
    says(&place.fails("diffuse", &[&SHORT[..], &["--noise", "nowhere"]].concat()), 1, &["cannot read `nowhere`"]);
}

#[test]
fn settings_matter() {
    let place = Place::diffusion();
    let base = &SHORT[..8];
    place.done("diffuse", "base", base);
    let base_sound = fs::read(place.path("base/diff_step_5/prompt_0_sample_0.wav")).unwrap();
    for (name, more) in [
        ("guidance", &["--guidance", "1"][..]),
        ("rescale", &["--rescale", "0.7"]),
        ("negative", &["--negative-prompt", "guitar"]),
        ("karras", &["--schedule", "karras"]),
        ("levels", &["--sigma-min", "0.3", "--sigma-max", "500"]),
        ("2m", &["--sampler", "dpmpp-2m"]),
        ("3m", &["--sampler", "dpmpp-3m-sde"]),
        ("heun", &["--solver", "heun"]),
        ("eta", &["--eta", "0.5"]),
        ("s_noise", &["--s-noise", "0.9"]),
        ("seconds", &["--seconds-start", "20", "--seconds-total", "40"]),
    ] {
        place.done("diffuse", name, &[base, more].concat());
        let sound = fs::read(place.path(&format!("{name}/diff_step_5/prompt_0_sample_0.wav"))).unwrap();
        assert!(sound != base_sound, "{name} changes nothing");
    }
    // Tiles and the size of batches change no more than the last bit.
    place.done("diffuse", "tiles", &[base, &["--tile", "5", "--batch", "2"]].concat());
    let (one, other) = (
        wav(&place.path("base/diff_step_5/prompt_0_sample_2.wav")).2,
        wav(&place.path("tiles/diff_step_5/prompt_0_sample_2.wav")).2,
    );
    assert!(one.iter().zip(&other).all(|(one, other)| one.abs_diff(*other) <= 2), "{one:?} {other:?}");
}

#[test]
fn places_inside_are_recorded_and_changed() {
    let place = Place::diffusion();
    let capture = ["--capture", "dit.*.resid_post:mean_time,dit.x0", "--keep-latents", "--batch", "2"];
    place.done("diffuse", "out", &[&SHORT[..], &capture].concat());
    let path = place.path("out/captures/prompt_1.safetensors");
    let (shape, x0) = tensor(&path, "dit.x0");
    let file = SafetensorsFile::open(Path::new(&path)).unwrap();
    assert_eq!(shape.iter().product::<usize>() % (3 * 6 * 6 * FRAMES), 0, "{shape:?}");
    assert!(x0.iter().all(|value| value.is_finite()));
    assert!(file.names().contains(&"dit.1.resid_post:mean_time".to_owned()), "{:?}", file.names());
    assert!(file.metadata().contains_key("axes"));
    let misspelt = [&SHORT[..], &["--capture", "dit.0.resid_pots"]].concat();
    says(&place.fails("diffuse", &misspelt), 2, &["dit"]);
    let beyond = [&SHORT[..], &["--capture", "dit.7.resid_post"]].concat();
    says(&place.fails("diffuse", &beyond), 1, &["dit.7.resid_post", "nearest"]);
}

#[test]
fn the_points_of_the_model_are_listed() {
    let model = fixture("stable_audio_tiny");
    let listed = tonoscope(&["points", "--model", model.to_str().unwrap()]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    let listed = stdout(&listed);
    for point in ["encoder.0.resid_pre", "dit.0.cross_attn.pattern", "dit.1.resid_post", "dit.x0"] {
        assert!(listed.lines().any(|line| line == point), "no `{point}` in {listed}");
    }
}

#[test]
fn the_other_layout_makes_the_same_music_from_both_of_its_files() {
    let place = Place::diffusion();
    let t5 = fixture("t5_tiny");
    for name in ["stable_audio_tiny_sat", "stable_audio_tiny_ckpt"] {
        let (model, out) = (fixture(name), place.path(name));
        let args = ["diffuse", "--device", "cpu", "--out", &out, "--text-encoder", t5.to_str().unwrap(), "--model"];
        let output = tonoscope(&[&args[..], &[model.to_str().unwrap()], &SHORT[..8]].concat());
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
    let sound = |out: &str| wav(&place.path(&format!("{out}/diff_step_5/prompt_0_sample_1.wav"))).2;
    assert_eq!(sound("stable_audio_tiny_sat"), sound("stable_audio_tiny_ckpt"));
}

#[test]
fn a_dry_run_does_nothing() {
    let place = Place::diffusion();
    let said = place.done("diffuse", "nothing", &[&SHORT[..], &["--dry-run"]].concat());
    assert!(said.contains("would sample 3 of 3 prompts 3 times in 6 steps"), "{said}");
    assert!(said.contains("write 18 files"), "{said}");
    assert!(!Path::new(&place.path("nothing")).exists());
    // By default, every fifth step and the last, of all that the small model makes; it does not make 10 s.
    for more in [&[][..], &["--seconds-total", "10"]] {
        let said = place.done("diffuse", "nothing", &[&["--prompt", "a", "--dry-run"], more].concat());
        assert!(said.contains("7 times in 50 steps") && said.contains("write 70 files of at most 0.002 s"), "{said}");
    }
}

#[test]
fn bad_requests_say_what_to_do() {
    let place = Place::diffusion();
    let fails = |more: &[&str]| place.fails("diffuse", &[&["--prompt", "a"], more].concat());
    says(&place.fails("diffuse", &[]), 2, &["no prompt", "--prompts"]);
    says(&fails(&["--prompts", "x"]), 2, &["both `--prompt` and `--prompts`"]);
    says(&place.fails("diffuse", &["--prompts", "nowhere"]), 1, &["cannot read `nowhere`"]);
    fs::write(place.path("empty.txt"), "\n  \n").unwrap();
    says(&place.fails("diffuse", &["--prompts", &place.path("empty.txt")]), 1, &["empty.txt"]);
    says(&fails(&["--annotations", &place.path("empty.txt")]), 1, &["empty.txt"]);
    says(&fails(&["--steps", "0"]), 2, &["`--steps` is 0"]);
    says(&fails(&["--samples", "0"]), 2, &["`--samples` is 0"]);
    says(&fails(&["--batch", "0"]), 2, &["`--batch` is 0"]);
    says(&fails(&["--tile", "0"]), 2, &["`--tile` is 0"]);
    says(&fails(&["--steps", "10", "--snapshots", "5,10"]), 2, &["a snapshot at step 10", "only 10 steps"]);
    says(&fails(&["--sigma-min", "0"]), 2, &["noise levels from 100 to 0", "--sigma-min"]);
    says(&fails(&["--rho=-1"]), 2, &["rho is -1"]);
    says(&fails(&["--guidance", "NaN"]), 2, &["guidance"]);
    says(&fails(&["--rescale", "2"]), 2, &["rescale of 2", "0 to 1"]);
    says(&fails(&["--eta=-1"]), 2, &["eta of -1"]);
    says(&fails(&["--seconds-total", "0"]), 2, &["--seconds-total"]);
    says(&fails(&["--seconds-start=-1"]), 2, &["--seconds-start"]);
    says(&fails(&["--sampler", "euler"]), 2, &["euler", "dpmpp-2m-sde"]);
    says(&fails(&["--latent-length", "13"]), 2, &["13 latent frames", "1 to 12", "full"]);
    says(&fails(&["--edit", "nowhere"]), 1, &["cannot read `nowhere`"]);
    says(&fails(&["--job-index", "2", "--num-jobs", "2"]), 2, &["job 2 of 2"]);
    let model = |model: &str| {
        let output = tonoscope(&["diffuse", "--prompt", "a", "--out", &place.path("nothing"), "--model", model]);
        (output.status.code().unwrap(), stderr(&output))
    };
    says(&model("stable-audio-open-1"), 2, &["did you mean `stable-audio-open-1.0`"]);
    says(&model("stable-audio-open-1.0"), 1, &["stabilityai/stable-audio-open-1.0", "hint:"]);
    says(&model(fixture("t5_tiny").to_str().unwrap()), 1, &["t5_tiny"]);
}
