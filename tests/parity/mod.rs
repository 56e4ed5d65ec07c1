//! Number for number what the reference implementations give; the fixtures are theirs.

mod encodec;
mod inside;
mod musicgen;
mod real_size;
mod t5;
