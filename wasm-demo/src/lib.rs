//! tonoscope in a browser tab. So far it proves that the library links there.

use wasm_bindgen::prelude::wasm_bindgen;

use tonoscope_core::hooks::{HookPoint, Part};

/// Names of the hook points of a decoder of `layers` layers, in the order of the computation.
#[wasm_bindgen]
pub fn decoder_points(layers: usize) -> Vec<String> {
    HookPoint::all(Part::Decoder, layers).iter().map(ToString::to_string).collect()
}
