//! See `holdfast::testing::fuzz::selectors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::selectors(data));
