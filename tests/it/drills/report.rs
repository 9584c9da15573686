//! What is said of a drill: a row of the table, or why it failed.

use std::time::Instant;

use super::{
    file::Drill,
    site::{Site, last_lines},
};

/// When what happened.
pub struct Times {
    pub injected: Instant,
    pub arrived: Instant,
    pub named: Instant,
    pub mitigated: Instant,
    pub recovered: Instant,
    pub restarts: usize,
}

pub fn row(drill: &Drill, times: &Times) -> String {
    let seconds = |from: Instant, to: Instant| format!("{:.1}", to.saturating_duration_since(from).as_secs_f64());
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        drill.name.replace('-', ": "),
        drill.severity.as_str(),
        seconds(times.injected, times.arrived),
        seconds(times.arrived, times.named),
        seconds(times.mitigated, times.recovered),
        times.restarts,
    )
}

/// The problem, what fires, what came in, and the last lines of the log.
pub async fn failure(site: &Site, problem: &str, began: Instant) -> String {
    let firing = match site.prometheus.request(reqwest::Method::GET, "/api/v1/alerts", "").send().await {
        Ok(answer) => firing(&answer.text().await.unwrap_or_default()),
        Err(error) => format!("Prometheus does not answer: {error}"),
    };
    let came: Vec<String> = site
        .inbox
        .lock()
        .notices
        .iter()
        .map(|notice| {
            let state = if notice.firing { "firing" } else { "resolved" };
            let at = notice.at.saturating_duration_since(began).as_secs_f64();
            format!("{at:7.1} s {state:8} to {:6} {}", notice.receiver, notice.labels)
        })
        .collect();
    let came = if came.is_empty() { "nothing".to_owned() } else { came.join("\n") };
    format!(
        "{}\n--- alerts at Prometheus\n{firing}\n--- what the receiver got\n{came}\n{}",
        last_lines(problem, 80),
        site.last_log_lines()
    )
}

fn firing(answer: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let line = |alert: &serde_json::Value| format!("{} {} {}", alert["state"], alert["value"], alert["labels"]);
    answer["data"]["alerts"].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}
