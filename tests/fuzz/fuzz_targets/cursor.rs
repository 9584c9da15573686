//! List cursors, under libFuzzer; what must hold is in targets/cursor.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::cursor(data));
