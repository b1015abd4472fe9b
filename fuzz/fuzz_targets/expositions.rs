//! See `holdfast::testing::fuzz::expositions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::expositions(data));
