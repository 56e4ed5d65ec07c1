//! One file per command: its arguments, then what it does.

pub(crate) mod devices;
pub(crate) mod generate;
pub(crate) mod models;
pub(crate) mod points;
