//! See `holdfast::testing::fuzz::samples`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::samples(data));
