//! tonoscope
