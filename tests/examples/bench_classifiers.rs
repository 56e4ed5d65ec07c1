//! Times classifiers as `tests/reference/bench_classifiers.py` does, for its `--interleave`, on the rows that it has written.
//!
//! Arguments: a folder with `rows.f32` (row-major) and `shape.json` (`[rows, features]`); rows with even numbers are
//! positive. Prints seconds on the wall and of all cores, and writes what was decided beside the rows.

use std::{path::Path, time::Instant};

use tonoscope_core::probes::{Features, LogisticRegression, Pca, SupportVectorMachine, SvmSettings};

/// Seconds of all threads since the process began.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Without the state, which is no number, user and system time are the 11th and 12th, in hundredths.
    fields.get(10..12).map_or(f64::NAN, |times| times.iter().sum::<f64>() / 100.0)
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn timed<T>(id: &str, work: impl FnOnce() -> T) -> T {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let result = work();
    println!(
        r#"{{"id": "{id}", "median_s": {:.4}, "cpu_s": {:.2}}}"#,
        started.elapsed().as_secs_f64(),
        cpu_seconds() - cpu
    );
    result
}

fn write(folder: &Path, name: &str, decision: &[f64]) {
    let bytes: Vec<u8> = decision.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join(name), bytes).expect("a folder to write to");
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder as bench_classifiers.py writes it");
    let folder = Path::new(&folder);
    let bytes = std::fs::read(folder.join("rows.f32")).expect("rows.f32");
    let shape = std::fs::read_to_string(folder.join("shape.json")).expect("shape.json");
    let shape: [usize; 2] = serde_json::from_str(&shape).expect("two numbers");
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let [rows, width] = shape;
    let positive: Vec<bool> = (0..rows).map(|row| row % 2 == 0).collect();
    let all = Features::new(&values, width);
    let fitted = timed(&format!("logistic/{rows}x{width}"), || {
        LogisticRegression::fit(all, &positive, 1.0).expect("two classes")
    });
    write(folder, "logistic.f64", &fitted.decision(all));
    write(folder, "weights.f64", &fitted.weights);
    let fewer = 5000.min(rows);
    let some = Features::new(&values[..fewer * width], width);
    let machine = timed(&format!("svm/{fewer}x{width}"), || {
        SupportVectorMachine::fit(some, &positive[..fewer], &SvmSettings::default()).expect("two classes")
    });
    let decision = timed(&format!("svm_decision/{fewer}x{width}"), || machine.decision(some));
    write(folder, "svm.f64", &decision);
    timed(&format!("pca/{rows}x{width}"), || Pca::fit(all, 2).expect("two components"));
}
