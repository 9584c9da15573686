//! The redactor, under libFuzzer; what must hold is in targets/redactor.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::redactor(data));
