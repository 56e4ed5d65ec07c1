//! What all runs share: damaged units, Ctrl-C, arrays, lengths, and files that are not written over.

use std::{fs, path::Path};

use serde_json::Value;
use tonoscope_core::audio::{WavFormat, Waveform};
use tonoscope_tests::judges::tiny_judge;

use super::{concepts::write_examples, fixture, lens::Place, says, stderr, stdout, tonoscope};

fn failed(args: &[&str]) -> (i32, String) {
    let output = tonoscope(args);
    (output.status.code().unwrap(), stderr(&output))
}

fn wav(path: &str) {
    let samples = (0..16_000).map(|at| 0.3 * (at as f32 * 0.05).sin()).collect();
    fs::write(path, Waveform::new(vec![samples], 32_000).unwrap().to_wav_bytes(WavFormat::Pcm16).unwrap()).unwrap();
}

/// A turned bit in a finished unit, of whatever command.
#[test]
fn a_damaged_unit_is_named_and_computed_again() {
    let place = Place::new();
    let lens = ["--concepts", "guitar", "--prompts-per-concept", "2", "--layers", "1"];
    let intervene = ["--from", "guitar", "--to", "piano", "--prompts-per-concept", "2", "--sites", "mlp_out"];
    let generate = ["--prompt", "a", "--prompt", "b", "--batch-size", "1", "--tokens", "--duration", "0.025"];
    for (command, args, unit) in [
        ("lens", &lens[..], "guitar_0001"),
        ("intervene", &intervene, "guitar_to_piano_0000"),
        ("intervene", &intervene, "clean_guitar_0001"),
    ] {
        let out = format!("{command}_{unit}");
        place.done(command, &out, args);
        let whole = place.files(&out);
        let path = place.path(&format!("{out}/units/{unit}.unit"));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (status, _, complaint) = place.run(command, &out, args);
        assert_eq!(status, 0, "{complaint}");
        assert!(complaint.contains(&format!("unit `{unit}` in")) && complaint.contains("is damaged"), "{complaint}");
        assert!(place.files(&out) == whole, "{command}: it is what it was");
    }
    // Without a judge: `generate` takes none.
    let model = fixture("musicgen_tiny");
    let out = place.path("generate");
    let all = ["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--out", &out];
    let run = || tonoscope(&[&all[..], &generate].concat());
    assert!(run().status.success());
    let whole = place.files("generate");
    let path = place.path("generate/units/batch_0000.unit");
    let kept = fs::read(&path).unwrap();
    // Bits of a token: one that makes another of it, and one beyond the vocabulary.
    for bit in [1, 24] {
        let mut bytes = kept.clone();
        let at = bytes.len() - 40 - 32 + bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let again = run();
        assert!(again.status.success() && stderr(&again).contains("unit `batch_0000` in"), "{}", stderr(&again));
        assert!(place.files("generate") == whole, "bit {bit}");
    }
}

#[test]
fn merging_counts_a_damaged_unit_as_missing_unless_another_folder_has_it() {
    let place = Place::new();
    let args = ["--concepts", "guitar", "--prompts-per-concept", "2", "--layers", "1"];
    place.done("lens", "one", &args);
    place.done("lens", "two", &args);
    let path = place.path("one/units/guitar_0000.unit");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let out = place.path("merged");
    says(
        &failed(&["merge", "--out", &out, &place.path("one")]),
        2,
        &["`guitar_0000` in", "is damaged", "1 units are missing"],
    );
    let both = tonoscope(&["merge", "--out", &out, &place.path("one"), &place.path("two")]);
    assert!(both.status.success(), "{}", stderr(&both));
    assert!(place.files("merged") == place.files("two"));
}

/// Ctrl-C, once some units are there.
#[cfg(unix)]
#[test]
fn an_interrupted_run_says_what_is_finished_and_ends_with_130() {
    let place = Place::new();
    let args = ["--concepts", "all", "--prompts-per-concept", "20", "--no-judge"];
    let mut process = place
        .command("lens", "out", &args)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let finished = || fs::read_dir(place.path("out/units")).map_or(0, std::iter::Iterator::count) > 4;
    while !finished() && process.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    std::process::Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    let output = process.wait_with_output().unwrap();
    let complaint = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{complaint}");
    let units = fs::read_dir(place.path("out/units")).unwrap();
    let units = units.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|of| of == "unit")).count();
    let told = format!("error: interrupted: {units} of 200 prompts are finished; run the same command again to resume");
    assert!(units >= 2 && complaint.contains(&told), "{units}: {complaint}");
}

#[test]
fn a_share_that_only_slurm_asks_for_is_announced_in_the_first_line() {
    let place = Place::new();
    let run = |command: &str, place: &Place, args: &[&str]| {
        let variables = [("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_COUNT", "2"), ("SLURM_ARRAY_TASK_MIN", "0")];
        let output = place.command(command, command, args).envs(variables).output().unwrap();
        (output.status.code().unwrap(), stderr(&output))
    };
    let announced = |(status, complaint): (i32, String), what: &str| {
        assert_eq!(status, 0, "{complaint}");
        let first = complaint.lines().next().unwrap_or_default();
        assert!(first.starts_with("note: this is job 1 of 2 of a Slurm array"), "{what}: {complaint}");
    };
    announced(run("lens", &place, &["--concepts", "guitar,piano", "--dry-run"]), "lens");
    announced(run("intervene", &place, &["--from", "guitar", "--to", "piano", "--dry-run"]), "intervene");
    let diffusion = Place::diffusion();
    announced(run("diffuse", &diffusion, &["--prompt", "a", "--prompt", "b", "--dry-run"]), "diffuse");
    let asked = run("diffuse", &diffusion, &["--prompt", "a", "--prompt", "b", "--num-jobs", "1", "--dry-run"]);
    assert!(asked.0 == 0 && !asked.1.contains("Slurm"), "{}", asked.1);
}

#[test]
fn the_default_length_is_what_the_model_was_trained_on() {
    let dry = |command: &str, args: &[&str]| {
        let output = tonoscope(&[&[command, "--prompt", "a", "--device", "cpu", "--dry-run"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    // musicgen-nano was trained on 4 s.
    for command in ["generate", "lens"] {
        let (said, complaint) = dry(command, &[]);
        assert!(said.contains("of 4.00 s") && !complaint.contains("the model was trained on"), "{said}{complaint}");
    }
    let (said, complaint) = dry("generate", &["--duration", "8"]);
    assert!(said.contains("of 8.00 s") && complaint.contains("the model was trained on 4 s"), "{said}{complaint}");
    // A checkpoint that does not say it.
    let tiny = fixture("musicgen_tiny");
    let (said, complaint) = dry("generate", &["--model", tiny.to_str().unwrap(), "--duration", "20"]);
    assert!(said.contains("of 20.00 s") && !complaint.contains("the model was trained on"), "{said}{complaint}");
    let (said, _) = dry("generate", &["--model", tiny.to_str().unwrap()]);
    assert!(said.contains("of 8.00 s"), "{said}");
}

#[test]
fn the_table_says_how_long_the_files_are_and_a_note_that_more_was_asked_for() {
    let place = Place::diffusion();
    let args = ["--prompt", "a", "--samples", "1", "--steps", "2", "--snapshots", "1", "--seconds-total", "180"];
    let (status, _, complaint) = place.run("diffuse", "long", &args);
    assert_eq!(status, 0, "{complaint}");
    assert!(complaint.contains("s of music, so that the files are no longer, though it is told 180 s"), "{complaint}");
    let made = 96.0 / 44_100.0;
    assert_eq!(place.column("long/audio_info.csv", "sample_length"), [made.to_string()]);
    // Half of the latents are half of the music.
    let short = ["--prompt", "a", "--samples", "1", "--steps", "2", "--snapshots", "1", "--latent-length", "6"];
    place.done("diffuse", "short", &short);
    assert_eq!(place.column("short/audio_info.csv", "sample_length"), [(made / 2.0).to_string()]);
}

#[test]
fn intervals_of_one_prompt_are_empty() {
    let place = Place::new();
    let one =
        ["--from", "guitar", "--to", "piano", "--prompts-per-concept", "1", "--sites", "mlp_out", "--layers", "1"];
    place.done("intervene", "one", &[&one[..], &["--technique", "replace"]].concat());
    for end in ["effect_low", "effect_high", "precision_low", "precision_high"] {
        assert_eq!(place.column("one/summary.csv", end), [""], "{end}");
    }
    for end in ["effect_low", "effect_high"] {
        assert!(place.column("one/categories.csv", end).iter().all(String::is_empty), "{end}");
    }
    let json: Value = serde_json::from_str(&place.done(
        "intervene",
        "one",
        &[&one[..], &["--technique", "replace", "--json"]].concat(),
    ))
    .unwrap();
    assert!(json["summary"][0]["effect"].is_number() && json["summary"][0]["effect_low"].is_null(), "{json}");
    // Of two they are there.
    let two =
        ["--from", "guitar", "--to", "piano", "--prompts-per-concept", "2", "--sites", "mlp_out", "--layers", "1"];
    place.done("intervene", "two", &two);
    let parsed = |end: &str| place.column("two/summary.csv", end)[0].parse::<f64>().unwrap();
    assert!(parsed("effect_low") <= parsed("effect") && parsed("effect") <= parsed("effect_high"));
}

#[test]
fn concepts_that_differ_outside_ascii_keep_files_of_their_own() {
    let place = Place::new();
    for (one, other) in [("琴", "鼓"), ("r&b", "r+b")] {
        let concept = |name: &str, word: &str, label: &str| {
            format!(
                "[[concepts]]\nname = \"{name}\"\nword = \"{word}\"\nslot = \"I\"\nlabel = \"{label}\"\nrelevant = [\"{label}\"]\n"
            )
        };
        let text = format!(
            "template = \"A piece with a [I] melody.\"\n[[slots]]\nname = \"I\"\nwords = [\"guitar\", \"drums\"]\n{}{}",
            concept(one, "guitar", "Guitar"),
            concept(other, "drums", "Drum")
        );
        let own = place.path("own.toml");
        fs::write(&own, text).unwrap();
        let args = ["--concepts", &own, "--prompts-per-concept", "1"];
        place.done("lens", "lens", &[&args[..], &["--overwrite"]].concat());
        let sounds = place.column("lens/audio.csv", "file");
        let there = sounds.iter().filter(|file| Path::new(&place.path(&format!("lens/{file}"))).is_file()).count();
        let mut distinct = sounds.clone();
        distinct.dedup();
        assert_eq!((there, distinct.len()), (6, 6), "{sounds:?}");
        fs::remove_dir_all(place.path("lens")).unwrap();
        let pairs = ["--all-pairs", "--sites", "mlp_out", "--save-edits", "--save-extremes", "1"];
        place.done("intervene", "pairs", &[&args[..], &pairs].concat());
        for (folder, count) in [("means", 2), ("pairs", 2), ("edits", 2)] {
            assert_eq!(fs::read_dir(place.path(&format!("pairs/{folder}"))).unwrap().count(), count, "{folder}");
        }
        fs::remove_dir_all(place.path("pairs")).unwrap();
    }
}

#[test]
fn what_a_command_reads_it_does_not_write_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (sound, prompts, judge) = (path("y.wav"), path("r.txt"), path("judge"));
    wav(&sound);
    fs::write(&prompts, "a slow piano piece\n").unwrap();
    fs::create_dir(&judge).unwrap();
    tiny_judge(Path::new(&judge));
    let roundabout = path("judge/../y.wav");
    let clap = fixture("clap_tiny");
    let before = [&sound, &prompts].map(|path| fs::read(path).unwrap());
    let refused = |args: &[&str]| says(&failed(args), 2, &["would be written over", "hint:"]);
    for out in [&sound, &roundabout] {
        refused(&["embed", "--device", "cpu", "--model", clap.to_str().unwrap(), &sound, "--out", out]);
        refused(&["classify", "--device", "cpu", "--model", &judge, &sound, "--logits", out]);
    }
    refused(&["prompts", "annotate", &prompts, "--offline", "--out", &prompts]);
    refused(&["data", "compare", &path("."), "--heard", &path("."), "--csv", &sound]);
    // The heard file of the same name ends otherwise.
    fs::create_dir(path("flac")).unwrap();
    fs::copy(fixture("sound").join("pcm_16.flac"), path("flac/y.flac")).unwrap();
    refused(&["data", "compare", &path("."), "--heard", &path("flac"), "--csv", &path("flac/y.flac")]);
    // A folder in which a result would be an input.
    let (model, out) = (fixture("musicgen_tiny"), path("out"));
    fs::create_dir(&out).unwrap();
    wav(&path("out/piece_0000.wav"));
    let recording = path("out/piece_0000.wav");
    let generate = ["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--prompt", "a", "--out", &out];
    refused(&[&generate[..], &["--continue-from", &recording]].concat());
    assert_eq!([&sound, &prompts].map(|path| fs::read(path).unwrap()), before);
    // A folder of notes that somebody else has made.
    let nsynth = path("nsynth");
    fs::create_dir(&nsynth).unwrap();
    write_examples(&path("nsynth/examples.json"), 4, false);
    let theirs = fs::read(path("nsynth/examples.json")).unwrap();
    for more in [&[][..], &["--overwrite"]] {
        let render = ["data", "render", "notes", &nsynth, "--programs", "73", "--per-program", "1"];
        says(&failed(&[&render[..], more].concat()), 2, &["holds `examples.json`, which this command has not made"]);
    }
    assert_eq!(fs::read(path("nsynth/examples.json")).unwrap(), theirs);
    // A report is no page over what it shows.
    fs::write(path("out/run.json"), "{\"command\": \"generate\", \"pieces\": []}").unwrap();
    refused(&["report", &out, "--out", &path("out/run.json")]);
}

#[test]
fn what_a_killed_build_of_concepts_left_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_examples(&path("examples.json"), 30, false);
    let args = ["concepts", "build", "--notes", &path("examples.json"), "--out", &path("out")];
    assert!(tonoscope(&args).status.success());
    fs::write(path("out/.tonoscope-half"), b"half").unwrap();
    assert!(tonoscope(&args).status.success());
    assert!(!Path::new(&path("out/.tonoscope-half")).exists());
}

/// A folder whose name is no UTF-8.
#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_no_utf_8_are_written_into_json() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join(std::ffi::OsStr::from_bytes(b"out\xff"));
    let json = |args: &[&str], last: &[&std::ffi::OsStr]| {
        let output = super::command(args).args(last).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    let shown = strange.to_string_lossy().into_owned();
    let told = json(
        &["data", "render", "phrases", "--count", "1", "--seconds", "0.5", "--json", "--out"],
        &[strange.as_os_str()],
    );
    assert_eq!(told["folder"], shown.as_str());
    let notes = folder.path().join(std::ffi::OsStr::from_bytes(b"notes\xff"));
    let told =
        json(&["data", "render", "notes", "--programs", "73", "--per-program", "1", "--json"], &[notes.as_os_str()]);
    assert_eq!(told["folder"], notes.to_string_lossy().as_ref());
    let place = Place::diffusion();
    place.done(
        "diffuse",
        "out",
        &["--prompt", "a", "--samples", "1", "--steps", "2", "--snapshots", "1", "--keep-latents"],
    );
    let generated = folder.path().join(std::ffi::OsStr::from_bytes(b"generated\xff"));
    fs::rename(place.path("out"), &generated).unwrap();
    let clap = fixture("clap_tiny");
    let embed = ["embed-generated", "--device", "cpu", "--clap", clap.to_str().unwrap(), "--json", "--out"];
    let embeddings = folder.path().join("embeddings");
    let told = json(&embed, &[embeddings.as_os_str(), generated.as_os_str()]);
    assert_eq!(told["prompts"], 1);
    let record: Value = serde_json::from_slice(&fs::read(embeddings.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["generated"], generated.to_string_lossy().as_ref());
}
