//! One drill: quiet before, the fault, the alert, the runbook's way to the cause and out of it, quiet again.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use regex::RegexBuilder;
use tokio::time::sleep;

use super::{
    blocks::{self, Block},
    file::{Drill, Load, Look, Severity},
    report::{self, Times},
    site::{SOON, Shared, last_lines},
    traffic::{Traffic, Visitors},
};

const A_COMMAND: Duration = Duration::from_secs(60);
const AN_INJECTION: Duration = Duration::from_secs(180);
/// Numbers are a scrape late; a person looks again, too.
const A_LOOK: Duration = Duration::from_secs(15);
/// Watchdog comes every minute: three of them missing raise the alarm of the dead man's switch.
const SILENCE: Duration = Duration::from_secs(3 * 60 / super::scale::FACTOR);
const WATCHDOG: &str = "Watchdog";

pub async fn run(site: &Shared, drill: &Drill, runbook: &Path) -> Result<String, String> {
    let began = Instant::now();
    let ended = steps(site, drill, runbook).await;
    let ended = match ended {
        Ok(row) => site.mend().await.map(|()| row),
        failed => failed,
    };
    match ended {
        Ok(row) => Ok(row),
        Err(problem) => {
            let told = report::failure(site, &problem, began).await;
            // Servers that stay for the next stack.
            let _as_well_as_it_goes = site.mend().await;
            Err(told)
        }
    }
}

async fn steps(site: &Shared, drill: &Drill, runbook: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(runbook).map_err(|error| format!("{}: {error}", runbook.display()))?;
    let blocks = blocks::all(&text);
    for id in drill.blocks() {
        blocks::under(&blocks, id).map_err(|problem| format!("{}: {problem}", runbook.display()))?;
    }
    let _traffic = settle(site, drill.traffic, Duration::from_secs(drill.warm_up)).await?;
    let starts = site.starts();

    let injected = Instant::now();
    let script = format!("source \"$DRILL_LIB\"\n{}", drill.inject);
    let (ran, _left_behind) = site.shell.start("inject", &script, &BTreeMap::new(), AN_INJECTION).await;
    if !ran.succeeded() {
        return Err(format!("inject failed:\n{}", ran.told()));
    }
    let limit = Duration::from_secs(drill.expect.within);
    let wanted = format!("{} ({}) arrives within {} s", drill.alert, drill.severity.as_str(), drill.expect.within);
    let arrived = until(site, drill, injected + limit, &wanted, async || arrived(site, drill).await).await?;
    for look in &drill.diagnose {
        matches(site, &blocks, look, A_LOOK).await?;
    }
    let named = Instant::now();
    for look in &drill.also {
        matches(site, &blocks, look, A_LOOK).await?;
    }

    let mitigated = Instant::now();
    if let Some(id) = &drill.mitigate.block {
        let ran = block(site, &blocks, id, &drill.mitigate.with).await?;
        ran.map_err(|told| format!("the mitigation {id} failed:\n{told}"))?;
    }
    if let Some(heal) = &drill.heal {
        let ran = site.shell.run("heal", &format!("source \"$DRILL_LIB\"\n{heal}"), &BTreeMap::new(), A_COMMAND).await;
        if !ran.succeeded() {
            return Err(format!("heal failed:\n{}", ran.told()));
        }
    }
    let limit = Duration::from_secs(drill.recovered_within);
    matches(site, &blocks, &drill.verify, limit).await?;
    let wanted = format!("{} is resolved within {} s of the mitigation", drill.alert, drill.recovered_within);
    let recovered = until(site, drill, mitigated + limit, &wanted, async || resolved(site, drill).await).await?;

    let restarts = site.starts().iter().zip(&starts).map(|(now, then)| now - then).sum();
    if restarts > 0 && !drill.restarts {
        return Err(format!("instances were started or ended {restarts} times, and `restarts` does not allow it"));
    }
    Ok(report::row(drill, &Times { injected, arrived, named, mitigated, recovered, restarts }))
}

/// A Prometheus that has seen only good days, then this traffic for so long; nothing may fire.
pub async fn settle(site: &Shared, load: Load, warm_up: Duration) -> Result<Traffic, String> {
    let visitors = Visitors { doors: site.floods.doors.clone(), keys: site.keys.clone() };
    ready(site).await?;
    let traffic = Traffic::start(load, visitors).await;
    site.forget(load).await?;
    let began = Instant::now();
    loop {
        sleep(Duration::from_millis(100)).await;
        strangers(site, &[]).map_err(|problem| format!("before the fault: {problem}"))?;
        let heard = site.inbox.lock().heard > began;
        if heard && began.elapsed() >= warm_up {
            return Ok(traffic);
        }
        if began.elapsed() > SOON {
            return Err("before the fault: no Watchdog arrives".to_owned());
        }
    }
}

async fn ready(site: &Shared) -> Result<(), String> {
    let deadline = Instant::now() + SOON;
    for name in super::site::INSTANCES {
        let client = crate::support::client::Client::new(site.answers[name].replace("/live", "/ready"));
        loop {
            let answer = client.request(reqwest::Method::GET, "", "").send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("before the fault: {name} is not ready"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Nothing has come in but what is allowed.
pub fn strangers(site: &Shared, allowed: &[&str]) -> Result<(), String> {
    let inbox = site.inbox.lock();
    match inbox.notices.iter().find(|notice| notice.firing && !allowed.contains(&notice.alert.as_str())) {
        Some(notice) => Err(format!("{} ({}) fires: {}", notice.alert, notice.severity, notice.labels)),
        None => Ok(()),
    }
}

/// Waits for something, while nothing else may come in.
async fn until<T>(
    site: &Shared,
    drill: &Drill,
    deadline: Instant,
    wanted: &str,
    look: impl AsyncFn() -> Option<T>,
) -> Result<T, String> {
    let allowed: Vec<&str> = drill.expect.allow.iter().chain([&drill.alert]).map(String::as_str).collect();
    loop {
        let found = look().await;
        strangers(site, &allowed).map_err(|problem| format!("{problem}\nallowed are {}", allowed.join(", ")))?;
        match found {
            Some(found) => return Ok(found),
            None if Instant::now() > deadline => return Err(format!("expected: {wanted}")),
            None => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn arrived(site: &Shared, drill: &Drill) -> Option<Instant> {
    let inbox = site.inbox.lock();
    if drill.alert == WATCHDOG {
        return (inbox.heard.elapsed() > SILENCE).then(Instant::now);
    }
    let of_drill = inbox
        .notices
        .iter()
        .find(|notice| notice.firing && notice.alert == drill.alert && notice.severity == drill.severity.as_str());
    of_drill.map(|notice| notice.at)
}

/// The receiver of infos is not told of their end: Alertmanager knows.
async fn resolved(site: &Shared, drill: &Drill) -> Option<Instant> {
    if drill.alert == WATCHDOG {
        let heard = site.inbox.lock().heard;
        return (heard.elapsed() < SILENCE / 2).then_some(heard);
    }
    if drill.severity == Severity::Info {
        let path = format!("/api/v2/alerts?filter=alertname={}&filter=severity=info", drill.alert);
        let answer = site.alertmanager.request(reqwest::Method::GET, &path, "").send().await.ok()?;
        let alerts: serde_json::Value = answer.json().await.ok()?;
        return alerts.as_array()?.is_empty().then(Instant::now);
    }
    let inbox = site.inbox.lock();
    let mut last = BTreeMap::new();
    for notice in &inbox.notices {
        if notice.alert == drill.alert && notice.severity == drill.severity.as_str() {
            last.insert(&notice.labels, notice);
        }
    }
    if last.values().any(|notice| notice.firing) {
        return None;
    }
    last.values().map(|notice| notice.at).max()
}

/// Runs a block until its output is right.
async fn matches(site: &Shared, blocks: &[Block], look: &Look, limit: Duration) -> Result<(), String> {
    let expected = filled(&look.expected, &evaluated(site, &look.with).await?);
    let pattern = RegexBuilder::new(&expected).multi_line(true).build().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + limit;
    loop {
        let seen = match block(site, blocks, &look.block, &look.with).await? {
            Ok(output) if pattern.is_match(&output) => return Ok(()),
            Ok(output) | Err(output) => output,
        };
        if Instant::now() > deadline {
            let what = format!("block {} does not say `{expected}` within {limit:?}, but:", look.block);
            return Err(format!("{what}\n{}", last_lines(&seen, 60)));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// What the blocks of a number say, one after the other; inner error: one of them fails.
async fn block(
    site: &Shared,
    blocks: &[Block],
    id: &str,
    with: &BTreeMap<String, String>,
) -> Result<Result<String, String>, String> {
    let values = evaluated(site, with).await?;
    let mut said = String::new();
    for block in blocks::under(blocks, id)? {
        let script = match block.language.as_str() {
            "sql" => sql(block, &values),
            _ => format!("source runbooks/env.sh\n{}", block.text),
        };
        let ran = site.shell.run("block", &script, &values, A_COMMAND).await;
        said.push_str(&ran.told());
        if !ran.succeeded() {
            return Ok(Err(said));
        }
    }
    Ok(Ok(said))
}

/// `${NAME}` in an expectation is the value of `with`, as it is.
fn filled(expected: &str, values: &BTreeMap<String, String>) -> String {
    let filled =
        |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), &regex::escape(value));
    values.iter().fold(expected.to_owned(), filled)
}

/// A person writes the value in the variable's place.
fn sql(block: &Block, values: &BTreeMap<String, String>) -> String {
    let mut text = block.text.clone();
    for (name, value) in values {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    let psql = if block.has("owner") { "$PSQL_OWNER" } else { "$PSQL" };
    format!("source runbooks/env.sh\n{psql} <<'SQL_OF_THE_BLOCK'\n{text}\nSQL_OF_THE_BLOCK\n")
}

/// What a person would have looked up for the placeholders, as bash says it with the functions of `lib.sh`.
async fn evaluated(site: &Shared, with: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for (name, value) in with {
        // What a command says besides its answer is no part of that.
        let errors = "\"$DRILL_DIRECTORY/with.errors\"";
        let look = format!("{{ value=\"{value}\"; }} 2>{errors} || {{ cat {errors}; exit 1; }}");
        let script = format!("source \"$DRILL_LIB\"\n{look}\nprintf '%s' \"$value\"");
        let ran = site.shell.run("with", &script, &BTreeMap::new(), A_COMMAND).await;
        if !ran.succeeded() || ran.output.is_empty() {
            return Err(format!("{name}: \"{value}\" has no value:\n{}", ran.told()));
        }
        values.insert(name.clone(), ran.output);
    }
    Ok(values)
}
