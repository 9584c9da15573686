//! Three days of drill time in which all was well, written into Prometheus before it starts. Without them a rule that
//! looks back for days would take the first slow request for three bad days, and one that compares with yesterday would
//! know no yesterday.

use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{file::Load, site::Site};
use super::{shop, traffic_shop};
use crate::support::stack::{ENVIRONMENT, daemon::program};

const SECONDS: u64 = 3 * 24 * 3_600 / super::scale::FACTOR;
/// A rate is as good as one a second.
const STEP: u64 = 2;

/// Recorded series and their value in good times.
fn series(load: Load) -> Vec<(&'static str, f64)> {
    if load == Load::None {
        return Vec::new();
    }
    let requests = 12.5;
    let requests = requests + traffic_shop::requests(load);
    [
        ("job_environment:http_server_requests:rate5m", requests),
        ("job_environment:http_server_errors:rate5m", 0.0),
        ("job_environment:http_server_answered:rate5m", requests),
        ("job_environment:http_server_slow:rate5m", 0.0),
    ]
    .into_iter()
    .chain(shop::past(load))
    .collect()
}

/// Fills the directory of Prometheus' data, which does not run.
pub fn write(site: &Site, data: &Path, load: Load) -> Result<(), String> {
    let series = series(load);
    if series.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut text = String::new();
    for (name, value) in series {
        for at in (now - SECONDS..now).step_by(usize::try_from(STEP).unwrap()) {
            writeln!(text, "{name}{{job=\"keel\",environment=\"{ENVIRONMENT}\"}} {value} {at}").unwrap();
        }
    }
    text.push_str("# EOF\n");
    let file = site.directory.path().join("past.txt");
    std::fs::write(&file, text).unwrap();
    let mut promtool = program("PROMTOOL");
    let ran = promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(data).output().unwrap();
    if ran.status.success() { Ok(()) } else { Err(format!("no past: {}", String::from_utf8_lossy(&ran.stderr))) }
}
