//! See `holdfast::testing::fuzz::key_order`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::key_order(data));
