//! What was built: set by the build, shown by `/version`, `service_info` and every log line.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit the binary was built from (`GIT_SHA` at build time; the image build sets it).
pub const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};

/// The cargo features of this binary.
pub fn features() -> Vec<&'static str> {
    let all = [
        ("api-docs", cfg!(feature = "api-docs")),
        ("bench", cfg!(feature = "bench")),
        ("cpu-profile", cfg!(feature = "cpu-profile")),
        ("heap-profile", cfg!(feature = "heap-profile")),
        ("otlp-grpc", cfg!(feature = "otlp-grpc")),
        ("sentry", cfg!(feature = "sentry")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}
