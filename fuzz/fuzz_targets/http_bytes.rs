//! See `holdfast::testing::fuzz::http_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::testing::fuzz::http_bytes(data));
