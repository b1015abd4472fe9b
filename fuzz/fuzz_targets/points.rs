//! See `holdfast::testing::fuzz::points`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::points(data));
