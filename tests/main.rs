//! All tests that need more than one package, in one binary: it links once.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
#![expect(clippy::print_stdout, reason = "parity tests say how close they came")]

mod judge;
mod parity;
mod properties;
