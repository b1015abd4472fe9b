//! See `holdfast::testing::fuzz::series_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::series_log(data));
