//! tonoscope-backends
