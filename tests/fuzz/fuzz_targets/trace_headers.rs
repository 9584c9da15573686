//! Trace context, baggage and id headers, under libFuzzer; what must hold is in targets/trace_headers.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::trace_headers(data));
