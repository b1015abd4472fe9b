//! See `holdfast::testing::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::config(data));
