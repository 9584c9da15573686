//! The switch that `make bench` measures against: `KEEL_BENCH_OFF=all` or any of `spans,logs,metrics`.
//! Only a build with the cargo feature `bench` has it; in every other one these are `false` at compile
//! time, and the branches are gone.

/// No spans are made.
pub fn spans() -> bool {
    is_off("spans")
}

/// No line is written.
pub fn logs() -> bool {
    is_off("logs")
}

/// Nothing is counted of requests, statements and commands.
pub fn metrics() -> bool {
    is_off("metrics")
}

/// Requests are not observed at all.
pub fn all() -> bool {
    spans() && logs() && metrics()
}

#[cfg(feature = "bench")]
fn is_off(signal: &str) -> bool {
    static OFF: std::sync::LazyLock<[bool; 3]> = std::sync::LazyLock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "no setting of the service")]
        let off = std::env::var("KEEL_BENCH_OFF").unwrap_or_default();
        ["spans", "logs", "metrics"].map(|signal| off.split(',').any(|part| part == signal || part == "all"))
    });
    let [spans, logs, metrics] = *OFF;
    matches!((signal, spans, logs, metrics), ("spans", true, _, _) | ("logs", _, true, _) | ("metrics", _, _, true))
}

#[cfg(not(feature = "bench"))]
const fn is_off(_: &str) -> bool {
    false
}
