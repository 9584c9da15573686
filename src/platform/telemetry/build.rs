//! What was built: set by the build, shown by `/version`, `service_info` and every log line.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit the binary was built from (`GIT_SHA` at build time; the image build sets it).
pub const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};
