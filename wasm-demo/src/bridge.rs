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

fn message(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
