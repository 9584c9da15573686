//! JSON log lines, under libFuzzer; what must hold is in targets/log_line.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::log_line(data));
