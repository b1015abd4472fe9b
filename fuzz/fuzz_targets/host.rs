//! See `holdfast::testing::fuzz::host`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::host(data));
