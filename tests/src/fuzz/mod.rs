//! Bounded, deterministic mutation tests of parsers of outside input.
//!
//! [`check`] feeds a parser with mutated copies of small valid files. An input fails if the parser panics, takes longer
//! than [`SLOW`] and five times a good file, or holds more memory than [`MEMORY`] and 64 bytes for each byte of input. Input `n` of a parser is the
//! same in every run. Environment variables choose the amount:
//!
//! - `TONOSCOPE_FUZZ_INPUTS=1000000`: inputs per parser; unset, 1000 of them, or as many as [`SECONDS`] allow
//! - `TONOSCOPE_FUZZ_SECONDS=600`: longest time per parser
//! - `TONOSCOPE_FUZZ_PARSER=wav`: only this parser
//! - `TONOSCOPE_FUZZ_FIRST=1234`: number of the first input, to reproduce a failure
//!
//! Failing inputs are saved in the folder `tonoscope-fuzz` of the system's temporary files. A test binary that measures
//! memory needs `#[global_allocator] static MEMORY: tonoscope_tests::fuzz::Counting = tonoscope_tests::fuzz::Counting;`

mod memory;
mod mutate;
mod repair;
mod watch;

pub use memory::Counting;
pub use mutate::mutated;
pub use repair::{ogg, safetensors, zip, zip_entry};

use std::{
    any::Any,
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Longest time for one input.
pub const SLOW: Duration = Duration::from_secs(2);
/// Memory that a parser may hold beside 64 bytes for each byte of input.
pub const MEMORY: usize = 256 << 20;
/// Inputs of a parser where their number is not given.
const INPUTS: u64 = 1000;
/// Time for a parser where the number of inputs is not given, in seconds.
pub const SECONDS: f64 = 0.35;
/// Kinds of failures of one parser after which its test ends.
const MOST_FAILURES: usize = 5;
/// Attempts at an input that seems slow: the machine may be busy.
const ATTEMPTS: usize = 3;

/// How much is tested.
struct Amount {
    only: Option<String>,
    first: u64,
    inputs: u64,
    time: Duration,
}

impl Amount {
    fn asked() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("`{name}` is `{text}`, expected a number")))
        };
        let inputs = number("TONOSCOPE_FUZZ_INPUTS");
        let unbounded = Duration::from_secs(u64::from(u32::MAX));
        let time = match number("TONOSCOPE_FUZZ_SECONDS") {
            Some(seconds) => Duration::from_secs(seconds),
            None if inputs.is_some() => unbounded,
            None => Duration::from_secs_f64(SECONDS),
        };
        Self {
            only: std::env::var("TONOSCOPE_FUZZ_PARSER").ok(),
            first: number("TONOSCOPE_FUZZ_FIRST").unwrap_or(0),
            inputs: inputs.unwrap_or(INPUTS),
            time,
        }
    }
}

/// Feeds `parse` with mutated copies of `seeds`; the seeds themselves come first.
///
/// # Panics
/// Names parser, number and saved file of each input that fails.
pub fn check(parser: &'static str, seeds: &[Vec<u8>], parse: impl Fn(&[u8])) {
    check_repaired(parser, seeds, <[u8]>::to_vec, parse);
}

/// As [`check`], but every second input passes through `repair`, which mends lengths and checksums so that mutations
/// reach the parser behind them.
///
/// # Panics
/// As [`check`].
pub fn check_repaired(
    parser: &'static str,
    seeds: &[Vec<u8>],
    repair: impl Fn(&[u8]) -> Vec<u8>,
    parse: impl Fn(&[u8]),
) {
    let amount = Amount::asked();
    if amount.only.as_ref().is_some_and(|only| only != parser) {
        return;
    }
    assert!(!seeds.is_empty(), "`{parser}` has no seeds");
    let watch = watch::Watch::new(parser);
    // A parser that takes long on good files, as in a build without optimisation, may take long on others.
    let seed_time = seeds.iter().map(|seed| timed(&parse, seed)).max().unwrap_or_default();
    let most = SLOW.max(seed_time * 5);
    let started = Instant::now();
    let (mut number, mut failures) = (amount.first, BTreeMap::new());
    let mut slowest = Duration::ZERO;
    let mut largest = 0;
    while number - amount.first < amount.inputs && started.elapsed() < amount.time {
        let mut input = mutated(parser, seeds, number);
        if number % 2 == 1 {
            input = repair(&input);
        }
        watch.begin(number);
        let (time, memory, outcome) = attempt(&parse, &input, most);
        slowest = slowest.max(time);
        largest = largest.max(memory);
        number += 1;
        if let Err(Fault { kind, what }) = outcome {
            let first = number - 1;
            let describe =
                || format!("input {first} ({} bytes, {}): {what}", input.len(), saved(parser, first, &input));
            failures.entry(kind).or_insert_with(describe);
            if failures.len() >= MOST_FAILURES {
                break;
            }
        }
    }
    let inputs = number - amount.first;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "fuzz: {parser}: {inputs} inputs in {seconds:.1} s, slowest {:.0} ms, most memory {:.1} MB, {} failures",
        slowest.as_secs_f64() * 1e3,
        largest as f64 / 1e6,
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "`{parser}` after {inputs} inputs:\n{}",
        failures.into_values().collect::<Vec<_>>().join("\n")
    );
}

/// Time of one input; one that panics is reported when its turn comes.
fn timed(parse: &impl Fn(&[u8]), input: &[u8]) -> Duration {
    let started = Instant::now();
    watch::silence(true);
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(input))));
    watch::silence(false);
    started.elapsed()
}

/// What is wrong with a parser.
struct Fault {
    /// The place of a panic, or which limit was passed; one input of a kind is reported.
    kind: String,
    what: String,
}

/// Time, peak of memory and fault of one input.
fn attempt(parse: &impl Fn(&[u8]), input: &[u8], longest: Duration) -> (Duration, usize, Result<(), Fault>) {
    let mut fastest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let started = Instant::now();
        let before = memory::begin();
        watch::silence(true);
        let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(input)));
        let place = watch::silence(false);
        let memory = memory::end(before);
        fastest = fastest.min(started.elapsed());
        if let Err(panic) = parsed {
            let what = format!("panic: {} {place}", message(panic.as_ref()));
            return (fastest, memory, Err(Fault { kind: place, what }));
        }
        let most = MEMORY + 64 * input.len();
        if memory > most {
            let what = format!("{memory} bytes of memory, expected at most {most}");
            return (fastest, memory, Err(Fault { kind: "memory".to_owned(), what }));
        }
        if fastest <= longest {
            return (fastest, memory, Ok(()));
        }
    }
    let what = format!("{:.1} s, expected at most {:.1} s", fastest.as_secs_f64(), longest.as_secs_f64());
    (fastest, 0, Err(Fault { kind: "time".to_owned(), what }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// Writes an input for a debugger; says where it lies.
fn saved(parser: &str, number: u64, input: &[u8]) -> String {
    let path = folder().join(format!("{parser}-{number}"));
    match std::fs::write(&path, input) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("not saved: {error}"),
    }
}

/// Folder of failing inputs.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join("tonoscope-fuzz");
    // Where it cannot be made, writing into it says so.
    drop(std::fs::create_dir_all(&folder));
    folder
}
