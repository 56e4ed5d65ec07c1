//! One file per command: its arguments, then what it does.

pub(crate) mod classify;
pub(crate) mod concept_args;
pub(crate) mod concepts;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod diffuse;
pub(crate) mod embed;
pub(crate) mod embed_generated;
pub(crate) mod generate;
pub(crate) mod intervene;
pub(crate) mod lens;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod pipeline;
pub(crate) mod points;
pub(crate) mod probe;
pub(crate) mod probe_activations;
pub(crate) mod prompts;
pub(crate) mod report;
pub(crate) mod train;
