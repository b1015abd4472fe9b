//! See `holdfast::testing::fuzz::record_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::record_decode(data));
