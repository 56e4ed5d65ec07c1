//! What happens once, before everything else.

#![expect(unsafe_code, reason = "the linker's function is not Rust")]

use std::sync::Once;

use wasm_bindgen::prelude::wasm_bindgen;

use crate::bridge;

unsafe extern "C" {
    /// Runs what the crates of the GPU compiler want to have run before `main`. The linker makes it; where nothing calls it,
    /// every function that JavaScript calls is wrapped to run all of it again: some milliseconds for each of the thousands of
    /// calls that a step on the GPU makes.
    fn __wasm_call_ctors();
}

/// To be called once, before anything else.
#[wasm_bindgen]
pub fn start() {
    static CONSTRUCTED: Once = Once::new();
    CONSTRUCTED.call_once(|| {
        // SAFETY: the function has no arguments and no result, and runs this once.
        unsafe { __wasm_call_ctors() };
    });
    bridge::report_panics();
}
