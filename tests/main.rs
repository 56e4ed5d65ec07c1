//! All tests that need more than one package, in one binary: it links once.

mod judge;
mod parity;
mod properties;
