//! Number for number what the reference implementations give; the fixtures are theirs.

mod encodec;
