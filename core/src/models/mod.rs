//! The models, each beside its reference. Configurations keep the names of the checkpoint's `config.json`.

pub mod clap;
pub mod encodec;
mod hooked;
pub mod musicgen;
pub mod oobleck;
pub mod passt;
pub mod stable_audio;
pub mod t5;

mod occurrences;

pub use occurrences::occurrences;
