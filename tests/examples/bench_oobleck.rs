//! Times the decoding of latents at the real size of stable-audio-open-1.0, with random weights, and prints one JSON line
//! per tile size, then the peak memory.
//!
//! Arguments: the number of latents (216 are 10 s) and the sizes of tiles; 0 is all at once.

use std::time::Instant;

use tonoscope_backends::{DeviceName, Request};
use tonoscope_tests::workloads::{oobleck_decode, oobleck_open};

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn main() {
    let mut args = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let length: usize = args.next().unwrap_or(216);
    let tiles: Vec<usize> = args.collect();
    let request = Request { name: DeviceName::Cpu, ..Request::default() };
    let model = oobleck_open(tonoscope_backends::open(&request).expect("the CPU is always there").placement);
    oobleck_decode(&model, 2, 0);
    for tile in if tiles.is_empty() { vec![32] } else { tiles } {
        let started = Instant::now();
        oobleck_decode(&model, length, tile);
        let seconds = started.elapsed().as_secs_f64();
        println!(
            r#"{{"id": "oobleck_decode/latents={length}/tile={tile}", "s": {seconds:.3}, "peak_mb": {}}}"#,
            peak()
        );
    }
}

/// Largest resident memory so far, in MiB; 0 where the system does not say.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    line.unwrap_or(0) / 1024
}
