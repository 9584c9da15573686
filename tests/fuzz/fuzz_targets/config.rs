//! The configuration, under libFuzzer; what must hold is in targets/config.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::config(data));
