//! Everything that is tested from outside the library, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod data_dir;
mod fuzz_corpus;
mod io_errors;
mod isolation;
mod kill;
mod tidy;
mod torn;
