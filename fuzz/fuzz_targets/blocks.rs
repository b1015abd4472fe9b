//! See `holdfast::testing::fuzz::blocks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::blocks(data));
