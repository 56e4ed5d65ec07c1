//! tonoscope-tests
