//! Parsers of outside input on mutated files: see `tonoscope_tests::fuzz`. Parsers that the command line and the hub keep
//! to themselves are tested the same way beside their code.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod models;
mod pickles;
mod sound;
mod tensors;
mod texts;

#[global_allocator]
static MEMORY: tonoscope_tests::fuzz::Counting = tonoscope_tests::fuzz::Counting;

/// The file `name` of `tests/fixtures`.
fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

/// A file of the repository.
fn source(name: &str) -> Vec<u8> {
    fixture(&format!("../../{name}"))
}
