//! See `holdfast::testing::fuzz::times`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::times(data));
