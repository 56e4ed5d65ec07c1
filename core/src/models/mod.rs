//! The models, each beside its reference. Configurations keep the names of the checkpoint's `config.json`.

pub mod encodec;
pub mod musicgen;
pub mod passt;
pub mod t5;
