//! Times the work of `tests/reference/bench_musicgen.py` and prints it as that script does, for its `--interleave`.
//!
//! Arguments: the form of the weights (`f32`, `f16`, `int8`, `int4`; default `f32`) and the number of decoder steps.

use std::time::{Duration, Instant};

use tonoscope_backends::{DeviceName, Dtype, Request, WeightFormat};
use tonoscope_tests::workloads::{decode_steps, encodec_decode, musicgen_small, t5_encode};

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn report(id: &str, mut times: Vec<Duration>) {
    times.sort();
    let median = times[times.len() / 2].as_secs_f64();
    println!(r#"{{"id": "{id}", "median_s": {median:.6}, "n": {}}}"#, times.len());
}

fn repeat(runs: usize, work: impl Fn()) -> Vec<Duration> {
    work();
    let timed = |_| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..runs).map(timed).collect()
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn main() {
    let mut args = std::env::args().skip(1);
    let weights: WeightFormat =
        args.next().map_or(WeightFormat::F32, |text| text.parse().expect("f32, f16, int8 or int4"));
    let steps = args.next().map_or(40, |text| text.parse().expect("a number of steps"));
    let request = Request { name: DeviceName::Cpu, dtype: Dtype::F32, weights, ..Request::default() };
    let model = musicgen_small(tonoscope_backends::open(&request).expect("the CPU is always there").placement);
    report("decode_step/batch=1", decode_steps(&model, 1, steps));
    report("decode_step/batch=8", decode_steps(&model, 8, steps));
    report("t5_encode/tokens=30", repeat(7, || t5_encode(&model)));
    report("encodec_decode/seconds=4", repeat(3, || encodec_decode(&model)));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    if let Some(kilobytes) = peak {
        println!(r#"{{"id": "peak_memory", "mb": {:.0}}}"#, kilobytes / 1024.0);
    }
}
