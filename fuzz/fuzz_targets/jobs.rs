//! See `holdfast::testing::fuzz::jobs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::jobs(data));
