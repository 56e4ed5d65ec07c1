//! tonoscope-wasm
