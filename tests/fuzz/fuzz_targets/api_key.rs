//! The API key parser, under libFuzzer; what must hold is in targets/api_key.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::api_key(data));
