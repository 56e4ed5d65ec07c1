//! Experiments that are really killed, at any moment, give what they would have given.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::lens::Place;

const KILLS: usize = 10;
/// Runs that are started at most; reached only if no run ever gets anywhere.
const MOST_RUNS: u64 = 100;

/// Kills `command` at ten moments drawn from the time that a whole run takes, or what is left of one, and starts it again in
/// the same folder each time. What ends before its moment has finished: it is compared with the run that nobody disturbed,
/// and the rest of the kills meets a new folder.
fn survives(place: &Place, name: &str, args: &[&str], seed: u64) {
    let started = Instant::now();
    place.done(name, "whole", args);
    let whole_time = started.elapsed();
    let whole = place.files("whole");
    let all = units(place, "whole");
    assert!(all >= 4, "{all} units are too few to be cut in two");
    let (mut kills, mut folder, mut partial, mut runs) = (0, 0, 0, 0);
    while kills < KILLS {
        runs += 1;
        assert!(runs <= MOST_RUNS, "{kills} kills in {MOST_RUNS} runs");
        let out = format!("killed_{folder}");
        // Of a run whose units are all there, half of the time is more than it takes to make tables and figures.
        let left = 1.0 - 0.5 * units(place, &out) as f64 / all as f64;
        let moment = whole_time.mul_f64(left * uniform(seed, runs));
        if killed_after(moment, place.command(name, &out, args).stdout(Stdio::null())) {
            kills += 1;
            partial += usize::from((1..all).contains(&units(place, &out)));
            leave_half_written(place, &out);
        } else {
            assert_same(&place.files(&out), &whole, &out);
            folder += 1;
        }
    }
    let last = format!("killed_{folder}");
    place.done(name, &last, args);
    assert_same(&place.files(&last), &whole, &last);
    eprintln!(
        "{name}: {whole_time:?}, {kills} kills, {partial} among the units, {folder} folders finished before the last"
    );
    // How many depends on the machine's load; none would mean that nothing was tried.
    assert!(partial >= 1, "{partial} of {kills} kills met a run with some of its units");
}

/// Whether the process was still there to be killed after `moment`; that it did not fail otherwise is made sure of.
fn killed_after(moment: Duration, command: &mut std::process::Command) -> bool {
    let started = Instant::now();
    let mut process: Child = command.stderr(Stdio::null()).spawn().unwrap();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            assert!(status.success(), "a run that goes on from a kill fails: {status}");
            return false;
        }
        let Some(left) = moment.checked_sub(started.elapsed()) else { break };
        std::thread::sleep(left.min(Duration::from_millis(2)));
    }
    process.kill().unwrap();
    // It may have ended of itself in between.
    !process.wait().unwrap().success()
}

fn units(place: &Place, out: &str) -> usize {
    let listed = fs::read_dir(place.path(&format!("{out}/units")));
    let names = listed.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.split('.').next_back() == Some("unit")).count()
}

/// A kill seldom meets a file that is being written: here every folder has one.
fn leave_half_written(place: &Place, out: &str) {
    for folder in ["", "units", "audio", "figures", "means", "pairs", "edits", "latents", "noise", "diff_step_5"] {
        let folder = place.path(&format!("{out}/{folder}"));
        if Path::new(&folder).is_dir() {
            fs::write(Path::new(&folder).join(".tonoscope-half"), b"half").unwrap();
        }
    }
}

#[track_caller]
fn assert_same(got: &[(String, Vec<u8>)], want: &[(String, Vec<u8>)], folder: &str) {
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(got), names(want), "{folder}");
    for ((name, got), (_, want)) in got.iter().zip(want) {
        assert!(got == want, "`{name}` of `{folder}` is another");
    }
}

/// 0 to 1, the same for the same `seed` and `index`: `SplitMix64` of Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014.
fn uniform(seed: u64, index: u64) -> f64 {
    let mut state = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state ^ (state >> 31)) as f64 / u64::MAX as f64
}

#[test]
fn interventions_killed_ten_times_end_as_if_nobody_had() {
    let args =
        ["--concepts", "guitar,jazz", "--all-pairs", "--prompts-per-concept", "6", "--sites", "mlp_out", "--tokens"];
    survives(&Place::new(), "intervene", &[&args[..], &["--save-extremes", "1", "--save-edits"]].concat(), 1);
}

#[test]
fn a_lens_killed_ten_times_reads_as_if_nobody_had() {
    let args = ["--concepts", "guitar,jazz,rock", "--prompts-per-concept", "10", "--tokens", "--per-step"];
    survives(&Place::new(), "lens", &[&args[..], &["--mode", "tuned", "--fit-prompts", "4"]].concat(), 2);
}

#[test]
fn music_killed_ten_times_on_its_way_out_of_the_noise_is_as_if_nobody_had() {
    let mut args = vec!["--samples", "3", "--steps", "12", "--snapshots", "5,11", "--keep-latents", "--keep-noise"];
    let prompts: Vec<String> = (0..40).map(|index| format!("A piece for {index} violins, at 90 BPM.")).collect();
    for prompt in &prompts {
        args.extend(["--prompt", prompt]);
    }
    survives(&Place::diffusion(), "diffuse", &args, 3);
}
