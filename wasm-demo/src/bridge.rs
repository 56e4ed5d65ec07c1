//! What the page offers to this package: functions of the global `tonoscopeHost`, which `worker.js` defines.
//!
//! Files stay on the page's side under a number, so that what holds them here may be sent between threads, as the
//! library asks of its sources.

use std::{
    io,
    ops::{ControlFlow, Range},
};

use tonoscope_core::models::musicgen::Progress;
use wasm_bindgen::{
    JsCast,
    prelude::{JsValue, wasm_bindgen},
};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = readFile, catch)]
    fn host_read_file(file: u32, start: f64, end: f64) -> Result<Vec<u8>, JsValue>;

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = step)]
    fn host_step(done: f64, total: f64) -> bool;

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = stage)]
    fn host_stage(name: &str);

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = panicked)]
    fn host_panicked(message: &str);

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = full)]
    fn host_full(bytes: f64);

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = sound)]
    fn host_sound(channels: Vec<JsValue>, from: f64, rate: u32);

    #[wasm_bindgen(js_namespace = tonoscopeHost, js_name = heat)]
    fn host_heat(column: Vec<f32>);
}

/// Reads bytes of the file that the page keeps under `file`.
pub(crate) fn read_file(file: u32, range: Range<u64>) -> io::Result<Vec<u8>> {
    // Files are smaller than 2⁵³ bytes.
    host_read_file(file, range.start as f64, range.end as f64).map_err(|error| io::Error::other(message(&error)))
}

/// Tells the page how far the stage is, and asks whether to go on.
pub(crate) fn step(done: usize, total: usize) -> ControlFlow<()> {
    if host_step(done as f64, total as f64) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// As [`step`], in the form that the library calls.
pub(crate) fn watch(progress: Progress) -> ControlFlow<()> {
    step(progress.done, progress.total)
}

/// Tells the page what begins.
pub(crate) fn stage(name: &str) {
    host_stage(name);
}

/// Tells the page about every panic, after which this package must not be used any more.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| host_panicked(&panic.to_string())));
}

/// Hands the last `fresh` samples of each channel to the page, which may play them.
pub(crate) fn sound(channels: &[Vec<f32>], fresh: usize, rate: u32) {
    let from = channels.first().map_or(0, |channel| channel.len() - fresh);
    let channels = channels.iter().map(|channel| js_sys::Float32Array::from(&channel[from..]).into()).collect();
    host_sound(channels, from as f64, rate);
}

/// Hands the page what a step adds to the heat map, by number and row.
pub(crate) fn heat(column: &[f32]) {
    host_heat(column.to_vec());
}

/// Tells the page that there is no memory for `bytes` more.
pub(crate) fn full(bytes: usize) {
    host_full(bytes as f64);
}

fn message(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}

/// What this worker and those that help it say to each other: functions of the global `tonoscopeLine`, which `line.js` defines.
/// Both sides wait where they have to.
pub(crate) mod line {
    use wasm_bindgen::prelude::wasm_bindgen;

    #[wasm_bindgen]
    extern "C" {
        /// How many values fit.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn capacity() -> u32;

        /// Tells a member to do something, once it has done what it was told before.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn tell(member: u32, command: u32, numbers: &[u32], values: &[f32]);

        /// The values that a member has given, once it has done what it was told.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn answer(member: u32, values: &mut [f32]);

        /// A member's next command.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn next() -> u32;

        /// How many numbers come with it.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn count() -> u32;

        /// The first of them.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn numbers(numbers: &mut [u32]);

        /// The first of its values.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn take(values: &mut [f32]);

        /// Leaves values to be fetched.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn give(values: &[f32]);

        /// The command is carried out.
        #[wasm_bindgen(js_namespace = tonoscopeLine)]
        pub(crate) fn done();
    }
}
