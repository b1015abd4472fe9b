//! See `holdfast::testing::fuzz::durations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::durations(data));
