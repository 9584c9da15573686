//! The OpenMetrics encoder, under libFuzzer; what must hold is in targets/openmetrics.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::openmetrics(data));
