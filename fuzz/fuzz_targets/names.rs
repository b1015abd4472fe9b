//! See `holdfast::testing::fuzz::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::names(data));
