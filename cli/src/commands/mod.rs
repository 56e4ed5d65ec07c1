//! One file per command: its arguments, then what it does.

pub(crate) mod classify;
pub(crate) mod concept_args;
pub(crate) mod devices;
pub(crate) mod generate;
pub(crate) mod intervene;
pub(crate) mod lens;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod points;
pub(crate) mod probe_activations;
pub(crate) mod prompts;
pub(crate) mod report;
