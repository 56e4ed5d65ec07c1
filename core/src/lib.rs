//! Music models on Burn with hooks: what tonoscope is made of.
//!
//! In reading order: [`hooks`] says what can be looked at and changed; [`models`] are the models, whose every
//! interesting tensor passes a hook; [`checkpoint`] fills them from the files that people have; [`audio`] reads and
//! writes sound. Nothing here names a backend, prints, or reads an environment variable or a clock.

pub mod audio;
pub mod captures;
pub mod checkpoint;
pub mod concepts;
pub mod corpus;
pub mod diffusion;
pub mod hooks;
pub mod interventions;
pub mod lens;
pub mod metrics;
pub mod models;
pub mod musicologist;
pub mod nn;
#[cfg(not(target_arch = "wasm32"))]
pub mod probes;
pub mod readout;
#[cfg(all(feature = "training", not(target_arch = "wasm32")))]
pub mod training;
