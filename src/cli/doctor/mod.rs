//! `keel doctor`: is everything there that the service depends on, and is it as it should be? What is
//! looked at is in `postgres` (judged in `schema` and `server`, its SQL in `store`), `redis` and
//! `endpoints`; here the findings, their bounds and how they are printed. It changes nothing, and it works when nothing else does.

mod endpoints;
mod postgres;
mod redis;
mod schema;
mod server;
mod store;

use std::{
    fmt::{Display, Write as _},
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Failure, block_on, print};
use crate::{
    config::Config,
    platform::{config::Sources, telemetry::build},
};

#[derive(Args)]
pub struct Options {
    /// Processes that will run, to hold their pools against what the server allows
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    replicas: u32,
    /// Seconds that each check may take
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
    Skip,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    /// The way out, where one is needed.
    #[serde(skip_serializing_if = "String::is_empty")]
    mend: String,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), mend: String::new() }
    }

    fn skip(check: &'static str, why: impl Into<String>) -> Self {
        Self { status: Status::Skip, ..Self::ok(check, why) }
    }

    fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Status::Warn, mend: mend.into(), ..Self::ok(check, detail) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(check, detail, mend) }
    }
}

/// What was found, or that there was nothing to find.
fn or_ok(found: Vec<Finding>, check: &'static str, detail: impl Into<String>) -> Vec<Finding> {
    if found.is_empty() { vec![Finding::ok(check, detail)] } else { found }
}

/// What every check keeps to: its time, and silence about secrets.
struct Bounds {
    timeout: Duration,
    secrets: Vec<String>,
}

impl Bounds {
    /// `None`: not in time.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.timeout, work).await.ok()
    }

    /// What a library or a server said, which may quote what it was given. Secrets of less than four
    /// letters are found in every other word, and hide nothing.
    fn quote(&self, said: impl Display) -> String {
        let said = said.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = |text: String, secret: &String| text.replace(secret, "[REDACTED]");
        self.secrets.iter().filter(|secret| secret.len() > 3).fold(said, shown)
    }

    fn seconds(&self) -> String {
        format!("{} s", self.timeout.as_secs())
    }
}

/// Seconds since 1970 by this machine.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What time another machine has, and when it was asked.
#[derive(Clone, Copy, Debug)]
struct Clock {
    asked: f64,
    theirs: f64,
    round_trip: f64,
}

impl Clock {
    fn read(asked: f64, theirs: f64) -> Self {
        Self { asked, theirs, round_trip: now() - asked }
    }

    /// By how much they are ahead, if they read their clock in the middle of the round trip.
    fn skew(&self) -> f64 {
        self.theirs - (self.asked + self.round_trip / 2.0)
    }

    fn finding(&self, check: &'static str, whose: &str) -> Finding {
        let skew = self.skew();
        // What the way there and back may explain is no skew.
        let certain = (skew.abs() - self.round_trip.abs() / 2.0).max(0.0);
        let direction = if skew < 0.0 { "behind" } else { "ahead of" };
        let off = format!("{whose} is {:.1} s {direction} this machine", skew.abs());
        let mend = "synchronise both clocks (chronyc tracking, timedatectl): leases, expiry and the order of events depend on them";
        if certain > 30.0 {
            Finding::fail(check, off, mend)
        } else if certain > 1.0 {
            Finding::warn(check, off, mend)
        } else {
            Finding::ok(check, format!("{:.1} ms off, ± {:.1} ms", skew * 1e3, self.round_trip * 500.0))
        }
    }
}

pub fn doctor(config: &Config, sources: &Sources, options: &Options) -> Result<(), Failure> {
    let bounds = Bounds { timeout: Duration::from_secs(options.timeout), secrets: config.secrets(&sources.variables) };
    let mut found: Vec<Finding> = config
        .warnings(&sources.variables)
        .iter()
        .map(|warning| {
            let (what, mend) = warning.split_once("; ").unwrap_or((warning, ""));
            Finding::warn("configuration", what, mend)
        })
        .collect();
    found = or_ok(found, "configuration", format!("{}, no fault", config.environment.as_str()));
    found.push(Finding::ok("build", format!("{}, features: {}", build::VERSION, build::features().join(" "))));
    let (postgres, redis, otlp, sentry) = block_on(async {
        tokio::join!(
            postgres::check(config, options.replicas, &bounds),
            redis::check(&config.redis, &bounds),
            endpoints::otlp(&sources.variables, &bounds),
            endpoints::sentry(&config.sentry, &bounds),
        )
    })?;
    found.extend([postgres, redis, otlp, sentry].into_iter().flatten());
    let failed = found.iter().filter(|finding| finding.status == Status::Fail).count();
    if options.json {
        let report = json!({"ok": failed == 0, "checks": found});
        print(&(serde_json::to_string_pretty(&report).expect("plain data") + "\n"));
    } else {
        print(&page(&found));
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Message(format!("doctor: {failed} failure(s)"))) }
}

fn page(found: &[Finding]) -> String {
    let mut page = String::new();
    for Finding { check, status, detail, mend } in found {
        let status = match status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
            Status::Skip => "skip",
        };
        let mend = if mend.is_empty() { String::new() } else { format!("  → {mend}") };
        let _ = writeln!(page, "{status:<4} {check:<19} {detail}{mend}");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Clock, Duration, Status};

    #[test]
    fn a_clock_is_judged_by_what_the_round_trip_cannot_explain() {
        let status = |skew: f64, round_trip: f64| {
            Clock { asked: 1000.0, theirs: 1000.0 + round_trip / 2.0 + skew, round_trip }.finding("clock", "it").status
        };
        assert_eq!(status(0.0, 0.001), Status::Ok);
        assert_eq!(status(-0.9, 0.001), Status::Ok);
        assert_eq!(status(1.5, 0.001), Status::Warn);
        assert_eq!(status(-1.5, 0.001), Status::Warn);
        assert_eq!(status(1.5, 2.0), Status::Ok, "it took a second to get there");
        assert_eq!(status(-31.0, 0.001), Status::Fail);
    }

    #[test]
    fn what_others_say_is_quoted_without_secrets_and_on_one_line() {
        let bounds =
            Bounds { timeout: Duration::from_secs(1), secrets: ["", "o", "hunter2"].map(str::to_owned).to_vec() };
        assert_eq!(bounds.quote("no\n  hunter2 here"), "no [REDACTED] here");
    }
}
